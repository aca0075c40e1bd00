// Vercel's ai with @ai-sdk/openai.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, embed, generateText, jsonSchema, streamText, tool } from 'ai';
import {
  caught,
  chatEvents,
  chunk,
  collect,
  completion,
  data,
  done,
  json,
  key,
  never,
  script,
  sentence,
  stream,
  url,
  usageChunk,
  words,
} from './relay.mjs';

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const chat = { model: openai.chat('gpt-4o-mini'), prompt: 'Grüße' };
const quiet = { onError() {} }; // errors are looked at in the stream
const read = async (result) => (await collect(result.fullStream ?? result.stream)).events;
const texts = (parts) =>
  parts
    .filter((p) => p.type === 'text-delta')
    .map((p) => p.text)
    .join('');

test('text in one piece', async () => {
  const s = await script(json(completion(sentence)));
  const got = await generateText({ ...chat, headers: s.headers });
  assert.equal(got.text, sentence);
  assert.deepEqual([got.usage.inputTokens, got.usage.outputTokens], [11, 7]);
  assert.equal(got.response.headers['x-request-id'], s.id);
});

test('a stream, with the usage that this client asks for', async () => {
  const s = await script(stream([...chatEvents(), data(usageChunk), done]));
  const result = streamText({ ...chat, headers: s.headers });
  assert.equal(texts(await read(result)), sentence);
  assert.deepEqual([(await result.usage).inputTokens, (await result.usage).outputTokens], [11, 7]);
  const r = await s.record();
  assert.deepEqual([r.end, r.input, r.output, r.contentEvents], ['completed', 11, 7, words.length]);
});

test('a tool call in a stream', async () => {
  const call = (more) => ({ tool_calls: [{ index: 0, ...more }] });
  const s = await script(
    stream([
      data(chunk(call({ id: 'call_1', type: 'function', function: { name: 'find', arguments: '' } }))),
      ...['{"ci', 'ty":"Zür', 'ich"}'].map((p) => data(chunk(call({ function: { arguments: p } })))),
      data(chunk({}, 'tool_calls')),
      data(usageChunk),
      done,
    ]),
  );
  const find = tool({ inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } } }) });
  const result = streamText({ ...chat, tools: { find }, headers: s.headers });
  const [made] = (await read(result)).filter((p) => p.type === 'tool-call');
  assert.deepEqual([made.toolCallId, made.toolName, made.input], ['call_1', 'find', { city: 'Zürich' }]);
});

test('an embedding', async () => {
  const s = await script(
    json({
      object: 'list',
      model: 'm',
      data: [{ object: 'embedding', index: 0, embedding: [0.5, -1] }],
      usage: { prompt_tokens: 5, total_tokens: 5 },
    }),
  );
  const got = await embed({ model: openai.embedding('text-embedding-3-small'), value: 'a', headers: s.headers });
  assert.deepEqual([got.embedding, got.usage.tokens], [[0.5, -1], 5]);
});

test('a bad key, and an unknown model', async () => {
  for (const [model, status, code] of [
    [createOpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-bad' }).chat('gpt-4o-mini'), 401, 'invalid_api_key'],
    [openai.chat('nobody-has-this'), 404, 'model_not_found'],
  ]) {
    const s = await script(json(completion('')));
    const e = await caught(generateText({ ...chat, model, headers: s.headers }));
    assert.ok(APICallError.isInstance(e), `${e}`);
    assert.deepEqual([e.statusCode, e.isRetryable, e.data.error.code], [status, false, code]);
    assert.equal((await s.records()).length, 1);
  }
});

test('429 and 500: as many requests as this client makes', async () => {
  for (const status of [429, 500]) {
    const s = await script(
      json(
        { error: { message: 'later', type: 't', param: null, code: null } },
        { status, headers: { 'retry-after-ms': '2' } },
      ),
    );
    const e = await caught(generateText({ ...chat, maxRetries: 1, headers: s.headers }));
    assert.equal(e.lastError.statusCode, status);
    assert.match(e.lastError.message, /later/);
    assert.equal((await s.records(2)).length, 2);
    assert.equal((await s.calls(2)).length, 2);
  }
});

test('a stream that is cut is an error, not an end', async () => {
  const s = await script(stream(chatEvents().slice(0, 4), { end: 'cut' }));
  const parts = await read(streamText({ ...chat, ...quiet, headers: s.headers, maxRetries: 0 }));
  assert.equal(texts(parts), words.slice(0, 3).join(''));
  assert.ok(
    parts.some((p) => p.type === 'error'),
    JSON.stringify(parts.map((p) => p.type)),
  );
  assert.equal((await s.record()).end, 'upstream_cut');
  await s.call();
});

test('abort in the middle of a stream, and before its first byte', async () => {
  for (const [answer, events] of [
    [stream(chatEvents().slice(0, 3), { end: 'hold' }), 2],
    [never, 0],
  ]) {
    const s = await script(answer);
    const abort = new AbortController();
    const reading = read(
      streamText({
        ...chat,
        ...quiet,
        headers: s.headers,
        maxRetries: 0,
        abortSignal: abort.signal,
        onChunk: ({ chunk: c }) => {
          if (c.type === 'text-delta' && c.text === words[1]) abort.abort();
        },
      }),
    );
    await s.call();
    if (events === 0) abort.abort();
    await reading;
    await s.closed();
    const r = await s.record();
    assert.deepEqual([r.end, r.contentEvents], ['client_gone', events]);
  }
});
