// The questions of a project's screen: a list that is put together by forms, with the raters' own widgets beside it.
import { api, el } from "../api.js";
import * as panels from "../rate/panels.js";
import * as screen from "../rate/screen.js";
import { $, attempt, fill, project } from "./common.js";

const data = $("designing").dataset;
const KINDS = JSON.parse(data.kinds); // name: {label, does, options, least, most}
const STARTERS = JSON.parse(data.starters);
const WIDGETS = Object.fromEntries(await Promise.all(Object.keys(KINDS).map(async (name) => [name, await import(`../rate/kinds/${name}.js`)])));
const SAMPLES = ["Lima is the capital of Peru; it lies on the Pacific coast.", "I am not sure. Cusco, perhaps?", "Lima.", "Peru has had several capitals. Today it is Lima.", "Quito.", "There is none."];
const AXIS = { name: "", low: 1, high: 5, step: 1, low_label: "", high_label: "" };
const RULE = { code: "", text: "" };
let questions = [];
let view = null;
let saved = ""; // what the server has, as JSON

// ── the forms ────────────────────────────────────────────────────────────────────────────────────

function field(target, name, label, attributes = {}) {
  const number = attributes.type === "number";
  return el("label", {}, label, el("input", { value: target[name], dir: "auto", ...attributes, oninput: (event) => {
    target[name] = number ? Number(event.target.value) : event.target.value;
    changed();
  } }));
}

// Rows of an option: axes or rules.
function rows(list, fresh, what, line) {
  const place = el("div", { class: "rowsof" });
  const draw = () => place.replaceChildren(...list.map((one, i) => el("div", { class: `oneof ${what}` }, line(one),
    el("button", { type: "button", class: "quiet small", "aria-label": `Remove ${what} ${i + 1}`, disabled: list.length === 1, onclick: () => {
      list.splice(i, 1);
      draw();
      changed();
    } }, "✕"))));
  draw();
  return el("fieldset", {}, el("legend", {}, { axis: "Scales", rule: "Rules" }[what]), place, el("button", { type: "button", class: "quiet small", onclick: () => {
    list.push({ ...fresh });
    draw();
    changed();
    place.lastElementChild.querySelector("input").focus();
  } }, { axis: "Add a scale", rule: "Add a rule" }[what]));
}

const OPTIONS = {
  axes: (options) => rows(options.axes, AXIS, "axis", (axis) => [field(axis, "name", "Name", { required: true, maxlength: 200 }), ...["low", "high", "step"].map((name) => field(axis, name, { low: "From", high: "To", step: "Step" }[name], { type: "number", step: "any", required: true })),
    field(axis, "low_label", "Low end means", { maxlength: 200 }), field(axis, "high_label", "High end means", { maxlength: 200 })]),
  rules: (options) => rows(options.rules, RULE, "rule", (rule) => [field(rule, "code", "Short name", { required: true, maxlength: 200 }), field(rule, "text", "What raters read", { required: true, maxlength: 5000 })]),
};
const FRESH = { axes: () => [{ ...AXIS, name: "quality" }], rules: () => [{ code: "polite", text: "It is polite." }] };
const freshOptions = (kind) => Object.fromEntries(KINDS[kind].options.filter((name) => FRESH[name]).map((name) => [name, FRESH[name]()]));

function newName(kind) {
  const taken = questions.map((q) => q.name);
  for (let i = 1; ; i += 1) {
    const name = i === 1 ? kind : `${kind}${i}`;
    if (!taken.includes(name)) return name;
  }
}

function design(question, i) {
  const heading = el("h3", { dir: "auto" });
  const buttons = [];
  question.rename = () => {
    heading.textContent = `${i + 1}. ${question.title || question.name}`;
    for (const node of buttons) node.setAttribute("aria-label", `${node.title}: ${question.title || question.name}`);
  };
  const kind = el("select", { onchange: (event) => {
    question.kind = event.target.value;
    question.options = freshOptions(question.kind);
    draw();
    $("list").children[i].querySelector("select").focus();
  } }, Object.entries(KINDS).map(([name, k]) => el("option", { value: name, selected: name === question.kind }, `${k.label}: ${k.does}`)));
  const button = (text, title, off, act) => buttons[buttons.push(el("button", { type: "button", class: "quiet small", title, disabled: off, onclick: act }, text)) - 1];
  const swap = (step) => () => {
    [questions[i], questions[i + step]] = [questions[i + step], questions[i]];
    draw();
    const [up, down] = $("list").children[i + step].querySelectorAll("header button");
    ((step < 0 && !up.disabled) || down.disabled ? up : down).focus();
  };
  const node = el("li", { class: "design" },
    el("header", {}, heading, button("↑", "Move up", i === 0, swap(-1)), button("↓", "Move down", i === questions.length - 1, swap(1)), button("✕", "Remove", false, () => {
      questions.splice(i, 1);
      draw();
      $("add").focus();
    })),
    el("label", {}, "What raters do", kind),
    field(question, "title", "What raters read above it", { maxlength: 500 }),
    el("div", { class: "two" }, field(question, "help", "Help, in small letters", { maxlength: 5000 }), field(question, "name", "Name in answers and exports", { required: true, pattern: "[A-Za-z][A-Za-z0-9_\\-]{0,39}", title: "a letter, then letters, digits, _ and -", dir: "ltr" })),
    ...KINDS[question.kind].options.filter((name) => OPTIONS[name]).map((name) => OPTIONS[name](question.options)),
    el("label", { class: "inline" }, el("input", { type: "checkbox", checked: question.required, onchange: (event) => {
      question.required = event.target.checked;
      changed();
    } }), " must be answered"));
  question.rename();
  return node;
}

