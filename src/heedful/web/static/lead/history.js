// What happened to a question, a line for each event; responses are called by their letters in this list.
import { day, el } from "../api.js";
import { number } from "../charts.js";

const LETTERS = "ABCDEFGHIJKL";
const DONE = { review: "took it to judge it", close: "closed it", unpark: "had it asked again", withdraw: "withdrew it", put_back: "put it back", set_aside: "set it aside", overlap: "wanted {n} answers of it", ask_again: "asked for {n} more answers" };
const OUTCOMES = { answer: "answered", tie: "said: a tie", both_bad: "said: all are bad", skip: "skipped it", flag: "flagged it" };
const VERDICTS = { kept: "kept the rule", broken: "broke the rule", unsure: "unsure whether it broke the rule" };
const SHOWN = { active: "has it on the screen", expired: "did not answer in time", skipped: "skipped", flagged: "flagged" };

// The answer itself: `ranks`, `scores` and `rules` by the responses' places.
export function answerText(a) {
  const said = answerAlone(a);
  return a.question ? `${a.question}: ${said || "answered"}` : said;
}

function answerAlone(a) {
  if (a.outcome === "tie") return "a tie";
  if (a.outcome === "both_bad") return "all are bad";
  const parts = [];
  if (a.ranks.some((r) => r !== null)) {
    const groups = {};
    a.ranks.forEach((r, i) => r !== null && (groups[r] ??= []).push(LETTERS[i]));
    parts.push(Object.keys(groups).sort((x, y) => x - y).map((r) => groups[r].join(" = ")).join(" > "));
    if (a.strength !== null) parts.push(`strength ${number(a.strength)}`);
  }
  for (const [axis, values] of Object.entries(a.scores)) parts.push(`${axis}: ${values.map((v, i) => `${LETTERS[i]} ${v ?? "–"}`).join(", ")}`);
  for (const [rule, values] of Object.entries(a.rules)) parts.push(`${rule}: ${values.map((v, i) => `${LETTERS[i]} ${v === null ? "–" : v ? "kept" : "broken"}`).join(", ")}`);
  return parts.join("; ");
}

const quoted = (title, text) => el("blockquote", { dir: "auto" }, el("span", { class: "hint" }, title), " ", text);

export function line(event, told) {
  const who = el("strong", {}, event.who ?? "heedful");
  const at = el("time", { class: "hint" }, day(event.at));
  if (event.what === "shown") {
    const order = event.order.map((i) => LETTERS[i]).join(" ");
    const suggested = event.suggestion && `, ${event.suggestion.shown ? "with" : "without"} what ${event.suggestion.source} suggests (${answerAlone({ outcome: "answer", strength: null, scores: {}, rules: {}, ranks: event.suggestion.ranks })})`;
    return el("li", {}, at, " ", who, " was shown it", order.length > 1 ? `, in the order ${order}` : "", suggested, SHOWN[event.state] ? `; ${SHOWN[event.state]}` : "");
  }
  if (event.what === "critique") return el("li", {}, at, " ", who, ` asked what ${event.source} says against ${LETTERS[event.response]}`, quoted("", event.text));
  if (!(event.what in OUTCOMES)) return el("li", {}, at, " ", who, ` ${(DONE[event.what] ?? event.what).replace("{n}", event.number)}`);
  const facts = [event.seconds === null ? null : `${number(event.seconds, 1)} s`, event.confidence === null ? null : `confidence ${number(event.confidence)}`, event.revision > 1 ? `revision ${event.revision}` : null, event.disposition === "counted" ? null : event.disposition, event.corrected ? "corrected later" : null].filter(Boolean);
  const said = event.what === "answer" || event.question ? answerText({ outcome: event.what, ...event }) : "";
  return el("li", { class: event.corrected ? "gone" : null }, at, " ", who, ` ${event.question ? OUTCOMES.answer : OUTCOMES[event.what]}${said ? `: ${said}` : ""} `, el("span", { class: "hint" }, facts.join(", ")),
    event.comment ? quoted("", event.comment) : null,
    event.critiques.map((c) => quoted(`of ${LETTERS[c.response]}${c.quote === null ? "" : ` “${c.quote}”`}:`, c.text)),
    event.edits.map((e) => quoted(`${LETTERS[e.response]} became:`, e.text)),
    event.written.map((text) => quoted("wrote:", text)),
    event.turns.map((t) => [quoted("said:", t.said), ...t.replies.map((reply, i) => quoted(`${i === t.chosen && t.replies.length > 1 ? "better reply" : "reply"}${reply.model ? ` by ${reply.model}` : ""}:`, reply.text)), t.verdict ? el("span", { class: "hint" }, VERDICTS[t.verdict]) : null]));
}
