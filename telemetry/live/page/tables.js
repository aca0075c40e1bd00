// Tables and lists. What a client or provider may have chosen gets in by
// textContent alone.
import { count, whole, time, span, bytes, share } from "./format.js";

export const $ = (id) => document.getElementById(id);

const STATES = {
  up: ["ok", "up"], open: ["bad", "left alone"], half_open: ["warn", "trying again"], down: ["bad", "down"],
  resting: ["warn", "resting"], refused: ["bad", "refused"],
};

// cell makes a table cell or changes it; value is text, or a list of pills.
function fill(cell, value) {
  if (Array.isArray(value)) {
    const key = JSON.stringify(value);
    if (cell.dataset.key === key) return;
    cell.dataset.key = key;
    cell.replaceChildren(...value.map(([kind, text, title]) => {
      const span = document.createElement("span");
      span.className = "pill " + kind;
      span.textContent = text;
      if (title) span.title = title;
      return span;
    }));
  } else if (cell.textContent !== value || cell.dataset.key) {
    delete cell.dataset.key;
    cell.textContent = value;
  }
}

// rows shows one row for each item, using again those that are there. columns
// are [class, value of an item]; the first is the row's header.
function rows(table, items, columns, empty, each) {
  const body = table.tBodies[0];
  if (!items.length) {
    if (body.dataset.empty !== empty) {
      const td = document.createElement("td");
      td.colSpan = columns.length;
      td.className = "empty";
      td.textContent = body.dataset.empty = empty;
      body.replaceChildren(document.createElement("tr"));
      body.rows[0].append(td);
    }
    return;
  }
  if (body.dataset.empty) body.replaceChildren((body.dataset.empty = ""));
  while (body.rows.length > items.length) body.lastChild.remove();
  items.forEach((item, i) => {
    let tr = body.rows[i];
    if (!tr || tr.cells.length !== columns.length) {
      tr?.remove();
      tr = body.insertRow(i);
      columns.forEach(([name], k) => {
        const cell = document.createElement(k ? "td" : "th");
        if (!k) cell.scope = "row";
        cell.className = name;
        tr.append(cell);
      });
    }
    columns.forEach(([, value], k) => fill(tr.cells[k], value(item)));
    each?.(tr, item);
  });
}

const failedShare = (u) => (u.failed / u.requests > 0.01 ? [[u.failed / u.requests > 0.05 ? "bad" : "warn", share(u.failed, u.requests)]] : share(u.failed / u.requests > 0.0001 ? u.failed : 0, u.requests));
const named = (tr, item) => { if (tr.cells[0].title !== (item.name ?? "")) tr.cells[0].title = item.name ?? ""; };

export function upstreams(list) {
  rows($("upstreams"), list ?? [], [
    ["name", (u) => u.name],
    ["", (u) => [[...STATES[u.state] ?? ["", u.state]].concat(u.why)].map(([k, t, why]) => [k, u.for_seconds ? `${t}, ${span(Math.ceil(u.for_seconds))} more` : t, why])],
    ["name", (u) => `${u.host} (${u.dialect})`],
    ["n", (u) => count(u.requests)], ["n", failedShare], ["n", (u) => time(u.ttft)], ["n", (u) => count(u.tokens_out)],
    ["n", (u) => whole(u.in_flight)], ["n", (u) => `${whole(u.connections)} (${whole(u.idle)} idle)`],
    ["wrap", (u) => (u.credentials ?? []).map((c) => {
      const [kind, text] = STATES[c.state] ?? ["", c.state];
      return [kind === "ok" ? "" : kind, `${c.name}: ${text}${c.for_seconds ? " " + span(Math.ceil(c.for_seconds)) : ""}, ${whole(c.in_flight)} in flight`];
    })],
    ["n", (u) => whole(u.total_requests)],
  ], "No upstream is configured.", named);
}

const label = (what) => (r) => r.name || `other ${what}`;

export function tenants(list) {
  rows($("tenants"), list, [
    ["name", label("tenants")], ["n", (r) => count(r.requests)], ["n", failedShare], ["n", (r) => count(r.tokens_in)], ["n", (r) => count(r.tokens_out)], ["n", (r) => whole(r.total_requests)],
  ], "No tenant has asked for anything yet.", named);
}

export function models(list) {
  rows($("models"), list, [
    ["name", label("models")], ["n", (r) => count(r.requests)], ["n", failedShare], ["n", (r) => time(r.ttft)], ["n", (r) => count(r.tokens_out)], ["n", (r) => whole(r.total_requests)],
  ], "No model has been asked yet.", named);
}

const endKind = (end) => (end === "completed" ? "ok" : end === "client_gone" ? "" : ["denied", "limited", "shed"].includes(end) ? "warn" : "bad");

export function ends(totals, point) {
  const list = Object.entries(totals.ends).sort((a, b) => b[1] - a[1]);
  rows($("ends"), list, [
    ["", ([end]) => [[endKind(end), end]]], ["n", ([end]) => count(point["end_" + end] ?? 0)], ["n", ([, n]) => whole(n)], ["n", ([, n]) => share(n, totals.requests)],
  ], "No request has ended yet.");
}

