// Questions before the real work: where one is among them, and what a training question teaches.
import { api, el } from "../api.js";
import { t } from "../texts.js";
import { typeset } from "../typeset.js";

const LETTERS = "ABCDEFGHIJKL";

// What stands above such a question; empty above any other.
export function banner(place, trial) {
  place.hidden = !trial;
  if (!trial) return place.replaceChildren();
  const training = trial.stage === "training";
  place.replaceChildren(el("strong", {}, training ? t("Training: question {number} of {of}.", trial) : t("Qualification: question {number} of {of}.", trial)),
    training ? ` ${t("You are told the right answer after yours.")}` : ` ${t("{needed} of them must be right before the real work begins. A skip counts as wrong.", trial)}`);
}

// Ranks by place in words.
export function order(ranks) {
  const places = new Map();
  ranks.forEach((rank, i) => rank !== null && places.set(rank, [...(places.get(rank) ?? []), LETTERS[i]]));
  const groups = [...places.keys()].sort((a, b) => a - b).map((rank) => places.get(rank).join(t(" and ")));
  if (groups.length === 1) return t("{all} are equally good.", { all: groups[0] });
  return groups.length === 2 && ranks.length === 2 ? t("{one} is better.", { one: groups[0] }) : t("From the best on: {order}.", { order: groups.join(t(", then ")) });
}

// What a model thinks, where the lead wants raters to know: a line of words, which chooses nothing.
export const suggestion = (ranks) => (ranks ? [el("p", { id: "suggestion", class: "suggestion" }, t("A model suggests: {what} It may be wrong.", { what: order(ranks) }))] : []);

const THUMBS = { 1: t("Good"), 0: t("Neither"), "-1": t("Bad") };
const VERDICTS = { true: t("Yes"), false: t("No"), null: t("n/a") };

const CLOSER = { 1: t("B is closer"), 2: t("C is closer") };
const SCORES = {
  thumbs: (values) => values.map((v, i) => `${LETTERS[i]}: ${THUMBS[v]}`).join(", "),
  triplet: (values) => CLOSER[values.indexOf(1)] ?? t("nobody can tell"),
};

// What is known of one question's answer, a line for its order, each axis and each rule.
function known(k) {
  const marked = (mark, values, word) => `${mark}: ${values.map((v, i) => `${LETTERS[i]} ${word(v)}`).join(", ")}`;
  const near = k.within ? ` (±${k.within})` : "";
  const lines = [
    ...(k.ranks ? [order(k.ranks)] : []),
    ...Object.entries(k.scores).map(([axis, values]) => SCORES[k.kind]?.(values) ?? marked(axis, values, String) + near),
    ...Object.entries(k.rules).map(([rule, values]) => marked(rule, values, (v) => VERDICTS[v])),
  ];
  return lines.map((line) => el("li", { dir: "auto" }, k.question ? `${k.question}: ${line}` : line));
}

// Shows the lesson of a training question once its answer has arrived, and resolves when the rater goes on.
export async function lesson(task, arrived) {
  if (task.trial?.stage !== "training") return;
  await arrived;
  const told = await api("GET", `/api/assignments/${encodeURIComponent(task.assignment)}/lesson`).catch(() => null);
  if (!told) return; // the answer has not arrived; it is kept, and the question counts when it has
  const dialog = document.getElementById("lesson");
  document.getElementById("lesson-title").textContent = told.right ? t("Right") : t("Not what was expected");
  document.getElementById("lesson-order").replaceChildren(...told.known.flatMap(known));
  const why = document.getElementById("lesson-why");
  why.innerHTML = told.explanation ?? ""; // the server has cleaned it
  why.hidden = !told.explanation;
  typeset(why);
  dialog.showModal();
  document.getElementById("lesson-on").focus();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
}

export const failed = (q) => [t("You have not passed"), t("You answered {correct} of {asked} questions right; {needed} were needed. Your lead sees this, and may let you try again with other questions.", q)];
