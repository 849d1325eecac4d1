// A project's questions: found by what is asked for, acted upon together, each with its whole history.
import { api, day, el, link, say } from "../api.js";
import { number } from "../charts.js";
import { $, ask, attempt, fill, label, project, question, review } from "./common.js";
import { download } from "./download.js";
import { line } from "./history.js";

const form = $("find");
const act = $("act");
const NAMES = ["text", "state", "rater", "answer", "where", "model", "differ"];
const STATES = { open: "open", aside: "set aside", withdrawn: "withdrawn", done: "done", gold: "gold", repetition: "repetition" };
let filter = {}; // what is shown, not what is being typed
let next = null;
let total = null;
const chosen = new Set();

function read() {
  const values = Object.fromEntries(NAMES.map((name) => [name, name === "differ" ? form.elements.differ.checked : form.elements[name].value.trim()]));
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value));
}

// For the query of a request, where metadata may stand several times, parted by spaces.
function query(more = {}) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...filter, ...more }))
    for (const one of name === "where" ? value.split(/\s+(?=\w+=)/) : [value]) found.append(name, one);
  return found;
}

const body = () => ({ ...filter, ...(filter.where ? { where: filter.where.split(/\s+(?=\w+=)/) } : {}) });

// A text with the words that were looked for marked.
function marked(text) {
  const words = [...(filter.text ?? "").matchAll(/"([^"]+)"|(\S+)/g)].map((m) => m[1] ?? m[2]);
  if (!words.length) return text;
  const pattern = new RegExp(`(${words.map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
  return text.split(pattern).map((part, i) => (i % 2 ? el("mark", {}, part) : part));
}

function row(task) {
  const box = el("input", { type: "checkbox", "aria-label": "Select this question", onchange: () => {
    if (box.checked) chosen.add(task.task);
    else chosen.delete(task.task);
    ready();
  } });
  const place = el("div", { class: "told", hidden: true });
  const open = el("button", { type: "button", class: "quiet small", "aria-expanded": "false", onclick: () => toggle(open, place, task.task) }, "Open");
  const models = [...new Set(task.responses.map((r) => r.model).filter(Boolean))];
  const said = [label(task.kind), `${task.answers} of ${task.wanted} answers`, task.declined ? `${task.declined} skipped or flagged` : "", task.round ? `round ${task.round}` : "", models.join(", "), day(task.created_at)];
  return el("li", { class: "card", "data-task": task.task },
    el("div", { class: "head" }, box, el("span", { class: `state ${task.state}` }, STATES[task.state]), el("span", { class: "hint" }, said.filter(Boolean).join(" · ")), open),
    el("p", { class: "excerpt", dir: "auto" }, marked(task.prompt) || "(empty)"),
    task.responses.length ? el("ul", { class: "excerpts" }, task.responses.map((r) => el("li", { dir: "auto" }, marked(r.text) || "(empty)"))) : null, place);
}

async function toggle(button, place, task) {
  const on = place.hidden;
  place.hidden = !on;
  button.textContent = on ? "Close" : "Open";
  button.setAttribute("aria-expanded", String(on));
  if (!on) return;
  await fill(place, () => api("GET", `/api/tasks/${task}`), (told) => {
    const facts = [`asked of ${told.wanted}`, told.source && `source ${told.source}`, told.language && `language ${told.language}`, `split ${told.split}`, `chosen by ${told.strategy}`].filter(Boolean);
    place.replaceChildren(question(told, { facts, below: [
      el("h3", {}, "History"),
      el("ol", { class: "events" }, told.events.length ? told.events.map((event) => line(event, told)) : el("li", { class: "hint" }, "Nobody has seen it yet.")),
      el("div", { class: "actions" }, el("button", { type: "button", class: "quiet", onclick: () => review(told) }, "Judge it myself")),
    ] }));
  });
}

function ready() {
  const everything = $("all-matching").checked;
  const n = everything ? total : chosen.size;
  const button = act.querySelector("button");
  button.disabled = !n;
  button.textContent = n ? `Apply to ${number(n)}` : "Apply";
  act.elements.number.hidden = !["overlap", "ask_again"].includes(act.elements.action.value);
}

async function count() {
  const asked = JSON.stringify(filter);
  $("total").textContent = "Counting…";
  total = null;
  const told = await attempt(() => ask(`questions/count?${query()}`));
  if (!told || asked !== JSON.stringify(filter)) return;
  total = told.total;
  $("total").textContent = `${number(total)} ${total === 1 ? "question matches" : "questions match"}`;
  $("models").replaceChildren(...told.models.map((name) => el("option", { value: name })));
  ready();
}

function show(more) {
  const asked = query(more && next ? { after: next } : {});
  return fill($("questions"), () => ask(`questions?${asked}`), (page) => {
    if (!more) {
      $("questions").replaceChildren();
      chosen.clear(); // a box that was ticked while the answer was on its way is no longer on screen
    }
    next = page.next;
    $("older").hidden = !next;
    $("questions").append(...page.tasks.map(row));
    if (!$("questions").children.length) $("questions").append(el("li", { class: "hint" }, "No question matches."));
    $("all-shown").checked = false;
    ready();
  });
}

async function find() {
  filter = read();
  chosen.clear();
  $("all-matching").checked = false;
  const words = String(query());
  history.replaceState(null, "", words ? `?${words}` : location.pathname);
  ready();
  count();
  await show(false);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  find();
});
$("older").addEventListener("click", () => show(true));
$("all-shown").addEventListener("change", (event) => {
  for (const item of $("questions").querySelectorAll("li[data-task]")) {
    item.querySelector("input").checked = event.target.checked;
    if (event.target.checked) chosen.add(item.dataset.task);
    else chosen.delete(item.dataset.task);
  }
  ready();
});
$("all-matching").addEventListener("change", ready);
act.elements.action.addEventListener("change", ready);

act.addEventListener("submit", async (event) => {
  event.preventDefault();
  const action = act.elements.action.value;
  const everything = $("all-matching").checked;
  const which = everything ? { filter: body(), expect: total } : { tasks: [...chosen] };
  if (action === "export") return void attempt(() => download("POST", `/api/projects/${project}/questions/export`, "judgments.jsonl", which));
  const n = everything ? total : chosen.size;
  if (n > 1 && !confirm(`${act.elements.action.selectedOptions[0].textContent}: ${n} questions?`)) return;
  const done = await attempt(() => api("POST", `/api/projects/${project}/questions/act`, { action, ...which, number: act.elements.number.hidden ? null : Number(act.elements.number.value) }));
  if (!done) return;
  await find();
  say(`${number(done.tasks)} questions, ${number(done.answers)} answers wanted changed.${done.left_out ? ` ${number(done.left_out)} gold questions and repetitions were left as they are.` : ""}`, "good");
});

const given = new URLSearchParams(location.search);
for (const name of NAMES) {
  if (!given.has(name)) continue;
  if (name === "differ") form.elements.differ.checked = true;
  else form.elements[name].value = given.getAll(name).join(" ");
  if (!["text", "state"].includes(name)) $("more-filters").open = true;
}
attempt(() => api("GET", "/api/raters")).then((raters) => $("raters").replaceChildren(...(raters ?? []).map((r) => el("option", { value: r.pseudonym }))));
find();
