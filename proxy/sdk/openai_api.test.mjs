// The openai client: everything but chat completions.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import {
  bytes,
  collect,
  data,
  done,
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
  words,
} from './relay.mjs';

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const sha256 = (b) => createHash('sha256').update(b).digest('hex');
const binary = (steps, type, more = {}) => ({ status: 200, headers: { 'content-type': type }, steps, ...more });

const response = (status, output, usage = null) => ({
  id: 'resp_1',
  object: 'response',
  created_at: 1,
  status,
  error: null,
  incomplete_details: null,
  model: 'gpt-4o-mini',
  instructions: 'x'.repeat(70_000),
  output,
  parallel_tool_calls: true,
  tools: [],
  metadata: {},
  usage,
});
const message = (content) => ({
  type: 'message',
  id: 'msg_1',
  status: 'completed',
  role: 'assistant',
  content: [{ type: 'output_text', text: content, annotations: [] }],
});
const responseUsage = {
  input_tokens: 21,
  input_tokens_details: { cached_tokens: 4 },
  output_tokens: 9,
  output_tokens_details: { reasoning_tokens: 2 },
  total_tokens: 30,
};
const responseEvents = () =>
  [
    { type: 'response.created', response: response('in_progress', []) },
    {
      type: 'response.output_item.added',
      output_index: 0,
      item: { ...message(''), status: 'in_progress', content: [] },
    },
    {
      type: 'response.content_part.added',
      item_id: 'msg_1',
      output_index: 0,
      content_index: 0,
      part: { type: 'output_text', text: '', annotations: [] },
    },
    ...words.map((delta) => ({
      type: 'response.output_text.delta',
      item_id: 'msg_1',
      output_index: 0,
      content_index: 0,
      delta,
      logprobs: [],
    })),
    {
      type: 'response.output_text.done',
      item_id: 'msg_1',
      output_index: 0,
      content_index: 0,
      text: sentence,
      logprobs: [],
    },
    { type: 'response.output_item.done', output_index: 0, item: message(sentence) },
    { type: 'response.completed', response: response('completed', [message(sentence)], responseUsage) },
  ].map((e, i) => ({ ...e, sequence_number: i }));
const ask = { model: 'gpt-4o-mini', input: 'Grüße' };

test('responses: an answer in one piece', async () => {
  const s = await script(json(response('completed', [message(sentence)], responseUsage)));
  const got = await client.responses.create(ask, { headers: s.headers });
  assert.equal(got.output_text, sentence);
  assert.equal(got._request_id, s.id);
  const r = await s.record();
  assert.deepEqual([r.endpoint, r.end, r.input, r.output, r.cached], ['responses', 'completed', 21, 9, 4]);
});

for (const n of [11, 1 << 20]) {
  test(`responses: a stream in writes of ${n} bytes`, async () => {
    const sent = responseEvents();
    const s = await script(stream(pieces(sent.map(event).join(''), n * 97)));
    const { events, error } = await collect(
      await client.responses.create({ ...ask, stream: true }, { headers: s.headers }),
    );
    assert.equal(error, undefined);
    assert.deepEqual(events, sent);
    assert.deepEqual(
      JSON.parse((await s.call()).text),
      { ...ask, stream: true },
      'nothing is added: usage comes without asking',
    );
    const r = await s.record();
    assert.deepEqual([r.end, r.input, r.output, r.contentEvents], ['completed', 21, 9, words.length]);
  });
}

test('responses: the client’s own accumulation reaches the final response', async () => {
  const s = await script(stream(responseEvents().map(event)));
  const got = await client.responses.stream(ask, { headers: s.headers }).finalResponse();
  assert.equal(got.output_text, sentence);
  assert.deepEqual(got.usage, responseUsage);
});

