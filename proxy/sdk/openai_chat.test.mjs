// The openai client: chat completions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createGzip, constants } from 'node:zlib';
import OpenAI from 'openai';
import {
  bytes,
  chatEvents,
  chatUsage,
  chunk,
  collect,
  completion,
  data,
  done,
  json,
  key,
  never,
  pieces,
  script,
  sentence,
  stream,
  text,
  upstreamKeys,
  url,
  usageChunk,
  wait,
  words,
} from './relay.mjs';

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const ask = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Grüße 🌍' }] };

test('a completion comes as the provider wrote it', async () => {
  const s = await script(
    json(completion(sentence), {
      headers: { 'x-request-id': 'theirs', 'openai-organization': 'org', 'x-ratelimit-limit-requests': '9' },
    }),
  );
  const { data: got, response } = await client.chat.completions.create(ask, { headers: s.headers }).withResponse();
  assert.deepEqual({ ...got }, completion(sentence));
  assert.equal(got._request_id, s.id);
  assert.equal(response.headers.get('x-upstream-request-id'), 'theirs');
  assert.equal(response.headers.get('openai-organization'), null);
  assert.equal(response.headers.get('x-ratelimit-limit-requests'), null);
  const r = await s.record();
  assert.deepEqual(
    [r.end, r.status, r.input, r.output, r.cached, r.attempts, r.tenant],
    ['completed', 200, 11, 7, 3, 1, 'red'],
  );
});

test('the request arrives as the client wrote it, under the relay’s credential', async () => {
  const s = await script(json(completion('ok')));
  await client.chat.completions.create(ask, {
    headers: { ...s.headers, 'x-tenant-id': 'blue', cookie: 'a=b' },
    query: { 'api-version': '1;2' },
  });
  const c = await s.call();
  assert.equal(c.uri, '/v1/chat/completions?api-version=1%3B2');
  assert.deepEqual(JSON.parse(c.text), ask);
  assert.equal(c.headers.authorization, `Bearer ${upstreamKeys.openai}`);
  assert.match(c.headers['user-agent'], /^OpenAI\/JS \d/);
  assert.equal(c.headers['x-stainless-lang'], 'js');
  assert.equal(c.headers['x-stainless-retry-count'], '0');
  assert.equal(c.headers['accept-encoding'], 'identity');
  assert.equal(c.headers['x-tenant-id'], undefined);
  assert.equal(c.headers.cookie, undefined);
  assert.ok(!JSON.stringify(c).includes(key), 'the client’s key stays here');
  assert.equal((await s.record()).tenant, 'blue');
});

test('a request has an id also where the client gives none, or one that is not fit for a log', async () => {
  const s = await script(json(completion('ok')));
  const ids = [];
  for (const more of [{}, { 'x-request-id': 'a b"c' }, { 'x-request-id': 'x'.repeat(129) }]) {
    ids.push((await client.chat.completions.create(ask, { headers: { 'x-script': s.id, ...more } }))._request_id);
  }
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/);
  assert.equal(new Set(ids).size, 3);
});

test('a stream carries the content, and no usage that was not asked for', async () => {
  const s = await script(stream([...chatEvents(), data(usageChunk), done]));
  const { events, error } = await collect(
    await client.chat.completions.create({ ...ask, stream: true }, { headers: s.headers }),
  );
  assert.equal(error, undefined);
  assert.equal(text(events), sentence);
  assert.equal(events.length, words.length + 2);
  assert.ok(events.every((e) => e.choices.length === 1 && !e.usage));
  const c = await s.call();
  assert.deepEqual(JSON.parse(c.text), { ...ask, stream: true, stream_options: { include_usage: true } });
  const r = await s.record();
  assert.deepEqual(
    [r.end, r.input, r.output, r.cached, r.stream, r.contentEvents],
    ['completed', 11, 7, 3, true, words.length],
  );
});

