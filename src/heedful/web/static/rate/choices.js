import { el } from "../api.js";

// Buttons of which one is chosen: a radio group to screen readers, arrows move through it.
export function choices(label, options, changed) {
  let chosen = null;
  const buttons = options.map(([value, text, hint], i) =>
    el("button", { type: "button", role: "radio", class: "choice", "aria-checked": "false", tabindex: i ? "-1" : "0", "data-value": String(value), "aria-label": hint, title: hint,
      onclick: () => pick(value) }, text));
  const node = el("div", { role: "radiogroup", "aria-label": label, class: "choices",
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const index = buttons.indexOf(document.activeElement);
      const next = (index + step + buttons.length) % buttons.length;
      pick(options[next][0]);
      buttons[next].focus();
    } }, buttons);
  function show(value) {
    chosen = value;
    buttons.forEach((button, i) => {
      const on = options[i][0] === value;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on || (value === null && i === 0) ? 0 : -1;
    });
  }
  function pick(value) {
    show(value);
    changed();
  }
  return { node, value: () => chosen, set: show, pick, focus: () => (buttons.find((b) => b.tabIndex === 0) ?? buttons[0]).focus() };
}
