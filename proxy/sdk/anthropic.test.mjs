// The @anthropic-ai/sdk client: what goes well.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import Anthropic, { toFile } from '@anthropic-ai/sdk';
import { ask, message, start, delta, stop, block, textEvents, seen, text } from './anthropic.mjs';
import {
  bytes,
  collect,
  event,
  json,
  key,
  never,
  pieces,
  script,
  sentence,
  stream,
  upstreamKeys,
  url,
  wait,
  words,
} from './relay.mjs';

const client = new Anthropic({ baseURL: url, apiKey: key });
const create = (body, s, options = {}) =>
  client.messages.create({ ...ask, ...body }, { headers: s.headers, ...options });

test('a message comes as the provider wrote it', async () => {
  const want = message([{ type: 'text', text: sentence }]);
  const s = await script(
    json(want, {
      headers: {
        'request-id': 'req_theirs',
        'anthropic-ratelimit-requests-remaining': '9',
        'anthropic-organization-id': 'x',
      },
    }),
  );
  const { data, response } = await create({}, s).withResponse();
  assert.deepEqual({ ...data }, want);
  assert.equal(data._request_id, 'req_theirs');
  assert.equal(response.headers.get('x-request-id'), s.id);
  assert.equal(response.headers.get('anthropic-ratelimit-requests-remaining'), null);
  const r = await s.record();
  assert.deepEqual(
    [r.endpoint, r.end, r.status, r.input, r.output, r.attempts],
    ['messages', 'completed', 200, 20, 9, 1],
  );
});

for (const [how, options] of Object.entries({
  'x-api-key': { apiKey: key },
  bearer: { apiKey: null, authToken: key },
})) {
  test(`the key as ${how}: the request arrives as the client wrote it, under the relay’s credential`, async () => {
    const s = await script(json(message([])));
    const other = new Anthropic({ baseURL: url, ...options });
    await other.beta.messages.create(
      { ...ask, betas: ['context-1m-2025-08-07'] },
      { headers: s.headers, query: { beta: true } },
    );
    const c = await s.call();
    assert.equal(c.uri, '/v1/messages?beta=true');
    assert.deepEqual(JSON.parse(c.text), ask);
    assert.equal(c.headers['x-api-key'], upstreamKeys.anthropic);
    assert.equal(c.headers.authorization, undefined);
    assert.match(c.headers['anthropic-version'], /^\d{4}-\d\d-\d\d$/);
    assert.match(c.headers['anthropic-beta'], /context-1m/);
    assert.match(c.headers['user-agent'], /Anthropic\/JS \d/);
    assert.equal(c.headers['x-stainless-lang'], 'js');
    assert.ok(!JSON.stringify(c).includes(key), 'the client’s key stays here');
  });
}

for (const n of [1, 13, 1 << 16]) {
  test(`a stream in writes of ${n} bytes`, async () => {
    const sent = textEvents();
    const s = await script(stream(pieces(sent.map(event).join(''), n)));
    const { events, error } = await collect(await create({ stream: true }, s));
    assert.equal(error, undefined);
    assert.deepEqual(events, seen(sent));
    assert.deepEqual(JSON.parse((await s.call()).text), { ...ask, stream: true });
    const r = await s.record();
    assert.deepEqual(
      [r.end, r.input, r.output, r.contentEvents],
      ['completed', 20, 9, words.length],
      'usage is the last word, not the sum',
    );
  });
}

test('an event leaves when it comes: the next one is sent only after the client has it', async () => {
  const s = await script(stream(textEvents().flatMap((e) => (e.type === 'ping' ? [event(e)] : [event(e), wait]))));
  const got = [];
  for await (const e of await create({ stream: true }, s)) {
    got.push(e);
    await s.release();
  }
  assert.deepEqual(got, seen(textEvents()));
});

