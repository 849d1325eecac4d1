// A response that the rater writes.
import { el } from "../../api.js";
import { t } from "../../texts.js";

export function widget(task, changed) {
  const text = el("textarea", { rows: "8", maxlength: "200000", dir: "auto", oninput: changed });
  return {
    node: el("label", {}, t("Your response"), text),
    key: () => false,
    value: () => (text.value.trim() ? { text: text.value } : null),
    set: (answer) => (text.value = answer.text ?? ""),
  };
}
