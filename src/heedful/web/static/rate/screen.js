// Several questions about the same responses, as one widget: each kind's own, in a list. One question has the keys.
import { el } from "../api.js";
import { t } from "../texts.js";

export const keys = [
  ["↑ ↓", t("the question before, the next one")],
  ["1 … 9", t("answer the question that is marked")],
];
const ARROWS = { ArrowUp: -1, ArrowDown: 1 };
// Where arrows have a meaning already: in texts, in sliders and lists, and where responses are moved.
const TAKEN = "textarea, input, select, .rankrow, [contenteditable]";

export function widget(task, changed, kinds) {
  let current = 0;
  let ready = false;
  const parts = task.questions.map((question, i) => {
    const part = { question, place: el("div", { class: "place" }), done: el("span", { class: "done", "aria-hidden": "true" }) };
    const title = question.title || question.name;
    part.clear = question.required ? null : el("button", { type: "button", class: "quiet small", "aria-label": t("Clear: {title}", { title }), onclick: () => {
      draw(part);
      told();
    } }, t("Clear"));
    part.node = el("section", { class: "qcard", role: "group", tabindex: "-1", "aria-label": question.required ? title : t("{title} (optional)", { title }), "data-name": question.name,
      onfocusin: () => mark(i), onpointerdown: () => mark(i) },
      el("header", {}, part.done, el("h2", {}, title), question.required ? null : el("span", { class: "hint" }, t("optional")), part.clear),
      question.help ? el("p", { class: "hint" }, question.help) : null, part.place);
    draw(part);
    return part;
  });
  const node = el("div", { class: "questions" }, parts.map((part) => part.node));
  // Before radios take them: from question to question is farther than from choice to choice, which ← and → do as well.
  node.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.target.closest(TAKEN)) return;
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    event.stopPropagation();
    move(ARROWS[event.key]);
  }, true);

  function draw(part) {
    const { question } = part;
    part.widget = kinds[question.kind].widget({ ...task, kind: question.kind, options: question.options, title: question.title || question.name }, told);
    part.place.replaceChildren(part.widget.node);
  }
  function answerOf({ widget: own }) {
    const value = own.value();
    return value === null || own.enough?.(value) === false ? null : value;
  }
  // Half an answer would be lost without a word: it is finished, or cleared.
  const half = (part) => answerOf(part) === null && Boolean(part.widget.begun?.());
  const open = (part) => half(part) || (part.question.required && answerOf(part) === null);
  const answers = () => Object.fromEntries(parts.map((part) => [part.question.name, answerOf(part)]).filter(([, value]) => value !== null));

  function told() {
    if (!ready) return; // while they are made
    for (const part of parts) {
      const answered = answerOf(part) !== null;
      part.node.classList.toggle("answered", answered);
      part.done.textContent = answered ? "✓" : "";
      if (part.clear) part.clear.hidden = !answered && !half(part);
    }
    changed();
  }
  function mark(i) {
    current = i;
    parts.forEach((part, k) => part.node.classList.toggle("current", k === i));
  }
  function go(i) {
    mark(i);
    const { node: section, place } = parts[i];
    const first = place.querySelector("textarea, button, select, input, [tabindex='0']");
    (first?.matches("textarea") ? first : section).focus({ preventScroll: true });
    section.scrollIntoView({ block: "nearest" });
  }
  const move = (step) => go(Math.min(parts.length - 1, Math.max(0, current + step)));

  ready = true;
  mark(0);
  for (const part of parts) if (part.clear) part.clear.hidden = true;
  return {
    node,
    value: () => (parts.some(open) || !Object.keys(answers()).length ? null : answers()),
    draft: answers,
    set: (answer) => {
      for (const part of parts) if (part.question.name in answer) part.widget.set(answer[part.question.name]);
      told();
    },
    wanted: () => {
      const first = parts.find(open);
      if (!first) return Object.keys(answers()).length ? "" : t("Answer a question, or skip.");
      const title = first.question.title || first.question.name;
      return half(first) && !first.question.required ? t("Finish or clear: {title}", { title }) : t("Still open: {title}", { title });
    },
    next: () => {
      const i = parts.findIndex(open);
      if (i >= 0) go(i);
    },
    key: (event) => {
      if (event.key in ARROWS) move(ARROWS[event.key]);
      else return parts[current].widget.key(event);
      return true;
    },
  };
}