// facts fills a description list with [term, text, kind].
function facts(list, items) {
  while (list.children.length > items.length) list.lastChild.remove();
  items.forEach(([term, text, kind], i) => {
    let div = list.children[i];
    if (!div) {
      div = document.createElement("div");
      div.append(document.createElement("dt"), document.createElement("dd"));
      list.append(div);
    }
    fill(div.firstChild, term);
    fill(div.lastChild, kind ? [[kind, text]] : text);
  });
}

const ago = (at, now) => (at.startsWith("0001") ? "never" : span(now - Date.parse(at) / 1000) + " ago");

export function log(l, now) {
  const kinds = { clickhouse: "ClickHouse", files: "files", off: "off" };
  const items = [["Kept in", kinds[l.kind] ?? l.kind]];
  if (l.kind !== "off") {
    items.push(["Rows appended", whole(l.appended)], ["Rows sealed", whole(l.sealed)]);
    if (l.kind === "clickhouse") {
      items.push(["Rows stored", whole(l.stored)], ["Rows waiting in files", whole(l.waiting)], ["Last stored", ago(l.last_stored, now)]);
      for (const s of l.shards ?? []) items.push([`Shard ${s.name}`, s.up ? "up" : "down", s.up ? "ok" : "bad"]);
      items.push(["Rows quarantined", whole(l.quarantined), l.quarantined ? "bad" : ""]);
    }
    items.push(["Rows dropped", whole(l.dropped), l.dropped ? "bad" : ""]);
  }
  items.push(["Log lines dropped", whole(l.lines_lost), l.lines_lost ? "warn" : ""]);
  facts($("log"), items);
}

export function keys(k, relay, now) {
  const items = [["Keys in", { file: "a file", redis: "Redis", static: "the demo's one key" }[k.store] ?? k.store]];
  if (k.store !== "static") items.push(["Keys known", whole(k.keys)], ["State", k.phase, k.phase === "ready" ? "ok" : k.ready ? "warn" : "bad"]);
  if (k.store === "redis") {
    items.push(["Redis last heard", time(k.stale_seconds) + " ago"], ["Known keys go on for", span(k.left_seconds)], ["Relays that share limits", whole(k.relays)],
      ["Calls for limits", `${whole(k.calls)}, ${whole(k.call_errors)} failed`]);
  }
  items.push(["Configuration read", ago(relay.reload.at, now)], ["Last reload", relay.reload.ok ? "in force" : "refused", relay.reload.ok ? "ok" : "bad"]);
  facts($("keys"), items);
}

export function tiles(s) {
  const p = s.point, q = (name) => time(p[name] ?? null);
  const items = [
    ["Requests/s", count(p.requests), "", `${whole(s.totals.requests)} since the start`],
    ["Failed", share(p.failed, p.requests), "", `${count(p.failed)}/s, ${whole(s.totals.failed)} in all`],
    ["Open streams", whole(p.streams), "", `${whole(p.in_flight)} in flight, ${whole(p.connections)} conns`],
    ["TTFT p50", q("ttft_p50"), "", `p90 ${q("ttft_p90")}, p99 ${q("ttft_p99")}`],
    ["Gap p50", q("gap_p50"), "", `p99 ${q("gap_p99")}`],
    ["Added by the relay p50", q("added_p50"), "", `p99 ${q("added_p99")}` + (p.delay_p50 == null ? "" : `; event ${q("delay_p50")}, ${q("delay_p99")}`)],
    ["Tokens/s out", count(p.tokens_out), "", `${count(p.tokens_in)}/s in`],
    ["To clients", bytes(p.bytes_out) + "/s", "", `${count(p.events)} events/s`],
  ];
  const list = $("tiles");
  items.forEach(([term, value, , sub], i) => {
    let div = list.children[i];
    if (!div) {
      div = document.createElement("div");
      const dt = document.createElement("dt"), big = document.createElement("dd"), small = document.createElement("dd");
      big.className = "big";
      small.className = "sub";
      div.append(dt, big, small);
      list.append(div);
    }
    fill(div.children[0], term);
    fill(div.children[1], value);
    fill(div.children[2], sub);
    div.children[2].title = sub;
  });
}

const since = new Map(); // of a problem: the second in which it was first seen

