// Is A closer to B or to C? What is alike, not what is better.
import { el } from "../../api.js";
import { choices } from "../choices.js";
import { t } from "../../texts.js";

export const keys = [["1 b", t("B is closer to A")], ["2 c", t("C is closer to A")], ["3 t", t("nobody can tell")]];
const KEYS = { 1: 1, b: 1, 2: 2, c: 2, 3: "tie", t: "tie" };

export function widget(task, changed) {
  const asked = t("Is A closer to B or to C?");
  const option = (value, key, words) => [value, el("span", {}, el("kbd", {}, key), " ", words), words];
  const which = choices(asked, [option(1, "1", t("B is closer")), option(2, "2", t("C is closer")), option("tie", "3", t("Can’t tell"))], changed);
  return {
    node: el("div", {}, el("p", { class: "asked", "aria-hidden": "true" }, asked), which.node),
    value: () => (which.value() === null ? null : which.value() === "tie" ? { tie: true } : { closer: which.value() }),
    set: (answer) => which.set(answer.tie ? "tie" : (answer.closer ?? null)),
    key: (event) => {
      if (!(event.key in KEYS)) return false;
      which.pick(KEYS[event.key]);
      return true;
    },
  };
}
