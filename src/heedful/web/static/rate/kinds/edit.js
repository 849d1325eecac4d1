// A response that the rater mends.
import { el } from "../../api.js";
import { compare } from "../diff.js";
import { t } from "../../texts.js";

export function widget(task, changed) {
  let place = 0;
  const text = el("textarea", { rows: "8", maxlength: "200000", dir: "auto", "aria-label": t("The response as it should be"), oninput: () => {
    show();
    changed();
  } });
  const difference = el("div", { class: "difference", dir: "auto", tabindex: "0", role: "region", "aria-label": t("What you changed") });
  const select = el("select", { "aria-label": t("Which response do you edit?"), onchange: (e) => {
    place = Number(e.target.value);
    text.value = task.responses[place].text;
    show();
    changed();
  } }, task.responses.map((r, i) => el("option", { value: String(i) }, r.label)));
  const node = el("div", { class: "editing" }, task.responses.length > 1 ? el("label", {}, t("Response"), select) : null, text, el("div", {}, el("span", { class: "hint" }, t("What you changed")), difference));
  function show() {
    difference.replaceChildren(...compare(task.responses[place].text, text.value).map(([kind, part]) =>
      kind === "same" ? document.createTextNode(part) : el(kind === "gone" ? "del" : "ins", {}, part)));
  }
  text.value = task.responses[0].text;
  show();
  return {
    node,
    key: () => false,
    value: () => (text.value.trim() && text.value !== task.responses[place].text ? { response: place, text: text.value } : null),
    set: (answer) => {
      if (answer.text === undefined) return;
      place = answer.response ?? 0;
      select.value = String(place);
      text.value = answer.text;
      show();
    },
  };
}
