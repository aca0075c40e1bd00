// The openai client: what it raises, and how often it asks again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import {
  bytes,
  caught,
  chatEvents,
  chunk,
  collect,
  completion,
  data,
  done,
  event,
  hangUp,
  json,
  key,
  narrowKey,
  never,
  script,
  sentence,
  stream,
  text,
  url,
  usageChunk,
  words,
} from './relay.mjs';

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const ask = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'a' }] };
const create = (body, s, options = {}) =>
  client.chat.completions.create({ ...ask, ...body }, { headers: s.headers, ...options });
const failure = (status, message, headers = {}) =>
  json({ error: { message, type: 'some_error', param: null, code: 'some_code' } }, { status, headers });

// refused is a request that must end with the relay's own refusal.
async function refused(make, kind, want) {
  const s = await script(json(completion('not for you')));
  const e = await caught(make(s));
  assert.ok(e instanceof kind, `${e?.constructor?.name}: ${e?.message}`);
  for (const [name, value] of Object.entries(want)) assert.equal(e[name], value, name);
  assert.equal(e.requestID, s.id);
  assert.deepEqual(
    (await s.records()).map((r) => [r.status, r.error]),
    [[want.status, want.code]],
    'the client asked once',
  );
  assert.deepEqual(await s.calls(0), [], 'the provider was not asked');
  return e;
}

test('a bad key', async () => {
  const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-nobody-knows-this-one' });
  const e = await refused(
    (s) => stranger.chat.completions.create(ask, { headers: s.headers }),
    OpenAI.AuthenticationError,
    {
      status: 401,
      code: 'invalid_api_key',
      type: 'invalid_request_error',
      param: null,
    },
  );
  assert.ok(!e.message.includes('sk-nobody'), 'the key is not echoed');
});

test('a bad key, with a stream asked for', () =>
  refused(
    (s) =>
      new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-x' }).chat.completions.create(
        { ...ask, stream: true },
        { headers: s.headers },
      ),
    OpenAI.AuthenticationError,
    { status: 401, code: 'invalid_api_key' },
  ));

test('an unknown model', () =>
  refused((s) => create({ model: 'nobody-has-this' }, s), OpenAI.NotFoundError, {
    status: 404,
    code: 'model_not_found',
    param: 'model',
  }));

test('an unknown path', () =>
  refused((s) => client.get('/../nothing', { headers: s.headers }), OpenAI.NotFoundError, {
    status: 404,
    code: 'unknown_url',
  }));

test('a model that the key may not use', () =>
  refused(
    (s) =>
      new OpenAI({ baseURL: `${url}/v1`, apiKey: narrowKey }).chat.completions.create(
        { ...ask, model: 'gpt-4o' },
        { headers: s.headers },
      ),
    OpenAI.PermissionDeniedError,
    { status: 403, code: 'model_not_allowed' },
  ));

test('a tenant that the key may not act for', () =>
  refused(
    (s) => client.chat.completions.create(ask, { headers: { ...s.headers, 'x-tenant-id': 'green' } }),
    OpenAI.PermissionDeniedError,
    { status: 403, code: 'tenant_not_allowed' },
  ));

test('a body that is too large', () =>
  refused((s) => create({ messages: [{ role: 'user', content: 'x'.repeat(8 << 20) }] }, s), OpenAI.APIError, {
    status: 413,
    code: 'request_too_large',
  }));

test('a request that names its model twice', () =>
  refused(
    (s) =>
      client.post('/chat/completions', {
        headers: { ...s.headers, 'content-type': 'application/json' },
        body: Buffer.from('{"model":"gpt-4o-mini","model":"gpt-4o"}'),
      }),
    OpenAI.BadRequestError,
    { status: 400, code: 'duplicate_key' },
  ));

test('the provider’s own errors pass as they are', async () => {
  for (const [status, kind] of [
    [400, OpenAI.BadRequestError],
    [404, OpenAI.NotFoundError],
    [422, OpenAI.UnprocessableEntityError],
  ]) {
    const s = await script(failure(status, `no: ${status}`));
    const e = await caught(create({}, s));
    assert.ok(e instanceof kind, e.constructor.name);
    assert.deepEqual([e.status, e.code, e.type, e.requestID], [status, 'some_code', 'some_error', s.id]);
    assert.match(e.message, new RegExp(`no: ${status}`));
    assert.equal((await s.record()).end, 'upstream_status');
    await s.call();
  }
});

