// Distribution of labels, whether length wins, and which model does.
import { el, stack } from "../api.js";
import { intervals, lines, number, percent, svg } from "../charts.js";
import { $, ask, attempt, fill, label } from "./common.js";

const STRENGTHS = ["a little better", "somewhat better", "better", "much better"];
const OUTCOMES = { answer: "one is better", tie: "tie", both_bad: "all are bad" };

function counted(title, items) {
  const maximum = Math.max(1, ...items.map((i) => i[1]));
  return el("div", {}, el("h3", {}, title), el("div", { class: "bars", role: "list" }, items.flatMap(([name, n]) => [
    el("span", { role: "listitem" }, String(name)),
    svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: (100 * n) / maximum, height: 10 })),
    el("span", {}, number(n))])));
}

function draw({ kinds, length, used, most }) {
  const parts = Object.values(kinds).flatMap((k) => {
    const title = `${k.question || label(k.kind)}, ${number(k.answers)} answer${k.answers === 1 ? "" : "s"}`;
    const charts = [];
    if (k.strengths) {
      const { first, second, unsaid } = k.strengths;
      const steps = [...first.map((n, i) => [`shown first: ${STRENGTHS[i]}`, n]).reverse(), ...second.map((n, i) => [`shown second: ${STRENGTHS[i]}`, n])];
      if (unsaid[0] + unsaid[1]) steps.push(["shown first, no strength given", unsaid[0]], ["shown second, no strength given", unsaid[1]]);
      steps.push(["tie", k.outcomes.tie ?? 0], ["both are bad", k.outcomes.both_bad ?? 0]);
      charts.push(counted(title, steps));
    } else if (k.outcomes) charts.push(counted(title, Object.entries(OUTCOMES).map(([o, name]) => [name, k.outcomes[o] ?? 0])));
    for (const [axis, counts] of Object.entries(k.axes ?? {})) charts.push(counted(`${title}: ${axis}`, counts));
    for (const [rule, counts] of Object.entries(k.rules ?? {})) charts.push(counted(`${title}: ${rule}`, counts.map(([v, n]) => [v ? "kept" : "broken", n])));
    if (!charts.length) charts.push(el("h3", {}, title));
    return charts;
  });
  const basis = el("p", { class: "hint" }, `Of the newest ${number(Math.min(used, most))} answers.`);
  $("labels").replaceChildren(...(parts.length ? [...parts, basis] : [el("p", { class: "hint" }, "No answers yet.")]));
  let lower = 1;
  const bins = length.bins.map((b) => {
    const name = b.most ? `longer by ${lower.toFixed(1)} to ${b.most.toFixed(1)} ×` : `longer by over ${lower.toFixed(1)} ×`;
    lower = b.most ?? lower;
    return { ...b, name, note: `n ${b.n}` };
  });
  intervals($("length"), "How often the longer response won", [{ ...length, name: "all", note: `n ${length.n}` }, ...bins], { reference: 0.5 });
}

const load = () => {
  const rater = $("rater").value;
  return fill($("labels"), () => ask(`labels${rater ? `?rater=${rater}` : ""}`), draw);
};
$("rater").addEventListener("change", load);
load();

attempt(() => ask("raters")).then((report) => report && $("rater").append(...report.raters.map((r) => el("option", { value: r.rater }, r.pseudonym))));

attempt(() => ask("probes")).then((report) => {
  if (!report?.rules.length) return;
  $("probes").hidden = false;
  const rows = report.rules.flatMap((rule) => rule.models.map((of) => ({ ...of, rule, model: of.model || "all models" })));
  intervals($("broken"), "How often a rule was broken", rows.map((of) => ({ ...of, name: `${of.rule.code}, ${of.model}`, note: `n ${of.talks}` })));
  stack($("broken-rules"), rows.map((of) => el("tr", {}, el("th", { scope: "row", title: of.rule.text }, of.rule.code), el("td", { class: "wrap" }, of.model), el("td", { class: "number" }, number(of.talks)), el("td", { class: "number" }, percent(of.value)),
    el("td", {}, of.value === null ? "–" : `${percent(of.low)} to ${percent(of.high)}`), el("td", { class: "number" }, number(of.unsure)), el("td", { class: "number" }, `${number(of.replies.broken)} of ${number(of.replies.broken + of.replies.kept)}`))));
});

fill($("models"), () => ask("win-rates"), (rates) => {
  intervals($("models"), "Win rate of each model", rates.models.map((m) => ({ ...m, name: m.model, note: `n ${m.n}` })), { reference: 0.5 });
  const rated = rates.models.filter((m) => m.elo !== null).sort((a, b) => b.elo - a.elo);
  const ends = rated.flatMap((m) => m.elo_ci);
  // Whole hundreds around all of them, the mean in the middle.
  const away = 100 * Math.ceil(Math.max(100, ...ends.map((x) => Math.abs(x - 1000))) / 100);
  intervals($("elo"), "Elo of each model", rated.map((m) => ({ name: m.model, value: m.elo, low: m.elo_ci[0], high: m.elo_ci[1], note: `n ${m.n}` })), {
    low: 1000 - away, high: 1000 + away, reference: 1000, write: (v) => v.toFixed(0),
  });
  const rounds = new Set(rates.rounds.map((r) => r.round));
  const byRound = rounds.size > 1;
  const rows = byRound ? rates.rounds : rates.weeks;
  const names = [...new Set(rows.map((r) => r.model))];
  const series = names.map((name) => ({ name, points: rows.filter((r) => r.model === name).map((r) => [byRound ? r.round : r.week, r.value, r.low, r.high]) }));
  $("time-title").textContent = byRound ? "Round by round" : "Over time";
  lines($("time"), byRound ? "Win rates by round" : `Win rates by week, at most ${number(rates.a_week)} answers of each`, series, {
    x: byRound ? (v) => String(v) : (v) => new Date(v * 1000).toLocaleDateString(undefined, { month: "short", day: "numeric" }),
  });
});