// problems lists what is not as it should be, in words. What comes and goes by
// itself, such as a credential that rests for a second, must last for a few.
export function problems(s) {
  let out = [];
  if (!s.relay.ready) out.push(["bad", `Not ready: ${s.relay.state}`]);
  if (!s.relay.reload.ok) out.push(["bad", `The last reload was refused, the configuration of before stays: ${s.relay.reload.error}`]);
  for (const u of s.upstreams ?? []) {
    const [kind, text] = STATES[u.state] ?? ["warn", u.state];
    if (kind !== "ok") out.push([kind, `Upstream ${u.name} is ${text}${u.why ? ": " + u.why : ""}`]);
    for (const c of u.credentials ?? []) {
      const [kind, text] = STATES[c.state] ?? ["warn", c.state];
      if (kind !== "ok") out.push([kind, `Credential ${c.name} of ${u.name} is ${text}`]);
    }
  }
  if (s.keys.phase !== "ready") out.push([s.keys.ready ? "warn" : "bad", `Keys: ${s.keys.error || s.keys.phase}`]);
  for (const shard of s.log.shards ?? []) if (!shard.up) out.push(["warn", `ClickHouse ${shard.name} is not there; rows wait in files`]);
  if (s.log.dropped) out.push(["bad", `${whole(s.log.dropped)} rows of the request log were dropped`]);
  if (s.log.quarantined) out.push(["bad", `${whole(s.log.quarantined)} rows are in quarantine`]);
  for (const text of since.keys()) if (!out.some((p) => p[1] === text)) since.delete(text);
  for (const [, text] of out) if (!since.has(text)) since.set(text, s.time);
  out = out.filter(([kind, text]) => kind === "bad" || s.time - since.get(text) >= 3);
  if (!out.length) out.push(["ok", "All is well: ready, upstreams up, nothing dropped"]);
  tell(out);
}

// stale says that what is shown is of a time gone by.
export const stale = (time) => tell([["warn", `The relay does not answer. These are its figures of ${new Date(time * 1000).toLocaleTimeString("en-GB")}.`]]);

function tell(out) {
  const list = $("problems"), key = JSON.stringify(out);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...out.map(([kind, text]) => {
    const li = document.createElement("li");
    li.className = kind;
    li.textContent = text;
    return li;
  }));
}

const KEEP = 500, KEEP_FAILED = 300, SHOWN = 100;

// Requests are the last ones, and what of them is shown.
export class Requests {
  constructor() {
    this.good = [];
    this.bad = [];
    this.paused = false;
  }

  // replace takes all that the relay keeps; what it no longer has, or had
  // before it was started again, stays.
  replace(list, started) {
    const oldest = list[0]?.time ?? Infinity;
    for (const of of ["good", "bad"]) this[of] = this[of].filter((r) => (started ? r.time < started : r.time < oldest));
    this.add(list);
  }

  add(list) {
    for (const r of list) {
      r.text = [new Date(r.time).toLocaleTimeString("en-GB"), r.id, r.tenant, r.endpoint, r.model, r.upstream, r.status, r.end, r.code].join(" ").toLowerCase();
      (r.failed ? this.bad : this.good).push(r);
    }
    this.good.splice(0, this.good.length - KEEP);
    this.bad.splice(0, this.bad.length - KEEP_FAILED);
  }

  draw(words, show) {
    const selection = getSelection();
    const held = this.paused || (!selection.isCollapsed && $("rows").contains(selection.anchorNode));
    if (held && this.drawn === words + "\n" + show) return;
    this.drawn = words + "\n" + show;
    const want = [], not = [];
    for (const word of words.toLowerCase().split(/\s+/)) {
      if (word.length > 1 && word[0] === "-") not.push(word.slice(1));
      else if (word) want.push(word);
    }
    const all = (held && this.frozen) || [...this.good, ...this.bad].sort((a, b) => b.time - a.time);
    this.frozen = all;
    const found = all.filter((r) => (show === "failed" ? r.failed : show === "client_gone" ? r.end === "client_gone" : show !== "stream" || r.stream)
      && want.every((w) => r.text.includes(w)) && !not.some((w) => r.text.includes(w)));
    rows($("rows"), found.slice(0, SHOWN), [
      ["when", (r) => when(r.time)], ["n", (r) => String(r.status)],
      ["", (r) => (r.end === "completed" ? r.end : [[endKind(r.end), r.end], ...(r.code && r.code !== r.end ? [["", r.code]] : [])])],
      ["name", (r) => r.tenant || "–"], ["name", (r) => r.model || "–"], ["name", (r) => r.upstream || "–"],
      ["n", (r) => time(r.ttft)], ["n", (r) => time(r.duration)], ["n", (r) => whole(r.tokens_in)], ["n", (r) => whole(r.tokens_out)], ["n", (r) => String(r.attempts)],
      ["id", (r) => r.id], ["", (r) => r.endpoint + (r.stream ? ", stream" : "")],
    ], all.length ? "No request matches the filter." : "No request has ended yet.", (tr, r) => tr.classList.toggle("failed", r.failed));
    const note = `${Math.min(found.length, SHOWN)} of ${found.length} shown` + (found.length < all.length ? `, ${all.length} kept` : "") + (this.paused ? "; paused" : "");
    if ($("filter-note").textContent !== note) $("filter-note").textContent = note;
  }
}

function when(ms) {
  const d = new Date(ms), two = (n) => String(n).padStart(2, "0");
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, "0")}`;
}
