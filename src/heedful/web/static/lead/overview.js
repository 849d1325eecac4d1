// How much came in, what is left, what it cost, and where every judgment went. Fresh every half minute.
import { day, el } from "../api.js";
import { bars, number, svg } from "../charts.js";
import { $, ask, fill } from "./common.js";
import { alerts } from "./alerts.js";
import "./watch.js";

const WAYS = {
  counted: "counted", late: "late: after its lease, and filled the slot", surplus: "surplus: its slot had been filled",
  superseded: "corrected later", skipped: "skipped", flagged: "flagged",
};
const STATES = { done: "answered", leased: "on a rater's screen", open: "open", parked: "need review", closed: "closed" };

function figure(name, value, note) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value, el("small", {}, note ?? "")));
}

function days(hours, now, n) {
  const names = [];
  const counts = new Map();
  for (let k = n - 1; k >= 0; k--) {
    const name = new Date((now - k * 86400) * 1000).toLocaleDateString(undefined, { month: "short", day: "numeric" });
    names.push(name);
    counts.set(name, 0);
  }
  for (const [hour, count] of hours) {
    const name = new Date(hour * 3600_000).toLocaleDateString(undefined, { month: "short", day: "numeric" });
    if (counts.has(name)) counts.set(name, counts.get(name) + count);
  }
  return names.map((name) => [name, counts.get(name)]);
}

function draw(o) {
  alerts($("alerts"), o.alerts, load);
  const total = Object.values(o.wanted).reduce((a, b) => a + b, 0);
  $("figures").replaceChildren(
    figure("Answers that count", number(o.answers)),
    figure("Still wanted", number(o.end.left), total ? `of ${number(total)}` : ""),
    figure("Pace", number(o.end.a_day, 1), "a day"),
    figure("Needs review", number(o.parked_tasks)),
    figure("Raters' time", number(o.cost.hours, 1), "hours"),
    figure("Cost", number(o.cost.total), o.cost.an_answer ? `${number(o.cost.an_answer, 3)} an answer` : ""),
  );
  bars($("throughput"), "Answers a day in the last 30 days", days(o.hours, o.at, o.days));
  let x = 0;
  const colour = { done: "s0", leased: "s1", open: "s5", parked: "s2", closed: "s3" };
  const meter = svg("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none", role: "img", "aria-label": "Answers wanted by state" },
    Object.keys(STATES).map((s) => {
      const width = total ? (100 * o.wanted[s]) / total : 0;
      const rect = svg("rect", { x, y: 0, width, height: 4, class: colour[s], fill: "currentColor" });
      x += width;
      return rect;
    }));
  $("wanted").replaceChildren(el("div", { class: "meter chart" }, meter),
    el("ul", { class: "legend" }, Object.entries(STATES).map(([s, name]) => el("li", { class: colour[s] }, `${number(o.wanted[s])} ${name}`))));
  $("end").textContent = o.end.at ? `At this pace the last one is answered on ${day(o.end.at)}.` : "";
  const rows = Object.entries(WAYS).map(([way, name]) => [name, o.ways[way]]);
  rows.push(["stored in all", o.stored]);
  $("ways").replaceChildren(...rows.map(([name, n]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "number" }, number(n)))));
}

const load = () => fill($("figures"), () => ask("overview"), draw);
load();
setInterval(() => document.visibilityState === "visible" && load(), 30_000);
