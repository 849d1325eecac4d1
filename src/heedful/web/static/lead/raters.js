// A row for everybody who answers.
import { day, el, stack } from "../api.js";
import { number, percent } from "../charts.js";
import { $, ask, fill } from "./common.js";

function share(s, { worry } = {}) {
  if (!s.n) return el("td", { class: "hint" }, "–");
  const bad = worry && worry(s);
  return el("td", {}, el("span", { class: bad ? "s2" : null }, percent(s.value)), el("br"), el("small", { class: "hint" }, `${percent(s.low)} to ${percent(s.high)}, n ${s.n}`));
}

function row(r) {
  const aside = r.skipped + r.flagged;
  return el("tr", {},
    el("th", { scope: "row" }, r.pseudonym, el("br"), el("small", { class: "hint" }, [r.role, r.status === "active" ? null : r.status, r.paused ? "paused here" : null].filter(Boolean).join(", "))),
    el("td", { class: "number" }, number(r.answers), r.surplus ? el("small", { class: "hint" }, ` +${r.surplus} surplus`) : null),
    el("td", { class: "number" }, aside ? `${r.skipped} skipped, ${r.flagged} flagged` : "0"),
    el("td", { class: "number" }, number(r.seconds, 1)),
    share(r.gold, { worry: (s) => s.high < 0.8 }),
    share(r.others),
    share(r.swaps, { worry: (s) => s.high < 0.8 }),
    share(r.first, { worry: (s) => s.low > 0.5 || s.high < 0.5 }),
    share(r.ties),
    el("td", {}, r.last_at ? day(r.last_at) : "–"));
}

fill($("raters"), () => ask("raters"), (report) => {
  stack($("rows"), report.raters.length ? report.raters.map(row) : [el("tr", {}, el("td", { colspan: "10", class: "hint" }, "Nobody has answered yet."))]);
  $("basis").textContent = `Shares are of the newest answers: ${number(report.recent)} of all raters together, ${number(report.gold_each)} gold questions each, ${number(report.shared_tasks)} questions that several answered. Red: the whole interval is below 80 % (gold, swapped), or to one side of one half (first).`;
});