test('thinking and tool input come in their pieces and are joined', async () => {
  const input = { path: 'C:\\x', text: 'Zürich "HB"', list: Array.from({ length: 3000 }, (_, i) => i) };
  const s = await script(
    stream(
      [
        start,
        block({ type: 'thinking', thinking: '', signature: '' }),
        ...words.map((t) => delta({ type: 'thinking_delta', thinking: t })),
        delta({ type: 'signature_delta', signature: 'c2ln' }),
        stop[0],
        ...[
          block({ type: 'tool_use', id: 'toolu_1', name: 'edit', input: {} }),
          ...JSON.stringify(input)
            .match(/[^]{1,701}/gu)
            .map((p) => delta({ type: 'input_json_delta', partial_json: p })),
          stop[0],
        ].map((e) => ({ ...e, index: 1 })),
        ...stop.slice(1),
      ].map(event),
    ),
  );
  const got = await client.messages.stream(ask, { headers: s.headers }).finalMessage();
  assert.equal(got.content[0].thinking, sentence);
  assert.deepEqual(got.content[1].input, input);
  assert.deepEqual([got.usage.input_tokens, got.usage.output_tokens], [20, 9]);
  assert.equal((await s.record()).output, 9);
});

test('count_tokens, models and files go to the provider of the dialect', async () => {
  const content = randomBytes(500_000);
  const s = await script(
    json({ input_tokens: 42 }),
    json({
      data: [{ id: 'claude-a', type: 'model', display_name: 'A', created_at: '2025-01-01T00:00:00Z' }],
      has_more: false,
      first_id: null,
      last_id: null,
    }),
    json({
      id: 'file_1',
      type: 'file',
      filename: 'a.bin',
      mime_type: 'application/octet-stream',
      size_bytes: content.length,
      created_at: '2025-01-01T00:00:00Z',
    }),
  );
  assert.equal(
    (await client.messages.countTokens({ model: ask.model, messages: ask.messages }, { headers: s.headers }))
      .input_tokens,
    42,
  );
  assert.deepEqual(
    (await collect(await client.models.list({}, { headers: s.headers }))).events.map((m) => m.id),
    ['claude-a'],
  );
  assert.equal(
    (await client.beta.files.upload({ file: await toFile(content, 'a.bin') }, { headers: s.headers })).id,
    'file_1',
  );
  const calls = await s.calls(3);
  assert.deepEqual(
    calls.map((c) => c.uri.replace(/\?.*/, '')),
    ['/v1/messages/count_tokens', '/v1/models', '/v1/files'],
  );
  assert.ok(calls.every((c) => c.headers['x-api-key'] === upstreamKeys.anthropic));
  assert.equal(calls[2].form.file.sha256, createHash('sha256').update(content).digest('hex'));
});

for (const streamed of [false, true]) {
  test(`abort before the first byte, stream: ${streamed}`, async () => {
    const s = await script(never);
    const abort = new AbortController();
    const asked = assert.rejects(
      create({ stream: streamed }, s, { signal: abort.signal }),
      Anthropic.APIUserAbortError,
    );
    await s.call();
    abort.abort();
    await asked;
    await s.closed();
    const r = await s.record();
    assert.deepEqual([r.end, r.status, r.input, r.output], ['client_gone', 499, -1, -1]);
  });
}

test('break in the middle of a stream closes the provider’s connection; what usage was seen is kept', async () => {
  const s = await script(stream(textEvents().slice(0, 5).map(event), { end: 'hold' }));
  let got = 0;
  for await (const _ of await create({ stream: true }, s)) if (++got === 4) break;
  await s.closed();
  const r = await s.record();
  assert.deepEqual([r.end, r.status, r.input, r.contentEvents], ['client_gone', 200, 20, 2]);
});

test('a client that leaves after message_stop has had it all', async () => {
  const s = await script(stream(textEvents().map(event), { end: 'hold' }));
  const got = [];
  for await (const e of await create({ stream: true }, s)) {
    got.push(e);
    if (e.type === 'message_stop') break;
  }
  assert.equal(text(got), sentence);
  await s.closed();
  const r = await s.record();
  assert.deepEqual([r.end, r.input, r.output], ['completed', 20, 9]);
});
