// Questions that raters skipped or flagged.
import { api, day, el } from "../api.js";
import { $, ask, attempt, list, question, review } from "./common.js";

async function settle(task, close) {
  const done = await attempt(() => api("POST", `/api/tasks/${task.task}/unpark`, { close }), close ? "Closed." : "It is asked again.");
  if (done) load();
}

function draw(task) {
  return question(task, {
    facts: [task.parked ? "waits for you" : "goes on being asked"],
    below: [
      el("ul", {}, task.reasons.map((r) => el("li", {}, `${r.rater} ${r.outcome === "flag" ? "flagged it" : "skipped it"}, ${day(r.at)}`, r.reason ? el("span", { dir: "auto" }, `: ${r.reason}`) : null))),
      el("div", { class: "actions" },
        el("button", { type: "button", onclick: () => settle(task, false), disabled: !task.parked }, "Ask it again"),
        el("button", { type: "button", class: "quiet", onclick: () => review(task) }, "Judge it myself"),
        el("button", { type: "button", class: "bad", onclick: () => settle(task, true) }, "Never ask it again")),
    ],
  });
}

const load = () => list((after) => ask(`aside?which=${$("which").value}&after=${after}`), draw);
$("which").addEventListener("change", load);
load();
