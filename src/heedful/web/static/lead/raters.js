// A row for everybody who answers.
import { api, day, el, stack } from "../api.js";
import { number, percent } from "../charts.js";
import { $, ask, attempt, fill, project } from "./common.js";

function share(s, { worry } = {}) {
  if (!s.n) return el("td", { class: "hint" }, "–");
  const bad = worry && worry(s);
  return el("td", {}, el("span", { class: bad ? "s2" : null }, percent(s.value)), el("br"), el("small", { class: "hint" }, `${percent(s.low)} to ${percent(s.high)}, n\u00a0${s.n}`));
}

function row(r) {
  const aside = r.skipped + r.flagged;
  return el("tr", {},
    el("th", { scope: "row" }, r.pseudonym, el("br"), el("small", { class: "hint" }, [r.role, r.status === "active" ? null : r.status, r.paused ? "paused here" : null, r.withdrawn ? "withdrawn" : null].filter(Boolean).join(", "))),
    el("td", { class: "number" }, number(r.answers), r.surplus ? el("small", { class: "hint" }, ` +${r.surplus} surplus`) : null),
    el("td", { class: "number" }, aside ? `${r.skipped} skipped, ${r.flagged} flagged` : "0"),
    el("td", { class: "number" }, number(r.seconds, 1)),
    share(r.gold, { worry: (s) => s.high < 0.8 }),
    share(r.others),
    share(r.swaps, { worry: (s) => s.high < 0.8 }),
    share(r.first, { worry: (s) => s.low > 0.5 || s.high < 0.5 }),
    share(r.ties),
    el("td", {}, r.last_at ? day(r.last_at) : "–"),
    el("td", {}, el("button", { type: "button", class: "quiet small", onclick: () => take(r) }, r.withdrawn ? "Put back" : "Take out")));
}

// Neither exported nor asked; the judgments stay.
async function take(r) {
  const withdrawn = !r.withdrawn;
  if (await attempt(() => api("PUT", `/api/projects/${project}/members/${r.rater}/withdrawn`, { withdrawn }), withdrawn ? `Nothing that ${r.pseudonym} has said is exported now.` : `What ${r.pseudonym} has said is exported again.`)) {
    list();
    elsewhere();
  }
}

const list = () => fill($("raters"), () => ask("raters"), (report) => {
  stack($("rows"), report.raters.length ? report.raters.map(row) : [el("tr", {}, el("td", { colspan: "11", class: "hint" }, "Nobody has answered yet."))]);
  $("basis").textContent = `Shares are of the newest answers: ${number(report.recent)} of all raters together, ${number(report.gold_each)} gold questions each, ${number(report.shared_tasks)} questions that several answered. Red: the whole interval is below 80 % (gold, swapped), or to one side of one half (first).`;
});
list();

// ── what withdrawn answers are still in
const heldRow = (h) => el("tr", {}, el("th", { scope: "row" }, `${h.kind} `, el("code", {}, h.name)), el("td", { class: "number" }, h.answers === null ? "–" : number(h.answers)), el("td", {}, h.why), el("td", {}, h.do));
const elsewhere = () => fill($("held"), () => ask("withdrawn"), ({ held }) => {
  $("withdrawn").hidden = !held.length;
  stack($("held"), held.map(heldRow));
});
elsewhere();

// ── who can be relied on: fitted by a process of its own, asked for until it is done
const EVERY = 2_000;
const signed = (x) => `${x < -0.05 ? "−" : "+"}${number(Math.abs(x), 1)}`;
const within = (e, form, bad) => el("td", {}, el("span", { class: bad ? "s2" : null }, form(e.value)), el("br"), el("small", { class: "hint" }, `${form(e.low)} to ${form(e.high)}`));
const habit = (e) => within(e, signed, e.low > 0.5 || e.high < -0.5);

function relied(r) {
  return el("tr", {},
    el("th", { scope: "row" }, r.rater),
    el("td", { class: "number" }, number(r.comparisons)),
    within(r.reliability, percent, r.reliability.high < 0.5),
    habit(r.place), habit(r.length),
    el("td", {}, r.before.n && r.after.n ? `${percent(r.before.value)}, ${percent(r.after.value)}` : "–"),
    el("td", { class: "number" }, number(r.seconds, 1)),
    el("td", { class: "number" }, number(r.weight)),
    el("td", {}, r.advice.length ? r.advice.map((sentence) => el("p", {}, `${sentence}.`)) : el("span", { class: "hint" }, "nothing")));
}

const gone = (n) => (n ? ` ${n === 1 ? "One of the raters has" : `${number(n)} of the raters have`} withdrawn since, and no line here; what is said of the others still rests on those answers, too, until it is fitted again.` : "");

// what is told of a fit: when it was made, of how much; why a later one failed
const when = (fit, of, withdrawn) => (fit.made_at ? `Fitted to ${of}, ${day(fit.made_at)}, version ${fit.version}.${gone(withdrawn)}` : "Not fitted yet.");
const state = (fit, told) => (fit.running ? `Being fitted… ${fit.made_at ? told : ""}` : fit.why ? `${fit.why} ${fit.made_at ? told : ""}` : told);