test('responses: a failed response is the provider’s answer, not a broken stream', async () => {
  const failed = { ...response('failed', []), error: { code: 'server_error', message: 'no luck' } };
  const sent = [responseEvents()[0], { type: 'response.failed', response: failed, sequence_number: 1 }];
  const s = await script(stream(sent.map(event)));
  const { events, error } = await collect(
    await client.responses.create({ ...ask, stream: true }, { headers: s.headers }),
  );
  assert.equal(error, undefined);
  assert.deepEqual(events, sent);
});

test('responses: retrieving and cancelling keep method, path and query', async () => {
  const s = await script(json(response('completed', [message('a')], responseUsage)), json(response('cancelled', [])));
  await client.responses.retrieve('resp_1', { include: ['file_search_call.results'] }, { headers: s.headers });
  await client.responses.cancel('resp_1', { headers: s.headers });
  const [first, second] = await s.calls(2);
  assert.equal(first.method, 'GET');
  assert.match(first.uri, /^\/v1\/responses\/resp_1\?include/);
  assert.deepEqual([second.method, second.uri], ['POST', '/v1/responses/resp_1/cancel']);
});

test('completions: the old endpoint streams, too', async () => {
  const part = (t) =>
    data({
      id: 'cmpl-1',
      object: 'text_completion',
      created: 1,
      model: 'gpt-3.5-turbo-instruct',
      choices: [{ index: 0, text: t, logprobs: null, finish_reason: null }],
    });
  const s = await script(stream([...words.map(part), done]));
  const { events } = await collect(
    await client.completions.create(
      { model: 'gpt-3.5-turbo-instruct', prompt: 'a', stream: true },
      { headers: s.headers },
    ),
  );
  assert.equal(events.map((e) => e.choices[0].text).join(''), sentence);
  assert.equal((await s.record()).endpoint, 'completions');
});

test('embeddings come as base64 and are decoded by the client', async () => {
  const vector = Float32Array.from({ length: 1536 }, (_, i) => Math.fround(Math.sin(i)));
  const s = await script(
    json({
      object: 'list',
      model: 'text-embedding-3-small',
      usage: { prompt_tokens: 5, total_tokens: 5 },
      data: [{ object: 'embedding', index: 0, embedding: Buffer.from(vector.buffer).toString('base64') }],
    }),
  );
  const got = await client.embeddings.create({ model: 'text-embedding-3-small', input: ['a'] }, { headers: s.headers });
  assert.deepEqual(got.data[0].embedding, Array.from(vector));
  assert.equal(JSON.parse((await s.call()).text).encoding_format, 'base64');
  const r = await s.record();
  assert.deepEqual([r.endpoint, r.input, r.output], ['embeddings', 5, -1]);
});

test('models: the list, and a model whose name holds a slash', async () => {
  const model = { id: 'org/name', object: 'model', created: 1, owned_by: 'org' };
  const s = await script(json({ object: 'list', data: [model, { ...model, id: 'b' }] }), json(model));
  const ids = (await collect(await client.models.list({ headers: s.headers }))).events.map((m) => m.id);
  assert.deepEqual(ids, ['org/name', 'b']);
  assert.equal((await client.models.retrieve('org/name', { headers: s.headers })).id, 'org/name');
  assert.deepEqual(
    (await s.calls(2)).map((c) => c.uri),
    ['/v1/models', '/v1/models/org%2Fname'],
  );
});

test('files: an upload arrives as it was sent, and its content comes back', async () => {
  const content = randomBytes(3 << 20);
  const file = {
    id: 'file-1',
    object: 'file',
    bytes: content.length,
    created_at: 1,
    filename: 'ä.jsonl',
    purpose: 'batch',
    status: 'processed',
  };
  const s = await script(json(file), binary(pieces(content, 99_991), 'application/octet-stream'));
  const up = await client.files.create(
    { purpose: 'batch', file: await toFile(content, 'ä.jsonl') },
    { headers: s.headers },
  );
  assert.equal(up.id, 'file-1');
  const down = await client.files.content('file-1', { headers: s.headers });
  assert.equal(sha256(Buffer.from(await down.arrayBuffer())), sha256(content));
  const [c] = await s.calls(2);
  assert.equal(c.form.purpose.value, 'batch');
  assert.deepEqual([c.form.file.size, c.form.file.sha256], [content.length, sha256(content)]);
  assert.equal(c.headers.authorization, `Bearer ${upstreamKeys.openai}`);
});

