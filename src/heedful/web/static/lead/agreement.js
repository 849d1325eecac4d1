// How far raters agree, and where they do not.
import { day, el, stack } from "../api.js";
import { intervals, number, percent } from "../charts.js";
import { $, ask, attempt, fill, label, list, question, review } from "./common.js";
import { answerText } from "./history.js";

const name = (m) => `${m.question || label(m.kind)}${m.of ? ` · ${m.of}` : ""}`;

fill($("alpha"), () => ask("agreement"), ({ measures, tasks, most }) => {
  intervals($("alpha"), `α of ${number(tasks)} questions that several raters answered (the newest ${number(most)} at most)`,
    measures.map((m) => ({ name: `${name(m)}, ${m.who}`, ...m })), { low: Math.min(0, ...measures.map((m) => m.low ?? 0)), high: 1, reference: 0, write: (v) => v.toFixed(2) });
  $("measures").replaceChildren(...measures.map((m) => el("tr", {}, el("td", {}, m.who), el("th", { scope: "row" }, name(m)), el("td", {}, m.level),
    el("td", { class: "number" }, number(m.value)), el("td", {}, m.low === null ? (m.why ?? "–") : `${number(m.low)} to ${number(m.high)}`), el("td", { class: "number" }, number(m.units)), el("td", { class: "number" }, number(m.raters)))));
  if (!measures.length) $("measures").replaceChildren(el("tr", {}, el("td", { colspan: "7", class: "hint" }, "No question has been answered by two raters yet.")));
});

const counted = ({ n, value, ci }) => (value === null ? "–" : `${percent(value)} [${percent(ci[0])}, ${percent(ci[1])}] of ${number(n)}`);
attempt(() => ask("rated-alike")).then((report) => {
  if (!report?.axes.length) return;
  $("alike").hidden = false;
  stack($("axes"), report.axes.map((of) => el("tr", {}, el("th", { scope: "row" }, of.axis), ...[of.wins, of.equal, of.compared, of.rated].map((share) => el("td", { class: "number" }, counted(share))))));
});

// Each in a line that opens; the first is open. Twenty long pairs one below the other are a page that nobody reads.
let drawn = 0;
const text = (html) => new DOMParser().parseFromString(html, "text/html").body.textContent.trim();
function folded(task) {
  const excerpt = text(task.prompt.at(-1)?.html ?? "").slice(0, 160);
  const facts = [`disagreement ${number(task.score)}`, `${task.answers.length} answers`, task.reviewed ? "reviewed" : null].filter(Boolean);
  return el("details", { class: "folded", open: drawn++ === 0 }, el("summary", {}, el("span", { class: "excerpt", dir: "auto" }, excerpt || label(task.kind)), el("span", { class: "hint" }, facts.join(" · "))), asked(task));
}

list((after) => ask(`disagreements?after=${after}`), folded);

const asked = (task) =>
  question(task, {
    below: [
      el("div", { class: "scroll" }, el("table", {}, el("caption", { class: "hidden" }, "Answers"), el("tbody", {}, task.answers.map((a) => el("tr", {}, el("th", { scope: "row" }, a.rater, a.review ? " (review)" : ""), el("td", {}, answerText(a) || task.kind), el("td", {}, day(a.at))))))),
      el("div", { class: "actions" }, task.reviewed ? null : el("button", { type: "button", class: "quiet", onclick: () => review(task) }, "Judge it myself")),
    ],
  });
