// make bench-k6, or: k6 run -e URL=http://127.0.0.1:8080 -e KEY=sk-relay-test-key-123 chat.js
//
// What k6 shows here and what it does not: http_req_waiting ("TTFB") is the time
// to the first byte of the answer, that is to the head. It is not the time to the
// first token: a relay may send the head, a role chunk or a keep-alive comment
// long before the model has said anything. k6 has no event stream in its core and
// hands the script a body only when it is complete, so neither TTFT nor the gaps
// between events can be measured with it. What it can see is checked below: that
// each stream came to its [DONE] with every event, and how long it took.
import http from 'k6/http';
import { check } from 'k6';
import { Rate } from 'k6/metrics';

const url = __ENV.URL || 'http://127.0.0.1:8080';
const key = __ENV.KEY || 'sk-relay-test-key-123';
const events = 64;
const duration = __ENV.DURATION || '10s';

const complete = new Rate('stream_complete');

export const options = {
  // Arrival rates do not wait for answers. With constant-vus a frozen server
  // slows the sender down, and the percentiles lie.
  scenarios: {
    json: {
      executor: 'constant-arrival-rate', exec: 'json',
      rate: 500, timeUnit: '1s', duration, preAllocatedVUs: 200, maxVUs: 1000,
    },
    stream: {
      executor: 'constant-arrival-rate', exec: 'stream',
      rate: 20, timeUnit: '1s', duration, preAllocatedVUs: 100, maxVUs: 500,
    },
  },
  thresholds: {
    http_req_failed: ['rate==0'],
    stream_complete: ['rate==1'],
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    'http_req_duration{scenario:json}': ['p(99)<100'],
  },
};

function post(body, simulate) {
  return http.post(`${url}/v1/chat/completions`, JSON.stringify(body), {
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json', 'X-Simulate': simulate },
  });
}

const messages = [{ role: 'user', content: 'Say something.' }];

export function json() {
  const r = post({ model: 'simulated', messages }, 'ttft=0,gap=0,events=30');
  check(r, { 'usage is exact': (r) => r.status === 200 && r.json('usage.completion_tokens') === 30 });
}

export function stream() {
  const r = post({ model: 'simulated', messages, stream: true }, `ttft=150ms,gap=20ms,events=${events}`);
  const body = r.body || '';
  // The simulated provider marks each content event with "obfuscation".
  complete.add(r.status === 200 && body.endsWith('data: [DONE]\n\n') && body.split('"obfuscation"').length === events + 1);
}
