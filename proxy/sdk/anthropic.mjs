// Anthropic's messages: a request, and what the provider answers.
import { words } from './relay.mjs';

export const ask = { model: 'claude-any', max_tokens: 100, messages: [{ role: 'user', content: 'Grüße 🌍' }] };
export const usage = { input_tokens: 20, cache_creation_input_tokens: 5, cache_read_input_tokens: 6, output_tokens: 1 };
export const message = (content, more = {}) => ({
  id: 'msg_1',
  type: 'message',
  role: 'assistant',
  model: ask.model,
  content,
  stop_reason: 'end_turn',
  stop_sequence: null,
  usage: { ...usage, output_tokens: 9 },
  ...more,
});
export const start = { type: 'message_start', message: message([], { stop_reason: null, usage }) };
export const delta = (d) => ({ type: 'content_block_delta', index: 0, delta: d });
export const stop = [
  { type: 'content_block_stop', index: 0 },
  { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: 5 } },
  { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: 9 } },
  { type: 'message_stop' },
];
export const block = (content_block) => ({ type: 'content_block_start', index: 0, content_block });
export const textEvents = (list = words) => [
  start,
  block({ type: 'text', text: '' }),
  { type: 'ping' },
  ...list.map((t) => delta({ type: 'text_delta', text: t })),
  ...stop,
];
export const seen = (events) => events.filter((e) => e.type !== 'ping');
export const text = (events) => events.map((e) => e.delta?.text ?? '').join('');
