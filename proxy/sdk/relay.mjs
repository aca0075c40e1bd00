// What the tests have in common: where the relay is, the provider behind it,
// and the forms in which providers answer.
import assert from 'node:assert/strict';

const env = (name) => {
  assert.ok(process.env[name], `${name} is not set; the tests are run by "go test"`);
  return process.env[name];
};

export const url = env('RELAY_URL');
export const key = env('RELAY_KEY');
export const narrowKey = env('RELAY_NARROW_KEY');
export const upstreamKeys = { openai: env('RELAY_OPENAI_KEY'), anthropic: env('RELAY_ANTHROPIC_KEY') };
const control = env('RELAY_CONTROL');

async function ask(path, init) {
  const res = await fetch(control + path, init);
  const text = await res.text();
  assert.equal(res.status, 200, `${path}: ${res.status} ${text}`);
  return JSON.parse(text);
}

// script makes the provider give these answers, in turn, to the requests that
// are sent with .headers. Such a request's id is the script's, so that the
// relay's records can be found by it.
export async function script(...answers) {
  const { id } = await ask('/scripts', { method: 'POST', body: JSON.stringify({ answers }) });
  return {
    id,
    headers: { 'x-script': id, 'x-request-id': id },
    release: () => ask(`/scripts/${id}/release`, { method: 'POST' }),
    // calls waits until the provider has had n requests, and returns all.
    calls: (n = 1) => ask(`/scripts/${id}/calls?n=${n}`),
    // closed waits until the relay has closed the n-th request's connection.
    closed: (n = 1) => ask(`/scripts/${id}/closed?n=${n}`),
    // records waits until the relay has recorded n exchanges, and returns all.
    records: (n = 1) => ask(`/scripts/${id}/records?n=${n}`),
    async record() {
      const all = await this.records();
      assert.equal(all.length, 1, 'the relay recorded the exchange once');
      return all[0];
    },
    async call() {
      const all = await this.calls();
      assert.equal(all.length, 1, 'the provider got the request once');
      return all[0];
    },
  };
}

// A step of a body: bytes that leave by themselves, or a wait for release.
export const bytes = (data) => ({ bytes: Buffer.from(data).toString('base64') });
export const wait = { wait: true };

// pieces cuts data into steps of n bytes, wherever that falls.
export function pieces(data, n) {
  const all = Buffer.from(data);
  const steps = [];
  for (let at = 0; at < all.length; at += n) steps.push(bytes(all.subarray(at, at + n)));
  return steps;
}

// Answers.
export const json = (value, { status = 200, headers = {} } = {}) => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  steps: [bytes(JSON.stringify(value))],
});
export const stream = (steps, { end = '', headers = {} } = {}) => ({
  status: 200,
  headers: { 'content-type': 'text/event-stream; charset=utf-8', ...headers },
  steps: steps.map((s) => (typeof s === 'string' ? bytes(s) : s)),
  end,
});
export const never = { hold: true }; // no answer while the connection stands
export const hangUp = { status: 0 }; // the connection closed without an answer

// data is an unnamed event, event a named one.
export const data = (value) => `data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`;
export const event = (value) => `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
export const done = data('[DONE]');

// OpenAI's chat.
export const chatUsage = {
  prompt_tokens: 11,
  completion_tokens: 7,
  total_tokens: 18,
  prompt_tokens_details: { cached_tokens: 3 },
};
export const chunk = (delta, finish = null, more = {}) => ({
  id: 'chatcmpl-1',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'gpt-4o-mini',
  choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
  ...more,
});
export const usageChunk = { ...chunk({}), choices: [], usage: chatUsage };
export const completion = (content, more = {}) => ({
  id: 'chatcmpl-1',
  object: 'chat.completion',
  created: 1,
  model: 'gpt-4o-mini',
  choices: [
    {
      index: 0,
      message: { role: 'assistant', content, refusal: null, ...more },
      logprobs: null,
      finish_reason: 'stop',
    },
  ],
  usage: chatUsage,
});
export const words = ['Grüße', ', ', 'Welt', ' 🌍', ' "usage":{"prompt_tokens":9999}', '\n\n', 'データ: 終'];
export const sentence = words.join('');
export const chatEvents = (list = words) => [
  data(chunk({ role: 'assistant', content: '' })),
  ...list.map((w) => data(chunk({ content: w }))),
  data(chunk({}, 'stop')),
];

// caught returns what the promise is rejected with.
export async function caught(promise) {
  try {
    await promise;
  } catch (e) {
    return e;
  }
  assert.fail('nothing was thrown');
}

// collect reads a stream until it ends or throws.
export async function collect(iterable) {
  const events = [];
  try {
    for await (const e of iterable) events.push(e);
  } catch (error) {
    return { events, error };
  }
  return { events };
}
export const text = (events) => events.map((e) => e.choices?.[0]?.delta?.content ?? '').join('');
