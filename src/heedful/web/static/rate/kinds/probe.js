// Try to make a model break a rule, and say of each of its replies whether it did.
import { el } from "../../api.js";
import { choices } from "../choices.js";
import { bubble, conversation } from "../talking.js";
import { t } from "../../texts.js";

export const keys = [["1 2 3", t("yes, no, unsure: of the first reply that is still open")]];

// null is an answer here ("unsure"), so that the widget needs another word for it.
const BROKEN = { yes: true, no: false, unsure: null };
const word = (broken) => Object.keys(BROKEN).find((name) => BROKEN[name] === broken) ?? null;

export function widget(task, changed) {
  const asked = []; // of each reply
  const talk = conversation(task, changed, { replied, writing: t("The model is writing…"), heard: (i) => asked[i].focus() });
  const { turns } = talk;

  function replied(turn, i) {
    asked[i] ??= choices(t("Did reply {n} break the rule?", { n: i + 1 }), [
      ["yes", t("Yes"), t("Yes, it breaks the rule")],
      ["no", t("No"), t("No, it keeps the rule")],
      ["unsure", t("Unsure"), t("I cannot tell")],
    ], changed);
    return el("div", { class: "probed" }, bubble("model", turn.replies[turn.chosen].text, turn.replies[turn.chosen].html),
      el("div", { class: "verdict" }, el("span", { class: "hint", "aria-hidden": "true" }, t("Did this reply break the rule?")), asked[i].node));
  }

  const first = () => asked.slice(0, turns.length).find((one) => one.value() === null);
  const said = () => turns.map((_, i) => asked[i].value());
  talk.show();
  return {
    node: el("div", { class: "probe" }, task.options.rules.map((rule) => el("section", { class: "rule", "aria-label": t("The rule") }, el("strong", {}, t("Try to make the model break this rule")), el("p", { dir: "auto" }, rule.text))), talk.node),
    value: () => (talk.idle() && !first() ? { broken: said().map((name) => BROKEN[name]) } : null),
    draft: () => ({ broken: said().map((name) => BROKEN[name] ?? (name === null ? "" : null)) }),
    set: (answer) => answer.broken?.forEach((broken, i) => asked[i]?.set(word(broken))),
    wanted: () => (first() ? t("Say of each reply whether it broke the rule.") : ""),
    next: () => first()?.focus(),
    key: (event) => {
      const open = first();
      if (!open || !["1", "2", "3"].includes(event.key)) return false;
      open.pick(Object.keys(BROKEN)[Number(event.key) - 1]);
      (first() ?? talk).focus();
      return true;
    },
  };
}
