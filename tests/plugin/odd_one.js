// Which of three differs?
import { choices } from "../choices.js";

export const keys = [["1 2 3", "A, B or C differs"]];

export function widget(task, changed) {
  const which = choices("Which one differs?", task.responses.map((r, place) => [place, r.label, `${r.label} differs`]), changed);
  return {
    node: which.node,
    value: () => (which.value() === null ? null : { odd: which.value() }),
    set: (answer) => which.set(answer.odd ?? null),
    key: (event) => {
      if (!/^[1-3]$/.test(event.key)) return false;
      which.pick(Number(event.key) - 1);
      return true;
    },
  };
}
