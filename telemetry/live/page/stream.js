// The events of the relay, over fetch: an EventSource could not send the token.

const SILENCE = 6000; // ms without an event: the connection is dead
const LONGEST = 10000;

export class Unauthorized extends Error {}

// follow calls onEvent(name, data) until a token is wanted, reconnecting by
// itself; onState says how it stands, and why not.
export async function follow(token, onEvent, onState) {
  let wait = 500;
  for (;;) {
    const control = new AbortController();
    let heard = performance.now();
    const watch = setInterval(() => performance.now() - heard > SILENCE && control.abort(), 1000);
    let why = "the relay is not there";
    try {
      const headers = token ? { Authorization: "Bearer " + token } : {};
      const answer = await fetch("live/events", { headers, cache: "no-store", credentials: "omit", signal: control.signal });
      if (answer.status === 401) throw new Unauthorized();
      if (!answer.ok) throw new Error((why = (await answer.text()).trim().slice(0, 300)));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard = performance.now();
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const [, name, , data] = /^event: (\w+)\n(id: \d+\n)?data: (.*)$/.exec(block) ?? [];
          if (!name) continue;
          wait = 500;
          onState("live");
          onEvent(name, JSON.parse(data));
        }
      }
    } catch (error) {
      if (error instanceof Unauthorized) throw error;
      if (!(error instanceof TypeError || error.name === "AbortError" || error.message === why)) console.error(error);
    } finally {
      clearInterval(watch);
      control.abort();
    }
    onState("lost", why);
    await new Promise((go) => setTimeout(go, wait * (0.8 + 0.4 * Math.random())));
    wait = Math.min(wait * 2, LONGEST);
  }
}
