// A run's curves, one for each metric, growing as lines are logged.
import { api, el } from "../api.js";
import { lines, number } from "../charts.js";
import { $, attempt } from "./common.js";

const run = document.querySelector('meta[name="run"]').content;
const MOST = 400; // points drawn of each curve
const EVERY = 2_000;
let rows = [];
let next = 0;
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

function draw(state) {
  const names = [...new Set(rows.flatMap((r) => Object.keys(r)))].filter((n) => n !== "step" && n !== "seconds");
  for (const name of names) {
    const points = rows.filter((r) => Number.isFinite(r[name])).map((r, i) => [r.step ?? i, r[name]]);
    if (points.length) lines(place(name), `${name} by step`, [{ name, points: thin(points) }], { height: 170, x: (v) => number(v, 0) });
  }
  const last = rows.at(-1);
  $("last").textContent = last ? `Step ${number(last.step)}, after ${number(last.seconds, 1)} seconds.` : "Nothing logged yet.";
  $("state").textContent = state;
  $("state").className = `state ${state}`;
  $("curves").removeAttribute("aria-busy");
}

async function look() {
  const update = document.visibilityState === "visible" ? await attempt(() => api("GET", `/api/runs/${run}/metrics?after=${next}`)) : null;
  if (update) {
    if (update.restarted) rows = [];
    rows.push(...update.rows);
    const grown = update.rows.length > 0 || update.restarted;
    next = update.next;
    if (grown || $("state").textContent !== update.state || $("curves").hasAttribute("aria-busy")) draw(update.state);
    if (update.rows.length > 5000) return look();
  }
  setTimeout(look, EVERY);
}
look();
