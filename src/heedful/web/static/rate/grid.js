import { el } from "../api.js";
import { choices } from "./choices.js";
import { t } from "../texts.js";

// A grid of small choices: rows are axes or rules, columns are responses.
export function grid(task, rows, options, changed) {
  const cells = rows.map((row) => task.responses.map((r) => choices(t("{name}, response {label}", { name: row.label, label: r.label }), options(row), changed)));
  const several = task.responses.length > 1;
  const node = el("div", { class: "grid" },
    rows.map((row, i) => el("fieldset", { class: "gridrow" }, el("legend", {}, row.label, row.hint ? el("span", { class: "hint" }, ` ${row.hint}`) : null),
      task.responses.map((r, k) => el("div", { class: "cell" }, several ? el("strong", { class: "tag" }, r.label) : null, cells[i][k].node)))));
  // Digits answer the first cell that is still empty, so that a whole grid is typed in one go.
  const key = (event) => {
    const flat = cells.flatMap((line, i) => line.map((cell) => [cell, rows[i]]));
    const focused = flat.find(([cell]) => cell.node.contains(document.activeElement));
    const target = focused ?? flat.find(([cell]) => cell.value() === null);
    if (!target) return false;
    const values = options(target[1]).map(([value]) => value);
    const pressed = options(target[1]).findIndex((o, i) => (o[3] ?? String(i + 1)) === event.key);
    if (pressed < 0) return false;
    target[0].pick(values[pressed]);
    // After the last one to what was chosen there: on another choice the space bar would take that one.
    const next = flat.find(([cell]) => cell.value() === null) ?? (focused && target);
    if (next) next[0].focus();
    return true;
  };
  const full = () => cells.flat().every((cell) => cell.value() !== null);
  return { node, cells, key, full, begun: () => !full() && cells.flat().some((cell) => cell.value() !== null) };
}
