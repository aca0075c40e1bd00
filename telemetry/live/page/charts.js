// The history, by second, and its charts.
import { count, time } from "./format.js";

const SECONDS = 900;

// Quantiles and levels that a second does not name are unknown; counts are 0.
const isCount = (name) => !/_p\d\d$/.test(name) && !["streams", "in_flight", "connections"].includes(name);

// History keeps the last 15 minutes, also over the relay's restart.
export class History {
  constructor() {
    this.second = new Float64Array(SECONDS); // which one stands at a place
    this.columns = new Map();
    this.last = 0;
  }

  put(second, values) {
    const at = second % SECONDS;
    this.second[at] = second;
    this.last = Math.max(this.last, second);
    for (const name of Object.keys(values)) this.column(name);
    for (const [name, column] of this.columns) column[at] = values[name] ?? (isCount(name) ? 0 : NaN);
  }

  column(name) {
    let column = this.columns.get(name);
    if (!column) this.columns.set(name, (column = new Float64Array(SECONDS).fill(isCount(name) ? 0 : NaN)));
    return column;
  }

  // merge takes the relay's own history; what is older stays.
  merge({ from, seconds, columns }) {
    if (!seconds) return;
    if (from > this.last + SECONDS || from + seconds < this.last - SECONDS) this.second.fill((this.last = 0));
    for (let i = 0; i < seconds; i++) {
      const values = {};
      let some = false;
      for (const name in columns) {
        if (columns[name][i] !== null) (values[name] = columns[name][i]), (some = true);
      }
      if (some || !Object.keys(columns).length) this.put(from + i, values);
    }
    this.last = Math.max(this.last, from + seconds - 1);
  }

  // view returns the columns of a chart, one value each second up to the last;
  // null where the relay was not there.
  view(names, range, last) {
    const sums = names.map((name) => name.split("+").map((n) => this.column(n)));
    const out = [new Array(range), ...names.map(() => new Array(range))];
    for (let i = 0; i < range; i++) {
      const second = last - range + 1 + i, at = second % SECONDS, known = this.second[at] === second;
      out[0][i] = second;
      for (let k = 0; k < sums.length; k++) {
        let v = 0;
        for (const column of sums[k]) v += column[at];
        out[k + 1][i] = known && v === v ? v : null;
      }
    }
    return out;
  }
}

const UPSTREAM = "end_upstream_cut+end_upstream_incomplete+end_upstream_error+end_upstream_status+end_timeout_connect+end_timeout_head+end_timeout_first_event+end_timeout_idle+end_timeout_total";
// Title, how a value is written, the lines (name, columns, colour, filled), and
// whether the scale is logarithmic.
const CHARTS = [
  ["Requests per second", count, [["all", "requests", 1, true], ["failed", "failed", 4]]],
  ["Open now", count, [["streams", "streams", 1, true], ["requests", "in_flight", 3]]],
  ["Time to first token", time, [["p50", "ttft_p50", 1], ["p90", "ttft_p90", 2], ["p99", "ttft_p99", 3]]],
  ["Added by the relay before the upstream", time, [["p50", "added_p50", 1], ["p99", "added_p99", 3]], true],
  ["Tokens per second", count, [["out", "tokens_out", 1, true], ["in", "tokens_in", 2]]],
  ["Gap between events", time, [["p50", "gap_p50", 1], ["p99", "gap_p99", 3]]],
  ["Not completed, per second", count, [["upstream", UPSTREAM, 4], ["refused", "end_denied+end_limited+end_shed", 3], ["client", "end_client_gone", 1], ["relay", "end_drained+end_internal", 2]]],
  ["Request duration", time, [["p50", "duration_p50", 1], ["p99", "duration_p99", 3]]],
];
const HEIGHT = 148;
const tens = (_, splits) => splits.map((v) => (Math.abs(Math.log10(v) % 1) < 1e-6 || Math.abs(Math.log10(v) % 1) > 1 - 1e-6 ? v : null));

export class Charts {
  constructor(parent, history) {
    this.history = history;
    this.list = CHARTS.map(([title, format, series, log]) => {
      const figure = document.createElement("figure"), h3 = document.createElement("h3"), box = document.createElement("div");
      h3.textContent = title;
      box.className = "chart";
      box.setAttribute("role", "img");
      figure.append(h3, box);
      parent.append(figure);
      return { title, format, series, log, box, names: series.map((s) => s[1]) };
    });
    new ResizeObserver(() => this.resize()).observe(parent);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
  }

  build() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    for (const c of this.list) {
      c.plot?.destroy();
      const axis = { stroke: colour("muted"), font: "11px system-ui, sans-serif", grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
      c.plot = new uPlot({
        width: Math.max(c.box.clientWidth, 100), height: HEIGHT, pxAlign: 1, padding: [8, 16, 0, 0],
        cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "relay" } },
        scales: { y: c.log ? { distr: 3, range: (_, low, high) => (low > 0 ? [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high * 1.01))] : [1e-6, 1e-3]) }
          : { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
        axes: [
          { ...axis, size: 22, space: 48, incrs: [5, 10, 15, 30, 60, 120, 300], values: (_, ticks) => ticks.map((s) => clock(s, ticks.length > 1 && ticks[1] - ticks[0] < 60)) },
          c.log ? { ...axis, size: 50, filter: tens, grid: { ...axis.grid, filter: tens }, values: (_, ticks) => ticks.map((v) => (v === null ? "" : c.format(v))) }
            : { ...axis, size: 50, space: 26, values: (_, ticks) => ticks.map(c.format) },
        ],
        series: [{}, ...c.series.map(([label, , n, fill]) => ({
          label, stroke: colour("s" + n), width: 1.5, fill: fill ? colour("s" + n) + "22" : undefined, points: { show: false },
          spanGaps: false, value: (_, v) => (v === null ? "–" : c.format(v)),
        }))],
      }, [[], ...c.series.map(() => [])], c.box);
      c.plot.root.setAttribute("aria-hidden", "true"); // the box says it in words
    }
    this.draw();
  }

  resize() {
    for (const c of this.list) c.plot?.setSize({ width: Math.max(c.box.clientWidth, 100), height: HEIGHT });
  }

  // draw shows range seconds up to last.
  draw(range = this.range, last = this.last) {
    this.range = range;
    this.last = last;
    if (!range || !last) return;
    for (const c of this.list) {
      const values = this.history.view(c.names, range, last);
      c.plot.setData(values);
      if (c.plot.cursor.idx == null || c.plot.cursor.left < 0) c.plot.setLegend({ idx: range - 1 });
      const text = c.series.map(([label], i) => summary(label, values[i + 1], c.format)).join("; ");
      if (c.text !== text && (!c.text || last % 5 === 0)) c.box.setAttribute("aria-label", (c.text = text) && `${c.title}, last ${range / 60} min. ${text}`);
    }
  }
}

function summary(label, values, format) {
  const known = values.filter((v) => v !== null);
  if (!known.length) return `${label}: nothing yet`;
  return `${label}: now ${values.at(-1) === null ? "unknown" : format(values.at(-1))}, least ${format(Math.min(...known))}, most ${format(Math.max(...known))}`;
}

function clock(second, seconds) {
  const d = new Date(second * 1000), two = (n) => String(n).padStart(2, "0");
  return two(d.getHours()) + ":" + two(d.getMinutes()) + (seconds ? ":" + two(d.getSeconds()) : "");
}