test('a stream carries the usage that was asked for', async () => {
  const s = await script(stream([...chatEvents(), data(usageChunk), done]));
  const { events } = await collect(
    await client.chat.completions.create(
      { ...ask, stream: true, stream_options: { include_usage: true } },
      { headers: s.headers },
    ),
  );
  assert.equal(text(events), sentence);
  assert.deepEqual(events.at(-1), usageChunk);
  assert.equal((await s.record()).output, 7);
});

test('other stream options stay beside the one that the relay adds', async () => {
  const s = await script(stream([...chatEvents(), data(usageChunk), done]));
  const { events } = await collect(
    await client.chat.completions.create(
      { ...ask, stream: true, stream_options: { include_obfuscation: false } },
      { headers: s.headers },
    ),
  );
  assert.ok(events.every((e) => !e.usage));
  assert.deepEqual(JSON.parse((await s.call()).text).stream_options, {
    include_obfuscation: false,
    include_usage: true,
  });
});

test('usage beside content in every chunk is relayed, and the last one counts', async () => {
  const running = words.map((w, i) =>
    data(chunk({ content: w }, null, { usage: { ...chatUsage, completion_tokens: i + 1 } })),
  );
  const s = await script(stream([...running, data(usageChunk), done]));
  const { events } = await collect(
    await client.chat.completions.create({ ...ask, stream: true }, { headers: s.headers }),
  );
  assert.equal(text(events), sentence);
  assert.equal(events.length, words.length);
  assert.deepEqual([(await s.record()).input, (await s.record()).output], [11, 7]);
});

for (const n of [1, 7, 4096]) {
  test(`a stream in writes of ${n} bytes, with every line end and comments`, async () => {
    const raw = [
      ': waiting\n\n',
      ...chatEvents().map((e, i) =>
        i % 3 === 1 ? e.replaceAll('\n', '\r\n') : i % 3 === 2 ? e.replaceAll('\n', '\r') : e,
      ),
      ': OPENROUTER PROCESSING\r\n\r\n',
      done,
    ].join('');
    const s = await script(stream(pieces(raw, n)));
    const { events, error } = await collect(
      await client.chat.completions.create({ ...ask, stream: true }, { headers: s.headers }),
    );
    assert.equal(error, undefined);
    assert.equal(text(events), sentence);
    const r = await s.record();
    assert.deepEqual([r.end, r.input, r.contentEvents], ['completed', -1, words.length]);
  });
}

test('an event leaves when it comes: the next one is sent only after the client has it', async () => {
  const all = chatEvents();
  const s = await script(stream([...all.flatMap((e) => [e, wait]), done]));
  let got = '';
  for await (const e of await client.chat.completions.create({ ...ask, stream: true }, { headers: s.headers })) {
    got += text([e]);
    await s.release();
  }
  assert.equal(got, sentence);
  assert.equal((await s.record()).end, 'completed');
});

test('a stream that the provider compresses is decoded event by event, and counted', async () => {
  const zip = createGzip();
  const steps = [];
  for (const e of [...chatEvents(), data(usageChunk)]) {
    zip.write(e);
    await new Promise((flushed) => zip.flush(constants.Z_SYNC_FLUSH, flushed));
    steps.push(bytes(zip.read()), wait);
  }
  zip.end(done);
  for await (const rest of zip) steps.push(bytes(rest));
  const s = await script(stream(steps, { headers: { 'content-encoding': 'gzip' } }));
  let got = '';
  const asked = { ...ask, stream: true, stream_options: { include_usage: true } };
  for await (const e of await client.chat.completions.create(asked, { headers: s.headers })) {
    got += text([e]);
    await s.release();
  }
  assert.equal(got, sentence);
  const r = await s.record();
  assert.deepEqual([r.end, r.input, r.output], ['completed', 11, 7]);
});

