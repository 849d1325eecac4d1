// A run's curves, one for each metric, growing as lines are logged; those of others (`?with=`) in the same pictures.
import { api, el, link } from "../api.js";
import { lines, number } from "../charts.js";
import { $, attempt } from "./common.js";

const MOST = 400; // points drawn of each curve
const EVERY = 2_000;
const own = document.querySelector('meta[name="run"]').content;
const runs = [own, ...new URLSearchParams(location.search).getAll("with")].slice(0, 6).map((id) => ({ id, name: id, rows: [], next: 0 }));
const several = runs.length > 1;
const places = new Map();

function place(name) {
  if (!places.has(name)) {
    const chart = el("div", { class: "chart" });
    places.set(name, chart);
    $("curves").append(el("section", { class: "card" }, el("h3", {}, name.replaceAll("_", " ")), chart));
  }
  return places.get(name);
}

function thin(points) {
  const step = Math.ceil(points.length / MOST);
  return step > 1 ? points.filter((_, i) => i % step === 0 || i === points.length - 1) : points;
}

const curve = (run, name) => ({ name: several ? run.name : name, colour: several ? runs.indexOf(run) : undefined, points: thin(run.rows.filter((r) => Number.isFinite(r[name])).map((r, i) => [r.step ?? i, r[name]])) });

function draw(state) {
  const names = [...new Set(runs.flatMap((run) => run.rows.flatMap((r) => Object.keys(r))))].filter((n) => n !== "step" && n !== "seconds");
  for (const name of names) {
    const series = runs.map((run) => curve(run, name)).filter((s) => s.points.length);
    if (series.length) lines(place(name), `${name} by step`, series, { height: several ? 220 : 170, x: (v) => number(v, 0) });
  }
  const last = runs[0].rows.at(-1);
  $("last").textContent = last ? `Step ${number(last.step)}, after ${number(last.seconds, 1)} seconds.` : "Nothing logged yet.";
  $("state").textContent = state;
  $("state").className = `state ${state}`;
  $("curves").removeAttribute("aria-busy");
}

// What has been logged since; whether there is more to draw.
async function more(run) {
  const update = await attempt(() => api("GET", `/api/runs/${run.id}/metrics?after=${run.next}`));
  if (!update) return false;
  if (update.restarted) run.rows = [];
  run.rows.push(...update.rows);
  run.next = update.next;
  run.state = update.state;
  return (update.rows.length > 5000 && (await more(run))) || update.rows.length > 0 || update.restarted;
}

async function look() {
  if (document.visibilityState === "visible") {
    const grown = await Promise.all(runs.map(more));
    const { state } = runs[0];
    if (state && (grown.some(Boolean) || $("state").textContent !== state || $("curves").hasAttribute("aria-busy"))) draw(state);
  }
  setTimeout(look, EVERY);
}

if (several) {
  const all = await attempt(() => api("GET", "/api/runs"));
  for (const run of runs) run.name = all?.find((r) => r.id === run.id)?.name ?? run.id;
  $("last").after(el("p", {}, "Together: ", runs.map((run, i) => [i ? ", " : "", el("a", { href: link(`/runs/${run.id}`) }, run.name)])));
}
look();
