// Is it good or bad?
import { grid } from "../grid.js";
import { t } from "../../texts.js";

export const keys = [["1 2 3", t("good, neither, bad: the next empty one")]];

export function widget(task, changed) {
  const options = () => [[1, t("Good"), null, "1"], [0, t("Neither"), null, "2"], [-1, t("Bad"), null, "3"]];
  const board = grid(task, [{ label: t("Is it good?") }], options, changed);
  return {
    node: board.node,
    key: board.key,
    begun: board.begun,
    value: () => (board.full() ? { thumbs: board.cells[0].map((c) => c.value()) } : null),
    set: (answer) => board.cells[0].forEach((cell, k) => cell.set(answer.thumbs?.[k] ?? null)),
  };
}