function draw() {
  $("list").replaceChildren(...questions.map(design));
  changed();
}

// ── the preview ──────────────────────────────────────────────────────────────────────────────────

const span = () => [Math.max(0, ...questions.map((q) => KINDS[q.kind].least)), Math.min(12, ...questions.map((q) => KINDS[q.kind].most))];

function preview() {
  view?.close();
  view = null;
  const [least, most] = span();
  const clash = questions.length > 0 && least > most;
  $("shows").textContent = !questions.length ? "Nothing is asked yet."
    : clash ? `These cannot share a screen: ${questions.map((q) => `${q.title || q.name} takes ${KINDS[q.kind].least === KINDS[q.kind].most ? KINDS[q.kind].least : `${KINDS[q.kind].least} to ${KINDS[q.kind].most}`} responses`).join(", ")}.`
    : least === most ? `${least} response${least === 1 ? "" : "s"} on a screen.` : `${least} to ${most} responses on a screen.`;
  $("shows").classList.toggle("wrong", clash);
  if (!questions.length || clash) return $("sample-answer").replaceChildren(), $("sample").replaceChildren();
  const number = Math.min(most, Math.max(least, 2), SAMPLES.length);
  const responses = SAMPLES.slice(0, number).map((text, i) => ({ label: "ABCDEF"[i], text, html: `<p>${text}</p>` }));
  const task = { assignment: "preview", kind: "screen", responses, options: {}, turns: [], questions: structuredClone(plain()) };
  view = panels.responses($("sample"), responses, () => {}, $("sample-foot"));
  $("sample-answer").replaceChildren(screen.widget(task, () => {}, WIDGETS).node);
}

let waiting;
function changed() {
  for (const question of questions) question.rename?.();
  $("saved").textContent = JSON.stringify(plain()) === saved ? "" : "Not saved yet.";
  clearTimeout(waiting);
  waiting = setTimeout(preview, 150);
}

// ── in and out ───────────────────────────────────────────────────────────────────────────────────

const plain = () => questions.map(({ name, kind, options, required, title, help }) => ({ name, kind, options, required, title, help }));
const taken = (list) => structuredClone(list).map((q) => ({ required: true, title: "", help: "", ...q, options: { ...freshOptions(q.kind), ...q.options } }));

$("add-kind").append(...Object.entries(KINDS).map(([name, k]) => el("option", { value: name }, `${k.label}: ${k.does}`)));
$("add").addEventListener("click", () => {
  const kind = $("add-kind").value;
  questions.push({ name: newName(kind), kind, options: freshOptions(kind), required: true, title: "", help: "" });
  draw();
  $("list").lastElementChild.querySelector("input").focus();
});
$("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  const starter = STARTERS[new FormData(event.target).get("starter")];
  questions = taken(starter?.questions ?? []);
  draw();
});
$("screen").addEventListener("submit", async (event) => {
  event.preventDefault();
  const changedTo = await attempt(() => api("PATCH", `/api/projects/${project}`, { settings: { questions: plain() } }), "Saved. What is imported from now on is asked so.");
  if (!changedTo) return;
  saved = JSON.stringify(plain());
  changed();
});
addEventListener("beforeunload", (event) => JSON.stringify(plain()) !== saved && event.preventDefault());

fill($("screen"), () => api("GET", `/api/projects/${project}`), (details) => {
  questions = taken(details.settings.questions);
  saved = JSON.stringify(plain());
  for (const button of document.querySelectorAll("#designing button[disabled]")) button.disabled = false; // before, what was taken or added would be overwritten
  draw();
});
