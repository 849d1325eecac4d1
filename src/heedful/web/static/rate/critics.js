// What a model says against a response, for who asks: plain words beside it, marked as a machine's.
import { api, el, say } from "../api.js";
import { t } from "../texts.js";

// {buttons, words, ask()} of a question: by place a button or null, and where the words appear. `ask` asks for all.
export function critics(task) {
  const there = task.critiques ?? task.responses.map(() => ({ there: false }));
  const words = there.map((c, i) => c.there ? el("div", { class: "critic", role: "note", "aria-live": "polite", "aria-label": t("A model's critique of {label}", { label: task.responses[i].label }), tabindex: "-1", hidden: true }) : null);
  const buttons = there.map((c, i) => c.there ? el("button", { type: "button", class: "quiet small", "aria-label": t("What does a model say against {label}?", { label: task.responses[i].label }), onclick: () => ask(i, true) }, t("Critique"), " ", el("kbd", {}, "m")) : null);
  function show(i) {
    buttons[i].hidden = true;
    words[i].hidden = false;
    words[i].replaceChildren(el("strong", {}, t("A model's critique of {label}", { label: task.responses[i].label })), el("span", { class: "hint" }, ` ${t("It may be wrong.")}`), el("p", { dir: "auto" }, there[i].text));
  }
  async function ask(i, pressed = false) {
    if (!there[i].there || there[i].text !== null || buttons[i].disabled) return;
    buttons[i].disabled = true;
    try {
      there[i].text = (await api("POST", `/api/assignments/${encodeURIComponent(task.assignment)}/critiques/${i}`)).text; // kept with the question: it is there again after an undo
      show(i);
      if (pressed) words[i].focus();
    } catch (problem) {
      say(problem.error, "bad");
    }
    buttons[i].disabled = false;
  }
  there.forEach((c, i) => c.there && c.text !== null && show(i));
  return { buttons, words, ask: () => Promise.all(there.map((_, i) => ask(i))) };
}