test('429 is the client’s to try again: the relay adds no try, and passes the wait on', async () => {
  const s = await script(
    failure(429, 'slow down', { 'retry-after-ms': '3', 'retry-after': '1', 'x-ratelimit-remaining-requests': '0' }),
  );
  const e = await caught(create({}, s));
  assert.ok(e instanceof OpenAI.RateLimitError);
  assert.deepEqual(
    [e.headers.get('retry-after-ms'), e.headers.get('retry-after'), e.headers.get('x-ratelimit-remaining-requests')],
    ['3', '1', null],
  );
  const records = await s.records(3);
  assert.deepEqual(
    records.map((r) => [r.end, r.status, r.attempts]),
    Array(3).fill(['upstream_status', 429, 1]),
  );
  assert.deepEqual(
    (await s.calls(3)).map((c) => c.headers['x-stainless-retry-count']),
    ['0', '1', '2'],
  );
});

test('429 with Retry-After alone, and then an answer', async () => {
  const s = await script(failure(429, 'slow down', { 'retry-after': '0.01' }), json(completion(sentence)));
  assert.equal((await create({}, s)).choices[0].message.content, sentence);
  assert.equal((await s.calls(2)).length, 2);
});

test('429 without a wait gets one from the relay', async () => {
  const s = await script(failure(429, 'slow down'));
  const e = await caught(create({}, s, { maxRetries: 0 }));
  assert.ok(Number(e.headers.get('retry-after')) >= 1);
  assert.equal((await s.calls()).length, 1);
});

test('500 from the provider: as many tries as the client makes', async () => {
  const s = await script(failure(500, 'oops', { 'retry-after-ms': '1' }));
  const e = await caught(create({}, s, { maxRetries: 4 }));
  assert.ok(e instanceof OpenAI.InternalServerError);
  assert.equal((await s.records(5)).length, 5);
  assert.equal((await s.calls(5)).length, 5);
});

test('the provider’s x-should-retry is obeyed', async () => {
  const s = await script(failure(500, 'oops', { 'x-should-retry': 'false' }));
  assert.ok((await caught(create({}, s))) instanceof OpenAI.InternalServerError);
  assert.equal((await s.calls()).length, 1);
});

for (const status of [401, 403]) {
  test(`${status} from the provider is not the client’s fault, and is not tried again`, async () => {
    const s = await script(failure(status, 'Incorrect API key provided: sk-upst***enai.'));
    const e = await caught(create({}, s));
    assert.ok(e instanceof OpenAI.InternalServerError, e.constructor.name);
    assert.deepEqual([e.status, e.code, e.headers.get('x-should-retry')], [502, 'upstream_auth', 'false']);
    assert.ok(!e.message.includes('sk-upst'));
    assert.equal((await s.record()).upstreamStatus, status);
    await s.call();
  });
}

test('a provider out of reach', async () => {
  const s = await script(json(completion('')));
  const e = await caught(create({ model: 'dead-model' }, s, { maxRetries: 0 }));
  assert.ok(e instanceof OpenAI.InternalServerError);
  assert.deepEqual([e.status, e.code, e.requestID], [502, 'upstream_connect', s.id]);
});

test('a provider that does not begin to answer: 504, and one request', async () => {
  const s = await script(never);
  const e = await caught(create({ model: 'late-model' }, s));
  assert.ok(e instanceof OpenAI.InternalServerError);
  assert.deepEqual([e.status, e.code], [504, 'upstream_timeout']);
  await s.closed();
  assert.equal((await s.record()).end, 'timeout_head');
  await s.call();
});

test('a provider that closes without an answer: 502, and one request', async () => {
  const s = await script(hangUp);
  const e = await caught(create({}, s));
  assert.ok(e instanceof OpenAI.InternalServerError, `${e}`);
  assert.deepEqual([e.status, e.code, e.headers.get('x-should-retry')], [502, 'upstream_error', 'false']);
  await s.call();
  assert.equal((await s.record()).end, 'upstream_cut');
});

test('a provider that falls silent in a stream', async () => {
  const s = await script(stream(chatEvents().slice(0, 3), { end: 'hold' }));
  const { events, error } = await collect(await create({ model: 'silent-model', stream: true }, s));
  assert.equal(text(events), words.slice(0, 2).join(''));
  assert.ok(error instanceof OpenAI.APIError, `${error}`);
  assert.equal(error.code, 'upstream_timeout');
  await s.closed();
  assert.equal((await s.record()).end, 'timeout_idle');
});