test('tool calls: the arguments come in their pieces and are joined', async () => {
  const args = JSON.stringify({ city: 'Zürich "HB"', path: 'C:\\x', list: Array.from({ length: 4000 }, (_, i) => i) });
  const tool = (more) => ({ tool_calls: [{ index: 0, ...more }] });
  const parts = args.match(/[^]{1,997}/gu);
  const s = await script(
    stream([
      data(chunk({ role: 'assistant', content: null })),
      data(chunk(tool({ id: 'call_1', type: 'function', function: { name: 'find', arguments: '' } }))),
      ...parts.map((p) => data(chunk(tool({ function: { arguments: p } })))),
      data(chunk({}, 'tool_calls')),
      data(usageChunk),
      done,
    ]),
  );
  const tools = [{ type: 'function', function: { name: 'find', parameters: { type: 'object', properties: {} } } }];
  const got = await client.chat.completions.stream({ ...ask, tools }, { headers: s.headers }).finalChatCompletion();
  const [call] = got.choices[0].message.tool_calls;
  assert.deepEqual([call.id, call.function.name, call.function.arguments], ['call_1', 'find', args]);
  assert.deepEqual(JSON.parse((await s.call()).text).tools, tools);
  const r = await s.record();
  assert.deepEqual([r.end, r.output], ['completed', 7]);
  assert.ok(r.contentEvents >= parts.length);
});

test('a client that leaves after [DONE] has had it all', async () => {
  // This client closes the connection as soon as it has read [DONE].
  const s = await script(stream([...chatEvents(), data(usageChunk), done], { end: 'hold' }));
  const { events, error } = await collect(
    await client.chat.completions.create({ ...ask, stream: true }, { headers: s.headers }),
  );
  assert.equal(error, undefined);
  assert.equal(text(events), sentence);
  await s.closed();
  const r = await s.record();
  assert.deepEqual([r.end, r.status, r.input, r.output], ['completed', 200, 11, 7]);
});

const aborted = (options) =>
  new Promise((resolve) => {
    options.signal.addEventListener('abort', resolve, { once: true });
  });

for (const streamed of [false, true]) {
  test(`abort before the first byte, stream: ${streamed}`, async () => {
    const s = await script(never);
    const abort = new AbortController();
    const options = { headers: s.headers, signal: abort.signal };
    const left = aborted(options);
    const asked = assert.rejects(
      client.chat.completions.create({ ...ask, stream: streamed }, options),
      OpenAI.APIUserAbortError,
    );
    await s.call();
    abort.abort();
    await Promise.all([left, asked]);
    await s.closed();
    const r = await s.record();
    assert.deepEqual([r.end, r.status, r.input, r.output], ['client_gone', 499, -1, -1]);
    await s.call();
  });
}

for (const how of ['abort', 'break']) {
  test(`${how} in the middle of a stream closes the provider’s connection`, async () => {
    const s = await script(stream(chatEvents().slice(0, 4), { end: 'hold' }));
    const answer = await client.chat.completions.create({ ...ask, stream: true }, { headers: s.headers });
    let got = 0;
    for await (const _ of answer) {
      if (++got < 4) continue;
      if (how === 'break') break;
      answer.controller.abort();
    }
    assert.equal(got, 4);
    await s.closed();
    const r = await s.record();
    assert.deepEqual([r.end, r.status, r.input, r.output, r.contentEvents], ['client_gone', 200, -1, -1, 3]);
  });
}

test('a hundred exchanges at once, each with its own answer', async () => {
  await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const said = [`${i}`, ':', `${i * i}`];
      const s = await script(i % 2 ? stream([...chatEvents(said), done]) : json(completion(said.join(''))));
      const got =
        i % 2
          ? text(
              (await collect(await client.chat.completions.create({ ...ask, stream: true }, { headers: s.headers })))
                .events,
            )
          : (await client.chat.completions.create(ask, { headers: s.headers })).choices[0].message.content;
      assert.equal(got, said.join(''));
      assert.equal((await s.record()).end, 'completed');
    }),
  );
});
