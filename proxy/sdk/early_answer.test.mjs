// Node's fetch: an answer that comes before the request has been sent whole.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { caught, completion, json, key, script, url } from './relay.mjs';

const tries = 30;
const large = 'x'.repeat(8 << 20);
const body = JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: large }] });

// answers is what so many posts of 8 MB are answered with, told apart.
async function answers(headers, payload) {
  const got = {};
  for (let i = 0; i < tries; i++) {
    let seen;
    try {
      const res = await fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        duplex: 'half',
        body: payload(),
        headers: { 'content-type': 'application/json', ...headers },
      });
      const { error } = await res.json();
      seen = `${res.status} ${error.code}`;
    } catch (e) {
      seen = `${e.message}: ${e.cause?.code}`;
    }
    got[seen] = (got[seen] ?? 0) + 1;
  }
  return got;
}
const chunked = () =>
  new ReadableStream({
    start(c) {
      for (let at = 0; at < body.length; at += 65536) c.enqueue(Buffer.from(body.slice(at, at + 65536)));
      c.close();
    },
  });

test('a bad key with 8 MB is told so each time', async () => {
  assert.deepEqual(await answers({ authorization: 'Bearer sk-bad' }, () => body), { '401 invalid_api_key': tries });
});

test('a bad key with 8 MB in chunks is told so each time', async () => {
  assert.deepEqual(await answers({ authorization: 'Bearer sk-bad' }, chunked), { '401 invalid_api_key': tries });
});

test('a body that is too large is told so each time', async () => {
  assert.deepEqual(await answers({ authorization: `Bearer ${key}` }, () => body), { '413 request_too_large': tries });
});

test('a body in chunks that turns out to be too large is told so each time', async () => {
  assert.deepEqual(await answers({ authorization: `Bearer ${key}` }, chunked), { '413 request_too_large': tries });
});

test('the clients see it, too, and ask once', async () => {
  const messages = [{ role: 'user', content: large }];
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-bad' });
  const anthropic = new Anthropic({ baseURL: url, apiKey: 'sk-bad' });
  for (let i = 0; i < 5; i++) {
    const s = await script(json(completion('')));
    assert.ok(
      (await caught(
        openai.chat.completions.create({ model: 'gpt-4o-mini', messages }, { headers: s.headers }),
      )) instanceof OpenAI.AuthenticationError,
    );
    assert.equal((await s.records()).length, 1);
    const a = await script(json(completion('')));
    assert.ok(
      (await caught(
        anthropic.messages.create({ model: 'claude-x', max_tokens: 9, messages }, { headers: a.headers }),
      )) instanceof Anthropic.AuthenticationError,
    );
    assert.equal((await a.records()).length, 1);
  }
});

test('the connection after a refusal is as good as any', async () => {
  const s = await script(json(completion('fine')));
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
  await answers({ authorization: 'Bearer sk-bad' }, () => '{}');
  const got = await openai.chat.completions.create({ model: 'gpt-4o-mini', messages: [] }, { headers: s.headers });
  assert.equal(got.choices[0].message.content, 'fine');
});
