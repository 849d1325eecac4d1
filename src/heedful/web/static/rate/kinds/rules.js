// Is each rule kept?
import { grid } from "../grid.js";
import { t } from "../../texts.js";

export const keys = [["1 2 3", t("yes, no, does not apply: the next empty one")]];

export function widget(task, changed) {
  // null is an answer here ("does not apply"), so that the widget needs another word for it.
  const options = () => [["yes", t("Yes"), t("Yes, it keeps the rule"), "1"], ["no", t("No"), t("No, it breaks the rule"), "2"], ["na", t("n/a"), t("The rule does not apply"), "3"]];
  const verdicts = { yes: true, no: false, na: null };
  const choice = (v) => (v === true ? "yes" : v === false ? "no" : "na");
  const rows = task.options.rules.map((r) => ({ label: r.text, code: r.code }));
  const board = grid(task, rows, options, changed);
  return {
    node: board.node,
    key: board.key,
    begun: board.begun,
    value: () => (board.full() ? { rules: Object.fromEntries(rows.map((row, i) => [row.code, board.cells[i].map((c) => verdicts[c.value()])])) } : null),
    set: (answer) => answer.rules && rows.forEach((row, i) => board.cells[i].forEach((cell, k) => cell.set(choice(answer.rules[row.code]?.[k])))),
  };
}
