// Numbers as people read them.

const digits = (v) => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2)).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");

export function count(v) {
  if (v == null || Number.isNaN(v)) return "–";
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (v >= limit) return digits(v / (unit === "k" ? 1e3 : limit)) + " " + unit;
  }
  return v >= 100 || Number.isInteger(v) ? Math.round(v).toLocaleString("en") : digits(v);
}

export const whole = (v) => (v == null ? "–" : Math.round(v).toLocaleString("en"));

export function time(s) {
  if (s == null || Number.isNaN(s)) return "–";
  if (s === 0) return "0";
  if (s < 1e-3) return digits(s * 1e6) + " µs";
  if (s < 1) return digits(s * 1e3) + " ms";
  if (s < 120) return digits(s) + " s";
  return span(s);
}

// span is of longer times: 3 min, 2 h 5 min, 4 d 2 h.
export function span(s) {
  s = Math.max(0, Math.round(s));
  if (s < 120) return s + " s";
  const m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  if (h < 1) return m + " min";
  if (d < 1) return h + " h " + (m % 60) + " min";
  return d + " d " + (h % 24) + " h";
}

export function bytes(v) {
  for (const [limit, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) if (v >= limit) return digits(v / limit) + " " + unit;
  return count(v) + " B";
}

export function share(part, all) {
  if (!(all > 0)) return "–";
  const p = (part / all) * 100;
  return p === 0 ? "0 %" : p < 0.01 ? "< 0.01 %" : digits(p) + " %";
}