// of an axis: how often each rater says a label where it is true
function axisTable(name, { classes, shares, items, raters }) {
  const label = (c) => number(c);
  const row = (r) => el("tr", {}, el("th", { scope: "row" }, r.rater), el("td", { class: "number" }, number(r.labels)),
    ...r.says.map((said, c) => el("td", { class: "number" }, percent(said[c]))),
    el("td", { class: "number" }, number(r.weight)), el("td", { class: "number" }, r.gold[1] ? `${r.gold[0]} of ${r.gold[1]}` : "–"));
  const table = el("table", { class: "stack" },
    el("caption", {}, `${name}: ${number(items)} responses, of which ${classes.map((c, k) => `${percent(shares[k])} are ${label(c)}`).join(", ")}`),
    el("thead", {}, el("tr", {}, ["Rater", "Labels", ...classes.map((c) => `Says ${label(c)} where it is`), "Weight", "Gold right"].map((title, k) => el("th", { scope: "col", class: k ? "number" : null }, title)))), el("tbody"));
  stack(table.querySelector("tbody"), raters.map(row));
  return el("div", { class: "scroll" }, table);
}

function shown(report) {
  const { labels } = report;
  const begun = labels.running || labels.made_at || labels.why;
  $("fitted").textContent = state(report, when(report, `${number(report.comparisons)} comparisons`, report.withdrawn));
  $("labelled").textContent = begun ? `Thumbs, rules and ratings: ${state(labels, when(labels, "what was said of single responses", 0))}` : "";
  $("reliability").hidden = Boolean(labels.made_at && !report.made_at); // nobody compares anything here
  $("fit").disabled = report.running || labels.running;
  stack($("relied"), report.raters.length ? report.raters.map(relied) : [el("tr", {}, el("td", { colspan: "9", class: "hint" }, "Nothing has been fitted yet."))]);
  $("axes").replaceChildren(...Object.entries(labels.axes).map(([name, axis]) => axisTable(name, axis)));
  if (report.running || labels.running) setTimeout(refresh, EVERY);
}
const refresh = () => fill($("reliability"), () => ask("reliability"), shown);
$("fit").addEventListener("click", async () => {
  if (await attempt(() => api("POST", `/api/projects/${project}/reliability`, {}))) refresh();
});
refresh();

// ── what suggestions do
const signedShare = (x) => `${x < 0 ? "−" : "+"}${percent(Math.abs(x))}`;
const gap = (d) => (d === null ? el("td", { class: "hint" }, "–") : el("td", {}, el("span", { class: d.low > 0 || d.high < 0 ? "s2" : null }, signedShare(d.value)), el("br"), el("small", { class: "hint" }, `${signedShare(d.low)} to ${signedShare(d.high)}`)));
const effectRow = (name, e) => el("tr", {}, el("th", { scope: "row" }, name), share(e.shown), share(e.hidden), gap(e.difference));

const secondsRow = (e) => el("tr", {}, el("th", { scope: "row" }, "Seconds each"), el("td", {}, number(e.seconds.shown, 1)), el("td", {}, number(e.seconds.hidden, 1)), el("td", {}));

function effectTable(source, columns, rows) {
  const table = el("table", { class: "stack" }, el("caption", {}, source),
    el("thead", {}, el("tr", {}, ["", ...columns, "Difference"].map((title) => el("th", { scope: "col" }, title)))), el("tbody"));
  stack(table.querySelector("tbody"), rows);
  return el("div", { class: "scroll" }, table);
}

const bySource = (sources) => sources.map((s) => `${s.source}${s.version ? `, version ${s.version}` : ""}: ${number(s.questions)} questions`).join("; ");
const basis = (newest) => `Of the newest ${number(newest)} answers of people, gold questions apart; 95 % intervals (Wilson, Newcombe); red: beyond what chance explains.`;
const effectOf = (e) => effectTable(e.source, ["Shown", "Hidden"], [effectRow("Say what it suggests", e.agrees), effectRow("Gold questions right", e.gold_right), effectRow("Gold right, where it is wrong", e.misled), secondsRow(e), ...e.raters.map((r) => effectRow(r.rater, r))]);

fill($("effects"), () => ask("suggestions"), ({ sources, effects, newest }) => {
  $("suggestions").hidden = !sources.length;
  $("effects").replaceChildren(...effects.map(effectOf));
  $("suggested").textContent = `${bySource(sources)}. ${effects.length ? basis(newest) : "Nobody has answered with them yet; under Settings you choose whose raters see."}`;
});

// ── what critiques do
const askedRow = (name, asked) => el("tr", {}, el("th", { scope: "row" }, name), share(asked), el("td", { class: "hint" }, "–"), el("td", { class: "hint" }, "–"));
const criticEffect = (e) => effectTable(e.source, ["Could ask", "Could not"], [askedRow("Asked for one", e.asked), effectRow("Agree with most of the others", e.agrees), effectRow("Gold questions right", e.gold_right), secondsRow(e), ...e.raters.flatMap((r) => [askedRow(`${r.rater} asked`, r.asked), effectRow(`${r.rater}: gold right`, r.gold_right)])]);

fill($("critic-effects"), () => ask("critiques"), ({ sources, effects, newest }) => {
  $("critiques").hidden = !sources.length;
  $("critic-effects").replaceChildren(...effects.map(criticEffect));
  $("criticised").textContent = `${bySource(sources)}. ${effects.length ? basis(newest) : "Nobody has answered with them yet; under Settings you choose whose raters can ask for."}`;
});
