// The @anthropic-ai/sdk client: what it raises, and how often it asks again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { ask, message, textEvents, text } from './anthropic.mjs';
import {
  bytes,
  caught,
  collect,
  event,
  hangUp,
  json,
  key,
  narrowKey,
  script,
  sentence,
  stream,
  url,
  wait,
  words,
} from './relay.mjs';

const client = new Anthropic({ baseURL: url, apiKey: key, logLevel: 'off' }); // it prints half an event
const create = (body, s, options = {}) =>
  client.messages.create({ ...ask, ...body }, { headers: s.headers, ...options });

const failure = (status, type, message, headers = {}) =>
  json(
    { type: 'error', error: { type, message }, request_id: 'req_theirs' },
    { status, headers: { 'request-id': 'req_theirs', ...headers } },
  );

// refused is a request that must end with the relay's own refusal.
async function refused(make, kind, status, type) {
  const s = await script(json(message([])));
  const e = await caught(make(s));
  assert.ok(e instanceof kind, `${e?.constructor?.name}: ${e?.message}`);
  assert.deepEqual([e.status, e.type, e.error.type], [status, type, 'error']);
  assert.equal(e.error.request_id, s.id);
  assert.equal(e.headers.get('x-request-id'), s.id);
  assert.equal(e.requestID, s.id, 'the request id stands where this client looks for it');
  assert.deepEqual(
    (await s.records()).map((r) => r.status),
    [status],
    'the client asked once',
  );
  assert.deepEqual(await s.calls(0), [], 'the provider was not asked');
}

test('a bad key', () =>
  refused(
    (s) => new Anthropic({ baseURL: url, apiKey: 'sk-ant-bad' }).messages.create(ask, { headers: s.headers }),
    Anthropic.AuthenticationError,
    401,
    'authentication_error',
  ));

test('two keys that differ', () =>
  refused(
    (s) => create({}, s, { headers: { ...s.headers, authorization: 'Bearer another' } }),
    Anthropic.AuthenticationError,
    401,
    'authentication_error',
  ));

test('an unknown model', () =>
  refused((s) => create({ model: 'nobody-has-this' }, s), Anthropic.NotFoundError, 404, 'not_found_error'));

test('a model that the key may not use', () =>
  refused(
    (s) => new Anthropic({ baseURL: url, apiKey: narrowKey }).messages.create(ask, { headers: s.headers }),
    Anthropic.PermissionDeniedError,
    403,
    'permission_error',
  ));

test('a body that is too large', () =>
  refused(
    (s) => create({ messages: [{ role: 'user', content: 'x'.repeat(8 << 20) }] }, s),
    Anthropic.APIError,
    413,
    'request_too_large',
  ));

test('the provider’s own errors pass as they are', async () => {
  for (const [status, type, kind] of [
    [400, 'invalid_request_error', Anthropic.BadRequestError],
    [404, 'not_found_error', Anthropic.NotFoundError],
    [413, 'request_too_large', Anthropic.APIError],
    [529, 'overloaded_error', Anthropic.InternalServerError],
  ]) {
    const s = await script(failure(status, type, `no: ${status}`));
    const e = await caught(create({}, s, { maxRetries: 0 }));
    assert.ok(e instanceof kind, `${status}: ${e.constructor.name}`);
    assert.deepEqual([e.status, e.type, e.requestID], [status, type, 'req_theirs']);
    assert.equal((await s.record()).end, 'upstream_status');
  }
});

for (const status of [429, 529]) {
  test(`${status} is the client’s to try again: the relay adds no try, and passes the wait on`, async () => {
    const s = await script(
      failure(status, 'rate_limit_error', 'slow down', { 'retry-after-ms': '3', 'retry-after': '1' }),
    );
    const e = await caught(create({}, s));
    assert.deepEqual([e.status, e.headers.get('retry-after-ms'), e.headers.get('retry-after')], [status, '3', '1']);
    assert.deepEqual(
      (await s.records(3)).map((r) => r.attempts),
      [1, 1, 1],
    );
    assert.deepEqual(
      (await s.calls(3)).map((c) => c.headers['x-stainless-retry-count']),
      ['0', '1', '2'],
    );
  });
}

test('401 from the provider is not the client’s fault, and is not tried again', async () => {
  const s = await script(failure(401, 'authentication_error', 'invalid x-api-key'));
  const e = await caught(create({}, s));
  assert.ok(e instanceof Anthropic.InternalServerError, e.constructor.name);
  assert.deepEqual([e.status, e.type], [502, 'api_error']);
  assert.equal((await s.record()).upstreamStatus, 401);
  await s.call();
});

test('a provider that closes without an answer: 502, and one request', async () => {
  const s = await script(hangUp);
  const e = await caught(create({ stream: true }, s));
  assert.deepEqual([e.status, e.type], [502, 'api_error']);
  await s.call();
});

// Where a stream may be cut, and how much of its text the client has by then.
const all = textEvents().map(event);
const cuts = {
  'after the head': [[], ''],
  'after message_start': [all.slice(0, 1), ''],
  'between events': [all.slice(0, 6), words.slice(0, 3).join('')],
  'after an event’s name': [[...all.slice(0, 6), 'event: content_block_delta\n'], words.slice(0, 3).join('')],
  'in an event': [[...all.slice(0, 6), all[6].slice(0, 80)], words.slice(0, 3).join('')],
  'in a line end': [[...all.slice(0, 6), all[6].slice(0, -1)], words.slice(0, 4).join('')],
  'before message_stop': [all.slice(0, -1), sentence],
};
for (const [where, [steps, content]] of Object.entries(cuts)) {
  test(`a stream cut ${where} raises`, async () => {
    const s = await script(stream(steps, { end: 'cut' }));
    const { events, error } = await collect(await create({ stream: true }, s));
    assert.ok(error instanceof Error, 'a cut stream must not look whole');
    if (where !== 'in an event') {
      assert.ok(error instanceof Anthropic.APIError, `${error}`);
      assert.deepEqual([error.type, error.error.request_id], ['api_error', s.id]);
    }
    assert.equal(text(events), content);
    assert.ok(!events.some((e) => e.type === 'message_stop'));
    const r = await s.record();
    assert.deepEqual([r.end, r.status, r.input], ['upstream_cut', 200, where === 'after the head' ? -1 : 20]);
    await s.call();
  });
}

test('a stream cut raises in the client’s own accumulation, too', async () => {
  const s = await script(stream(all.slice(0, 6), { end: 'cut' }));
  assert.ok(
    (await caught(client.messages.stream(ask, { headers: s.headers }).finalMessage())) instanceof Anthropic.APIError,
  );
});

test('the provider’s error event is raised as it is', async () => {
  const theirs = {
    type: 'error',
    error: { type: 'overloaded_error', message: 'Overloaded' },
    request_id: 'req_theirs',
  };
  const s = await script(stream([...all.slice(0, 5), event(theirs)]));
  const { events, error } = await collect(await create({ stream: true }, s));
  assert.ok(error instanceof Anthropic.APIError);
  assert.deepEqual([error.type, error.error], ['overloaded_error', theirs]);
  assert.equal(text(events), words.slice(0, 2).join(''));
  assert.equal((await s.record()).end, 'upstream_error');
});

test('JSON that is cut raises', async () => {
  const s = await script({
    status: 200,
    headers: { 'content-type': 'application/json' },
    steps: [bytes('{"id":"msg_1",')],
    end: 'cut',
  });
  assert.ok((await caught(create({}, s))) instanceof Error);
  assert.equal((await s.record()).end, 'upstream_cut');
  await s.call();
});
