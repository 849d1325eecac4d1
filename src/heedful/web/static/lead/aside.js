// Questions that raters skipped or flagged.
import { api, day, el, say } from "../api.js";
import { takeBack, told } from "./alerts.js";
import { $, ask, attempt, list, question, review } from "./common.js";

async function settle(task, close) {
  const done = await attempt(() => api("POST", `/api/tasks/${task.task}/unpark`, { close }));
  if (done && (await load())) say(close ? "Closed." : "It is asked again.", "good"); // what is said is on the page by then
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
const form = $("take-back");
const yesterday = new Date(Date.now() - 86_400_000);
form.elements.since.value = new Date(yesterday - yesterday.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const since = new Date(form.elements.since.value).getTime() / 1000;
  const done = await attempt(() => takeBack(form.elements.rater.value, since));
  if (done && (await load())) say(told(done), "good");
});
attempt(() => api("GET", "/api/raters")).then((raters) => {
  const people = (raters ?? []).filter((r) => r.role !== "judge");
  form.elements.rater.replaceChildren(...people.map((r) => el("option", { value: r.id }, r.pseudonym)));
});

$("which").addEventListener("change", load);
load();
