// A text about the responses, such as a reason.
import { el } from "../../api.js";
import { t } from "../../texts.js";

export function widget(task, changed) {
  const text = el("textarea", { rows: "3", maxlength: "200000", dir: "auto", "aria-label": task.title || t("Your words"), oninput: changed });
  return {
    node: text,
    key: () => false,
    value: () => (text.value.trim() ? { text: text.value } : null),
    set: (answer) => (text.value = answer.text ?? ""),
  };
}
