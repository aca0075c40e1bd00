// The page: follows the relay's events and shows them.
import { follow, Unauthorized } from "./stream.js";
import { History, Charts } from "./charts.js";
import { $, upstreams, tenants, models, ends, log, keys, tiles, problems, stale, Requests } from "./tables.js";
import { span } from "./format.js";

const TOKEN = "relay-token";
const history_ = new History(), requests = new Requests();
let charts, latest, heard = 0, started, live = false;

// What the page shows of it all stands in the fragment, so that it can be
// passed on; the token never does.
const view = { q: "", show: "", range: 300 };

function readFragment() {
  const f = new URLSearchParams(location.hash.slice(1));
  view.q = f.get("q") ?? "";
  view.show = [...$("show").options].some((o) => o.value === f.get("show")) ? f.get("show") : "";
  view.range = [60, 300, 900].includes(Number(f.get("range"))) ? Number(f.get("range")) : 300;
  $("q").value = view.q;
  $("show").value = view.show;
  for (const r of document.getElementsByName("range")) r.checked = Number(r.value) === view.range;
  draw();
}

function writeFragment() {
  const f = new URLSearchParams();
  if (view.q) f.set("q", view.q);
  if (view.show) f.set("show", view.show);
  if (view.range !== 300) f.set("range", view.range);
  history.replaceState(null, "", String(f) ? "#" + f : location.pathname + location.search);
  draw();
}

function onEvent(name, s) {
  if (name === "state") {
    const again = started !== undefined && started !== s.relay.started;
    started = s.relay.started;
    history_.merge(s.history);
    requests.replace(s.requests, again ? Date.parse(started) : 0);
  } else {
    for (let k = s.seconds - 1; k >= 0; k--) history_.put(s.time - k, s.point);
    requests.add(s.requests);
  }
  latest = s;
  heard = performance.now();
  if (!document.hidden) draw();
}

// draw shows what is known. A relay that is lost leaves a growing gap.
function draw() {
  if (!latest) return;
  if (!charts) {
    $("login").hidden = true;
    $("body").hidden = false;
    charts = new Charts($("charts"), history_);
    charts.build();
  }
  const now = latest.time + Math.floor((performance.now() - heard) / 1000);
  charts.draw(view.range, live ? latest.time : now);
  requests.draw(view.q, view.show);
  if (!live) return stale(latest.time);
  const r = latest.relay;
  $("identity").textContent = `${r.version} (${r.revision}), pid ${r.pid}, up ${span(now - Date.parse(r.started) / 1000)}`;
  problems(latest);
  tiles(latest);
  upstreams(latest.upstreams);
  tenants(latest.tenants);
  models(latest.models);
  ends(latest.totals, latest.point);
  log(latest.log, now);
  keys(latest.keys, r, now);
}

function onState(state, why) {
  live = state === "live";
  const pill = $("link"), text = live ? "live" : `reconnecting: ${why}`;
  document.body.classList.toggle("lost", !live);
  if (pill.textContent !== text) {
    pill.textContent = text;
    pill.className = "pill " + (live ? "ok" : "wait");
  }
}

async function run(token) {
  $("forget").hidden = !token;
  try {
    await follow(token, onEvent, onState);
  } catch (error) {
    if (!(error instanceof Unauthorized)) throw error;
    sessionStorage.removeItem(TOKEN);
    $("forget").hidden = true;
    $("body").hidden = true;
    $("login").hidden = false;
    $("link").textContent = "a token is wanted";
    $("link").className = "pill wait";
    $("login-error").textContent = token ? "The relay does not take this token." : "";
    $("token").focus();
  }
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  $("token").value = "";
  // What cannot stand in a header is no token.
  if (!/^[\x21-\x7e]+$/.test(token)) {
    $("login-error").textContent = "A token has no blanks, and no letters beyond ASCII.";
    return;
  }
  sessionStorage.setItem(TOKEN, token);
  $("login").hidden = true;
  if (charts) $("body").hidden = false;
  run(token);
});
$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  location.reload();
});
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("q").addEventListener("input", () => { view.q = $("q").value; writeFragment(); });
$("show").addEventListener("change", () => { view.show = $("show").value; writeFragment(); });
$("range").addEventListener("change", (event) => { view.range = Number(event.target.value); writeFragment(); });
$("pause").addEventListener("click", () => {
  requests.paused = !requests.paused;
  requests.drawn = "";
  $("pause").setAttribute("aria-pressed", requests.paused);
  draw();
});
addEventListener("hashchange", () => location.hash !== "#requests" && readFragment());
document.addEventListener("visibilitychange", () => document.hidden || draw());
setInterval(() => !live && !document.hidden && draw(), 1000);

readFragment();
run(sessionStorage.getItem(TOKEN) ?? "");
