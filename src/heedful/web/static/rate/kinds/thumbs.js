// Is it good or bad?
import { grid } from "../grid.js";

export const keys = [["1 2 3", "good, neither, bad: the next empty one"]];

export function widget(task, changed) {
  const options = () => [[1, "👍 Good", "Thumb up", "1"], [0, "🤷 Neither", "Neither", "2"], [-1, "👎 Bad", "Thumb down", "3"]];
  const board = grid(task, [{ label: "Is it good?" }], options, changed);
  return {
    node: board.node,
    key: board.key,
    begun: board.begun,
    value: () => (board.full() ? { thumbs: board.cells[0].map((c) => c.value()) } : null),
    set: (answer) => board.cells[0].forEach((cell, k) => cell.set(answer.thumbs?.[k] ?? null)),
  };
}