// Where a stream may be cut, and how much content the client has by then.
const cuts = {
  'after the head': [[], ''],
  'after the role': [chatEvents().slice(0, 1), ''],
  'between events': [chatEvents().slice(0, 4), words.slice(0, 3).join('')],
  'in an event': [[...chatEvents().slice(0, 4), chatEvents()[4].slice(0, 60)], words.slice(0, 3).join('')],
  'in a line end': [[...chatEvents().slice(0, 4), chatEvents()[4].slice(0, -1)], words.slice(0, 4).join('')],
  'in a character': [
    [...chatEvents().slice(0, 4), bytes(Buffer.from(data(chunk({ content: '🌍' }))).subarray(0, -100))],
    words.slice(0, 3).join(''),
  ],
  'before [DONE]': [[...chatEvents(), data(usageChunk)], sentence],
};
for (const [where, [steps, content]] of Object.entries(cuts)) {
  test(`a stream cut ${where} raises`, async () => {
    const s = await script(stream(steps, { end: 'cut' }));
    const { events, error } = await collect(await create({ stream: true }, s));
    assert.ok(error instanceof Error, 'a cut stream must not look whole');
    if (!where.startsWith('in ')) {
      assert.ok(error instanceof OpenAI.APIError, `${error}`);
      assert.equal(error.code, 'upstream_error');
    }
    assert.equal(text(events), content);
    const r = await s.record();
    assert.deepEqual([r.end, r.status], ['upstream_cut', 200]);
    assert.equal(r.input, where === 'before [DONE]' ? 11 : -1, 'usage counts where it was seen');
    await s.call();
  });
}

test('a hundred streams cut at once: each has its content and then the error', async () => {
  await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const said = words.slice(0, i % words.length);
      const s = await script(stream(chatEvents().slice(0, 1 + said.length), { end: 'cut' }));
      const { events, error } = await collect(await create({ stream: true }, s));
      assert.equal(text(events), said.join(''));
      assert.ok(error instanceof OpenAI.APIError, `${error}`);
      assert.equal((await s.record()).end, 'upstream_cut');
      await s.call();
    }),
  );
});

test('a cut after [DONE] has lost nothing', async () => {
  const s = await script(stream([...chatEvents(), done], { end: 'cut' }));
  const { events, error } = await collect(await create({ stream: true }, s));
  assert.equal(error, undefined);
  assert.equal(text(events), sentence);
  assert.equal((await s.record()).end, 'completed');
});

test('JSON that is cut raises', async () => {
  const whole = JSON.stringify(completion(sentence));
  for (const headers of [{}, { 'content-length': `${Buffer.byteLength(whole)}` }]) {
    const s = await script({
      status: 200,
      headers: { 'content-type': 'application/json', ...headers },
      steps: [bytes(whole.slice(0, 80))],
      end: 'cut',
    });
    assert.ok((await caught(create({}, s))) instanceof Error);
    assert.equal((await s.record()).end, 'upstream_cut');
    await s.call();
  }
});

test('an error that the provider sends within the stream is raised as it is', async () => {
  const theirs = { message: 'overloaded, sorry', type: 'server_error', param: null, code: 'overloaded' };
  const s = await script(stream([...chatEvents().slice(0, 3), data({ error: theirs })]));
  const { events, error } = await collect(await create({ stream: true }, s));
  assert.ok(error instanceof OpenAI.APIError);
  assert.deepEqual(error.error, theirs);
  assert.equal(text(events), words.slice(0, 2).join(''));
  assert.equal((await s.record()).end, 'upstream_error');
});

test('responses: a cut is an error event that the client raises', async () => {
  const begun = {
    type: 'response.in_progress',
    sequence_number: 4,
    response: { id: 'resp_1', object: 'response', status: 'in_progress', output: [] },
  };
  const s = await script(stream([event(begun)], { end: 'cut' }));
  const { events, error } = await collect(
    await client.responses.create({ model: 'gpt-4o-mini', input: 'a', stream: true }, { headers: s.headers }),
  );
  assert.deepEqual(events, [begun]);
  assert.ok(error instanceof OpenAI.APIError, `${error}`);
  assert.equal(error.code, 'upstream_error');
  assert.deepEqual([error.error.type, error.error.param, error.error.sequence_number], ['error', null, 5]);
  assert.equal((await s.record()).end, 'upstream_cut');
});

test('responses: the provider’s error event is raised as it is', async () => {
  const theirs = { type: 'error', code: 'server_error', message: 'sorry', param: null, sequence_number: 0 };
  const s = await script(stream([event(theirs)]));
  const { error } = await collect(
    await client.responses.create({ model: 'gpt-4o-mini', input: 'a', stream: true }, { headers: s.headers }),
  );
  assert.ok(error instanceof OpenAI.APIError);
  assert.equal(error.message, 'sorry');
  assert.equal((await s.record()).end, 'upstream_error');
});
