// Scores on named axes: buttons, or sliders where a scale is fine.
import { el } from "../../api.js";
import { grid } from "../grid.js";
import { t } from "../../texts.js";

export const keys = [["0 … 9", t("the value of the next empty scale")]];

export function widget(task, changed) {
  const steps = (a) => Array.from({ length: Math.floor((a.high - a.low) / a.step + 1e-9) + 1 }, (_, i) => Number((a.low + i * a.step).toFixed(6)));
  const fine = task.options.axes.some((a) => steps(a).length > 11);
  if (fine) return sliders(task, changed);
  const rows = task.options.axes.map((a) => ({ ...a, label: a.name, hint: a.low_label || a.high_label ? `${a.low_label || a.low} … ${a.high_label || a.high}` : "" }));
  const board = grid(task, rows, (row) => steps(row).map((v) => [v, String(v), `${row.name}: ${v}`, String(v)]), changed);
  return {
    node: board.node,
    key: board.key,
    begun: board.begun,
    value: () => (board.full() ? { scores: Object.fromEntries(rows.map((row, i) => [row.name, board.cells[i].map((c) => c.value())])) } : null),
    set: (answer) => rows.forEach((row, i) => board.cells[i].forEach((cell, k) => cell.set(answer.scores?.[row.name]?.[k] ?? null))),
  };
}

function sliders(task, changed) {
  const touched = new Set();
  const lines = task.options.axes.map((axis) =>
    task.responses.map((r) => {
      const shown = el("output", {}, "–");
      const input = el("input", { type: "range", min: axis.low, max: axis.high, step: axis.step, "aria-label": t("{name}, response {label}", { name: axis.name, label: r.label }) });
      const note = () => {
        touched.add(input);
        shown.textContent = input.value;
        changed();
      };
      input.addEventListener("input", note);
      input.addEventListener("pointerup", note); // on the middle, where it stands already
      return { input, shown, label: r.label };
    }));
  const node = el("div", { class: "grid" }, task.options.axes.map((axis, i) =>
    el("fieldset", { class: "gridrow" }, el("legend", {}, axis.name, el("span", { class: "hint" }, ` ${axis.low_label || axis.low} … ${axis.high_label || axis.high}`)),
      lines[i].map((l) => el("div", { class: "cell slide" }, el("strong", { class: "tag" }, l.label), l.input, l.shown)))));
  return {
    node,
    key: () => false,
    begun: () => touched.size > 0 && touched.size < lines.flat().length,
    value: () => (touched.size === lines.flat().length ? { scores: Object.fromEntries(task.options.axes.map((a, i) => [a.name, lines[i].map((l) => Number(l.input.value))])) } : null),
    set: (answer) => task.options.axes.forEach((a, i) => lines[i].forEach((l, k) => {
      const value = answer.scores?.[a.name]?.[k];
      if (value === undefined || value === null) return;
      l.input.value = value;
      touched.add(l.input);
      l.shown.textContent = l.input.value;
    })),
  };
}
