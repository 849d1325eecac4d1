// Remarks on spans of a response.
import { el } from "../../api.js";
import { t } from "../../texts.js";

export const panels = false; // the responses are shown here, where words of them are selected

// The server counts characters, JavaScript counts halves of some.
const characters = (text, units) => Array.from(text.slice(0, units)).length;

function selectionIn(node) {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!node.contains(range.startContainer) || !node.contains(range.endContainer)) return null;
  const before = document.createRange();
  before.selectNodeContents(node);
  before.setEnd(range.startContainer, range.startOffset);
  const start = before.toString().length;
  return { start, end: start + range.toString().length };
}

export function widget(task, changed) {
  let remarks = [];
  const list = el("ul", { class: "remarks" });
  // Editable, though every change is refused: only so does it have a caret, with which keys can select words.
  const texts = task.responses.map((r) => el("pre", { class: "source", dir: "auto", tabindex: "0", "aria-label": t("Text of response {label}", { label: r.label }),
    role: "textbox", "aria-multiline": "true", "aria-readonly": "true", contenteditable: "true", inputmode: "none", spellcheck: "false",
    onbeforeinput: (e) => e.preventDefault(), oninput: () => mark() }, r.text));
  const add = (place) => {
    const text = task.responses[place].text;
    const span = selectionIn(texts[place]);
    remarks.push(span ? { response: place, start: characters(text, span.start), end: characters(text, span.end), text: "" } : { response: place, start: null, end: null, text: "" });
    getSelection().removeAllRanges();
    show();
    changed();
    list.querySelector("li:last-child textarea")?.focus();
  };
  const node = el("div", {}, el("p", { class: "hint" }, t("Select words in a text, then add a remark on them; without a selection the remark is on the whole response.")),
    el("div", { class: "sources" }, task.responses.map((r, place) => el("div", { class: "source-box" },
      el("div", { class: "source-head" }, el("strong", { class: "tag" }, r.label),
        // Pressing a button would take the selection away before the click sees it.
        el("button", { type: "button", class: "quiet small", onpointerdown: (e) => e.preventDefault(), onclick: () => add(place) }, t("Remark on {label}", { label: r.label }))), texts[place]))), list);

  function quote(r) {
    return r.start === null ? t("the whole response") : `“${Array.from(task.responses[r.response].text).slice(r.start, r.end).join("")}”`;
  }
  function mark() {
    task.responses.forEach((r, place) => {
      const letters = Array.from(r.text);
      const spans = remarks.filter((m) => m.response === place && m.start !== null);
      const edges = [...new Set([0, letters.length, ...spans.flatMap((s) => [s.start, s.end])])].sort((a, b) => a - b);
      texts[place].replaceChildren(...edges.slice(0, -1).map((from, i) => {
        const part = letters.slice(from, edges[i + 1]).join("");
        return spans.some((s) => s.start <= from && s.end >= edges[i + 1]) ? el("mark", {}, part) : document.createTextNode(part);
      }));
    });
  }
  function show() {
    mark();
    list.replaceChildren(...remarks.map((r, i) => el("li", {},
      el("label", {}, el("span", {}, el("strong", { class: "tag" }, task.responses[r.response].label), ` ${quote(r)}`),
        el("textarea", { rows: "2", maxlength: "20000", dir: "auto", oninput: (e) => {
          remarks[i].text = e.target.value;
          changed();
        } }, r.text)),
      el("button", { type: "button", class: "quiet small", "aria-label": t("Remove this remark"), onclick: () => {
        remarks.splice(i, 1);
        show();
        changed();
      } }, t("Remove")))));
  }
  return {
    node,
    key: () => false,
    begun: () => remarks.some((r) => !r.text.trim()),
    // A comment alone is a critique, too: main.js adds it.
    value: () => (remarks.every((r) => r.text.trim()) ? { critiques: remarks.map((r) => ({ ...r })) } : null),
    enough: (answer) => answer.critiques.length > 0 || Boolean(answer.text),
    set: (answer) => {
      remarks = (answer.critiques ?? []).map((r) => ({ ...r }));
      show();
    },
  };
}
