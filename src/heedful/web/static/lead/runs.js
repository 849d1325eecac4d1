// The workspace's runs; those that go on move while one looks.
import { api, day, el, link, stack } from "../api.js";
import { number } from "../charts.js";
import { $, fill } from "./common.js";

const MOST = 6; // as many colours as curves have
const chosen = new Set();
function choose(id, on) {
  if (on) chosen.add(id);
  else chosen.delete(id);
  $("overlay").disabled = chosen.size < 2 || chosen.size > MOST;
  $("overlay").textContent = chosen.size > MOST ? `Curves of at most ${MOST} runs together` : "Curves of the chosen runs together";
}
$("overlay").addEventListener("click", () => {
  const [first, ...others] = chosen;
  location.assign(link(`/runs/${first}?${new URLSearchParams(others.map((id) => ["with", id]))}`));
});

function row(r) {
  return el("tr", {}, el("td", {}, r.metrics ? el("input", { type: "checkbox", "aria-label": `Choose ${r.name}`, checked: chosen.has(r.id), onchange: (event) => choose(r.id, event.target.checked) }) : ""),
    el("th", { scope: "row" }, el("a", { href: link(`/runs/${r.id}`) }, r.name)), el("td", {}, el("span", { class: `state ${r.state}` }, r.state)),
    el("td", { class: "number" }, r.step === null ? "" : number(r.step)), el("td", { class: "number" }, r.seconds === null ? "" : number(r.seconds, 1)), el("td", {}, day(r.changed_at)),
    el("td", {}, r.report ? el("a", { href: link(`/runs/${r.id}`) }, "report") : ""));
}

const load = () => fill($("runs"), () => api("GET", "/api/runs"), (runs) =>
  !document.activeElement?.matches("#runs input") && stack($("runs"), runs.length ? runs.map(row) : [el("tr", {}, el("td", { colspan: "7", class: "hint" }, "No run yet: runs whose --out is in this folder appear here."))]));
load();
setInterval(() => document.visibilityState === "visible" && load(), 5_000);
