// Which of two is better, and by how much: a scale of eight steps.
import { el } from "../../api.js";
import { choices } from "../choices.js";
import { t } from "../../texts.js";

export const keys = [
  ["1 … 8", t("1–4: A is better, 5–8: B is better; further out is surer")],
  ["t b", t("tie, both are bad")],
];
const STRENGTH = [t("much better"), t("better"), t("somewhat better"), t("a little better")];

export function widget(task, changed) {
  const sides = [...STRENGTH.map((s) => t("A is {s}", { s })), ...[...STRENGTH].reverse().map((s) => t("B is {s}", { s }))];
  const options = sides.map((hint, i) => [i + 1, el("span", {}, el("kbd", {}, String(i + 1)), el("span", { class: "words" }, hint)), hint]);
  const scale = choices(t("Which is better, and by how much?"), [
    ...options,
    ["tie", el("span", {}, el("kbd", {}, "t"),  " ", t("Tie")), t("Tie: equally good")],
    ["both_bad", el("span", {}, el("kbd", {}, "b"), " ", t("Both bad")), t("Both are bad")],
  ], () => {
    tell();
    changed();
  });
  scale.node.classList.add("scale");
  // Where the buttons have no room for words, those of the chosen one stand above them.
  const words = el("span", { class: "chosen-words" });
  const ends = el("div", { class: "ends hint", "aria-hidden": "true" }, el("span", {}, t("← A is better")), words, el("span", {}, t("B is better →")));
  function tell() {
    words.textContent = typeof scale.value() === "number" ? sides[scale.value() - 1] : "";
  }
  return {
    node: el("div", {}, ends, scale.node),
    value: () => (scale.value() === null ? null : typeof scale.value() === "number" ? { value: scale.value() } : { [scale.value()]: true }),
    set: (answer) => {
      scale.set(answer.value ?? (answer.tie ? "tie" : answer.both_bad ? "both_bad" : null));
      tell();
    },
    key: (event) => {
      if (/^[1-8]$/.test(event.key)) scale.pick(Number(event.key));
      else if (event.key === "t") scale.pick("tie");
      else if (event.key === "b") scale.pick("both_bad");
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        const now = typeof scale.value() === "number" ? scale.value() : null;
        const right = event.key === "ArrowRight";
        scale.pick(now === null ? (right ? 5 : 4) : Math.min(8, Math.max(1, now + (right ? 1 : -1))));
      } else return false;
      return true;
    },
  };
}
