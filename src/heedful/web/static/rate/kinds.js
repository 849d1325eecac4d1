// One widget for each kind of task: {node, value(), set(answer), key(event)}. value() is null until the answer is
// complete, in the form of heedful.store.kinds; key() says whether it took a key.
import { el } from "../api.js";
import { conversation } from "./chat.js";
import { choices } from "./choices.js";
import { critique, editing } from "./writing.js";
import { ranking } from "./ranking.js";

const STRENGTH = ["much better", "better", "somewhat better", "a little better"];

function pair(task, changed) {
  const sides = [...STRENGTH.map((s) => `A is ${s}`), ...[...STRENGTH].reverse().map((s) => `B is ${s}`)];
  const options = sides.map((hint, i) => [i + 1, el("span", {}, el("kbd", {}, String(i + 1)), el("span", { class: "words" }, hint)), hint]);
  const scale = choices("Which is better, and by how much?", [
    ...options,
    ["tie", el("span", {}, el("kbd", {}, "t"), " Tie"), "Tie: equally good"],
    ["both_bad", el("span", {}, el("kbd", {}, "b"), " Both bad"), "Both are bad"],
  ], changed);
  scale.node.classList.add("scale");
  const ends = el("div", { class: "ends hint", "aria-hidden": "true" }, el("span", {}, "← A is better"), el("span", {}, "B is better →"));
  return {
    node: el("div", {}, ends, scale.node),
    value: () => (scale.value() === null ? null : typeof scale.value() === "number" ? { value: scale.value() } : { [scale.value()]: true }),
    set: (answer) => scale.set(answer.value ?? (answer.tie ? "tie" : answer.both_bad ? "both_bad" : null)),
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

// A grid of small choices: rows are axes or rules, columns are responses.
function grid(task, rows, options, changed) {
  const cells = rows.map((row) => task.responses.map((r) => choices(`${row.label}, response ${r.label}`, options(row), changed)));
  const several = task.responses.length > 1;
  const node = el("div", { class: "grid" },
    rows.map((row, i) => el("fieldset", { class: "gridrow" }, el("legend", {}, row.label, row.hint ? el("span", { class: "hint" }, ` ${row.hint}`) : null),
      task.responses.map((r, k) => el("div", { class: "cell" }, several ? el("strong", { class: "tag" }, r.label) : null, cells[i][k].node)))));
  // Digits answer the first cell that is still empty, so that a whole grid is typed in one go.
  const key = (event) => {
    const flat = cells.flatMap((line, i) => line.map((cell) => [cell, rows[i]]));
    const focused = flat.find(([cell]) => cell.node.contains(document.activeElement));
    const target = focused ?? flat.find(([cell]) => cell.value() === null);
    if (!target) return false;
    const values = options(target[1]).map(([value]) => value);
    const pressed = options(target[1]).findIndex((o, i) => (o[3] ?? String(i + 1)) === event.key);
    if (pressed < 0) return false;
    target[0].pick(values[pressed]);
    const next = flat.find(([cell]) => cell.value() === null);
    if (next) next[0].focus();
    return true;
  };
  return { node, cells, key, full: () => cells.flat().every((cell) => cell.value() !== null) };
}

function rate(task, changed) {
  const steps = (a) => Array.from({ length: Math.floor((a.high - a.low) / a.step + 1e-9) + 1 }, (_, i) => Number((a.low + i * a.step).toFixed(6)));
  const fine = task.options.axes.some((a) => steps(a).length > 11);
  if (fine) return sliders(task, changed);
  const rows = task.options.axes.map((a) => ({ ...a, label: a.name, hint: [a.low_label, a.high_label].filter(Boolean).join(" … ") }));
  const board = grid(task, rows, (row) => steps(row).map((v) => [v, String(v), `${row.name}: ${v}`, String(v)]), changed);
  return {
    node: board.node,
    key: board.key,
    value: () => (board.full() ? { scores: Object.fromEntries(rows.map((row, i) => [row.name, board.cells[i].map((c) => c.value())])) } : null),
    set: (answer) => rows.forEach((row, i) => board.cells[i].forEach((cell, k) => cell.set(answer.scores?.[row.name]?.[k] ?? null))),
  };
}

function sliders(task, changed) {
  const touched = new Set();
  const lines = task.options.axes.map((axis) =>
    task.responses.map((r) => {
      const shown = el("output", {}, "–");
      const input = el("input", { type: "range", min: axis.low, max: axis.high, step: axis.step, "aria-label": `${axis.name}, response ${r.label}` });
      const note = () => {
        touched.add(input);
        shown.textContent = input.value;
        changed();
      };
      input.addEventListener("input", note);
      input.addEventListener("pointerup", note); // on the middle, where it stands already
      return { input, shown, label: r.label };
    }));
  const node = el("div", { class: "grid" }, task.options.axes.map((axis, i) =>
    el("fieldset", { class: "gridrow" }, el("legend", {}, axis.name, el("span", { class: "hint" }, ` ${axis.low_label || axis.low} … ${axis.high_label || axis.high}`)),
      lines[i].map((l) => el("div", { class: "cell slide" }, el("strong", { class: "tag" }, l.label), l.input, l.shown)))));
  return {
    node,
    key: () => false,
    value: () => (touched.size === lines.flat().length ? { scores: Object.fromEntries(task.options.axes.map((a, i) => [a.name, lines[i].map((l) => Number(l.input.value))])) } : null),
    set: (answer) => task.options.axes.forEach((a, i) => lines[i].forEach((l, k) => {
      const value = answer.scores?.[a.name]?.[k];
      if (value === undefined || value === null) return;
      l.input.value = value;
      touched.add(l.input);
      l.shown.textContent = l.input.value;
    })),
  };
}

function thumbs(task, changed) {
  const options = () => [[1, "👍 Good", "Thumb up", "1"], [0, "🤷 Neither", "Neither", "2"], [-1, "👎 Bad", "Thumb down", "3"]];
  const board = grid(task, [{ label: "Is it good?" }], options, changed);
  return {
    node: board.node,
    key: board.key,
    value: () => (board.full() ? { thumbs: board.cells[0].map((c) => c.value()) } : null),
    set: (answer) => board.cells[0].forEach((cell, k) => cell.set(answer.thumbs?.[k] ?? null)),
  };
}

function rules(task, changed) {
  // null is an answer here ("does not apply"), so that the widget needs another word for it.
  const options = () => [["yes", "Yes", "Yes, it keeps the rule", "1"], ["no", "No", "No, it breaks the rule", "2"], ["na", "n/a", "The rule does not apply", "3"]];
  const out = { yes: true, no: false, na: null };
  const into = (v) => (v === true ? "yes" : v === false ? "no" : "na");
  const rows = task.options.rules.map((r) => ({ label: r.text, code: r.code }));
  const board = grid(task, rows, options, changed);
  return {
    node: board.node,
    key: board.key,
    value: () => (board.full() ? { rules: Object.fromEntries(rows.map((row, i) => [row.code, board.cells[i].map((c) => out[c.value()])])) } : null),
    set: (answer) => answer.rules && rows.forEach((row, i) => board.cells[i].forEach((cell, k) => cell.set(into(answer.rules[row.code]?.[k])))),
  };
}

function write(task, changed) {
  const text = el("textarea", { rows: "8", maxlength: "200000", dir: "auto", oninput: changed });
  return {
    node: el("label", {}, "Your response", text),
    key: () => false,
    value: () => (text.value.trim() ? { text: text.value } : null),
    set: (answer) => (text.value = answer.text ?? ""),
  };
}

export const KINDS = { pair, rank: ranking, rate, thumbs, rules, critique, edit: editing, write, chat: conversation };
// Where the answer itself is a text, the comment has another name.
export const COMMENT = { edit: "comment", write: "comment" };
