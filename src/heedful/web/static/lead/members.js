// Who may come in, with which role, and how raters stand before the real work.
import { api, el, say, stack } from "../api.js";
import { $, attempt, fill, project } from "./common.js";

const PATH = `/api/projects/${project}`;
const ROLES = ["rater", "reviewer", "lead"];
const button = (text, onclick, kind = "quiet") => el("button", { type: "button", class: kind, onclick }, text);

// What was done is said when the page shows it.
async function change(request, done) {
  const value = await attempt(request);
  if (value && (await load())) say(done, "good");
}

const put = (who, values, done) => change(() => api("PUT", `${PATH}/members`, { who, ...values }), done);

function picked(label, value, choose, first = null) {
  return el("select", { "aria-label": label, onchange: (e) => choose(e.target.value) },
    first ? el("option", { value: "", selected: !value }, first) : null, ROLES.map((r) => el("option", { value: r, selected: r === value }, r)));
}

function standing(t, q) {
  if (!t) return "";
  const tries = t.attempt > 1 ? `, try ${t.attempt}` : "";
  const score = t.asked ? `${t.correct} of ${t.asked} right` : "";
  if (t.state === "training") return `in training, ${t.answered} of ${q.training}`;
  if (t.state === "asked") return `under way, ${t.answered} of ${q.questions}${tries}`;
  if (t.state === "granted") return `let in by a lead${score ? ` after ${score}` : ""}`;
  return [t.state, score && `: ${score}`, tries].filter(Boolean).join("");
}

function row(person, q) {
  const { member: m, trial: t } = person;
  const settle = (what, done) => change(() => api("POST", `${PATH}/members/${person.rater}/qualification`, { what }), done);
  const name = person.pseudonym;
  const open = t && ["training", "asked", "failed"].includes(t.state);
  return el("tr", {}, el("th", { scope: "row" }, name, m?.paused ? el("small", { class: "hint" }, " paused here") : null),
    el("td", {}, picked(`Role of ${name}`, m?.direct, (role) => (role ? put(person.rater, { role }, `${name} is a ${role} here.`) : remove(person)), "none")),
    el("td", {}, m?.groups.join(", ") ?? ""),
    el("td", { class: t?.state === "failed" ? "s2" : null }, standing(t, q)),
    el("td", {}, el("div", { class: "actions" },
      t?.state === "failed" ? button("Another try", () => settle("again", `${name} gets other questions.`)) : null,
      open ? button("Let them in", () => settle("pass", `${name} may go on to the real work.`)) : null,
      m?.paused ? button("Let go on", () => put(person.rater, { paused: false }, `${name} may go on here.`))
        : button("Pause here", () => put(person.rater, { paused: true }, `${name} is paused in this project.`), "bad"))));
}

const remove = (person) => change(() => api("DELETE", `${PATH}/members/${person.rater}`), `${person.pseudonym} is no member by themselves any more.`);

function group(g) {
  const give = (role) => change(() => api("PUT", `${PATH}/groups`, { group: g.id, role }), `${g.name}: ${role}.`);
  const take = () => change(() => api("DELETE", `${PATH}/groups/${g.id}`), `${g.name} has no role here any more.`);
  return el("tr", {}, el("th", { scope: "row" }, g.name), el("td", {}, picked(`Role of the group ${g.name}`, g.role, give)), el("td", { class: "number" }, String(g.people)), el("td", {}, button("Take away", take, "bad")));
}

const none = (columns, text) => [el("tr", {}, el("td", { colspan: columns, class: "hint" }, text))];

function draw(page) {
  const q = page.qualification;
  $("access").elements.access.value = page.access;
  const people = new Map();
  const at = (p) => people.get(p.rater) ?? people.set(p.rater, { rater: p.rater, pseudonym: p.pseudonym }).get(p.rater);
  for (const m of page.members) at(m).member = m;
  for (const t of q.people) at(t).trial = t;
  const rows = [...people.values()].sort((a, b) => a.pseudonym.localeCompare(b.pseudonym)).map((p) => row(p, q));
  stack($("members"), rows.length ? rows : none(5, page.access === "members" ? "Nobody yet: only owners see this project." : "Nobody has a role of their own; everybody in the workspace may rate."));
  stack($("groups"), page.groups.length ? page.groups.map(group) : none(4, "No group has a role here."));
  $("others").replaceChildren(...page.others.map((name) => el("option", { value: name })));
  $("give").hidden = !page.other_groups.length;
  const given = $("give").elements.group;
  given.replaceChildren(...page.other_groups.map((g) => el("option", { value: g.id, selected: g.id === given.value }, g.name)));
  const short = q.training + q.questions > q.gold;
  $("stock").textContent = `There are ${q.gold} gold questions, ${q.explained} of them with an explanation.` +
    (short ? ` ${q.training + q.questions} are needed for one rater's first try: import more under Files.` : "");
  $("stock").className = short ? "s2" : "hint";
  const fields = $("trials").elements;
  if (!$("trials").contains(document.activeElement)) {
    fields.training_questions.value = q.training;
    fields.qualification_questions.value = q.questions;
    fields.share.value = Math.round(100 * q.share);
  }
}

const load = () => fill($("table"), () => api("GET", `${PATH}/members`), draw);
const set = (settings, done) => change(() => api("PATCH", PATH, { settings }), done);

$("access").addEventListener("change", (event) => set({ access: event.target.value }, event.target.value === "members" ? "Only members and groups come in now." : "Everybody comes in now."));
$("trials").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  set({ training_questions: Number(form.get("training_questions")), qualification_questions: Number(form.get("qualification_questions")), qualification_share: Number(form.get("share")) / 100 }, "Saved.");
});
$("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  put(form.get("who").trim(), { role: form.get("role") }, `${form.get("who").trim()} is a ${form.get("role")} here.`);
  event.target.elements.who.value = "";
});
$("give").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  change(() => api("PUT", `${PATH}/groups`, { group: form.get("group"), role: form.get("role") }), "The group has this project.");
});

load();
