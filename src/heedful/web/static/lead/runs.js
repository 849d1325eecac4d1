// The workspace's runs; those that go on move while one looks.
import { api, day, el, link } from "../api.js";
import { number } from "../charts.js";
import { $, fill } from "./common.js";

function row(r) {
  return el("tr", {}, el("th", { scope: "row" }, el("a", { href: link(`/runs/${r.id}`) }, r.name)), el("td", {}, el("span", { class: `state ${r.state}` }, r.state)),
    el("td", { class: "number" }, r.step === null ? "" : number(r.step)), el("td", { class: "number" }, r.seconds === null ? "" : number(r.seconds, 1)), el("td", {}, day(r.changed_at)),
    el("td", {}, r.report ? el("a", { href: link(`/runs/${r.id}`) }, "report") : ""));
}

const load = () => fill($("runs"), () => api("GET", "/api/runs"), (runs) =>
  $("runs").replaceChildren(...(runs.length ? runs.map(row) : [el("tr", {}, el("td", { colspan: "6", class: "hint" }, "No run yet. Give heedful train an --out in this folder."))])));
load();
setInterval(() => document.visibilityState === "visible" && load(), 5_000);