test('audio: speech comes as the bytes that the provider made', async () => {
  const speech = randomBytes(700_001);
  const s = await script(binary(pieces(speech, 8191), 'audio/mpeg'));
  const got = await client.audio.speech.create(
    { model: 'tts-1', voice: 'alloy', input: sentence },
    { headers: s.headers },
  );
  assert.equal(got.headers.get('content-type'), 'audio/mpeg');
  assert.equal(sha256(Buffer.from(await got.arrayBuffer())), sha256(speech));
  assert.equal((await s.record()).end, 'completed');
});

test('audio: leaving in the middle of speech closes the provider’s connection', async () => {
  const s = await script(binary([bytes(randomBytes(5000))], 'audio/mpeg', { end: 'hold' }));
  const abort = new AbortController();
  const got = await client.audio.speech.create(
    { model: 'tts-1', voice: 'alloy', input: 'a' },
    { headers: s.headers, signal: abort.signal },
  );
  const reader = got.body.getReader();
  await reader.read();
  abort.abort();
  await assert.rejects(reader.read());
  await s.closed();
  assert.equal((await s.record()).end, 'client_gone');
});

test('audio: a transcription is uploaded as a form and answered as text or JSON', async () => {
  const sound = randomBytes(200_000);
  const s = await script(json({ text: sentence }), binary([bytes(sentence)], 'text/plain; charset=utf-8'));
  const form = async () => ({ model: 'whisper-1', file: await toFile(sound, 'a.mp3') });
  assert.equal((await client.audio.transcriptions.create(await form(), { headers: s.headers })).text, sentence);
  assert.equal(
    await client.audio.transcriptions.create({ ...(await form()), response_format: 'text' }, { headers: s.headers }),
    sentence,
  );
  const [c] = await s.calls(2);
  assert.equal(c.form.model.value, 'whisper-1');
  assert.equal(c.form.file.sha256, sha256(sound));
  assert.equal((await s.records(2))[0].model, 'whisper-1');
});

test('images, moderations and batches go through', async () => {
  const image = randomBytes(2 << 20).toString('base64');
  const s = await script(
    json({
      created: 1,
      data: [{ b64_json: image }],
      usage: { input_tokens: 3, output_tokens: 400, total_tokens: 403 },
    }),
    json({ id: 'modr-1', model: 'gpt-mod', results: [] }),
    json({ id: 'batch_1', object: 'batch', status: 'validating' }),
  );
  const made = await client.images.generate({ model: 'gpt-image-1', prompt: 'a' }, { headers: s.headers });
  assert.equal(made.data[0].b64_json, image);
  assert.equal(
    (await client.moderations.create({ model: 'gpt-mod', input: 'a' }, { headers: s.headers })).id,
    'modr-1',
  );
  assert.equal(
    (
      await client.batches.create(
        { input_file_id: 'file-1', endpoint: '/v1/chat/completions', completion_window: '24h' },
        { headers: s.headers },
      )
    ).id,
    'batch_1',
  );
  const [r] = await s.records(3);
  assert.deepEqual([r.endpoint, r.input, r.output], ['images', 3, 400]);
});

test('an upload that the client aborts is given up by the relay', async () => {
  const s = await script(never);
  const abort = new AbortController();
  const asked = assert.rejects(
    client.files.create(
      { purpose: 'batch', file: await toFile(randomBytes(1 << 20), 'a') },
      { headers: s.headers, signal: abort.signal },
    ),
    OpenAI.APIUserAbortError,
  );
  await s.call();
  abort.abort();
  await asked;
  await s.closed();
  assert.equal((await s.record()).end, 'client_gone');
});
