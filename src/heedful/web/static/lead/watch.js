// What the newest answers say that somebody ought to look at: told with its interval, paused with a click and undone.
import { api, el, say } from "../api.js";
import { number, percent } from "../charts.js";
import { $, ask, attempt, fill, project } from "./common.js";

const EVERY = 120_000; // milliseconds
const range = (a) => `${percent(a.low)} to ${percent(a.high)}, n ${number(a.n)}`;
const TELL = {
  hasty: (a) => `answers too fast to have read: ${percent(a.value)} of the newest (${range(a)})`,
  gold: (a) => `has ${percent(a.value)} of the gold questions right (${range(a)}), below ${percent(a.threshold)}`,
  place: (a) => `prefers ${a.value > 0.5 ? `what stands first in ${percent(a.value)}` : `what stands second in ${percent(1 - a.value)}`} of the pairs (first: ${range(a)})`,
  fall: (a) => `agrees with the others less than before: by ${percent(a.value)} (${range(a)})`,
  pace: (a) => `takes ${number(a.value, 1)} s an answer (${number(a.low, 1)} to ${number(a.high, 1)}), the others ${number(a.beside, 1)} s`,
};
const WHOLE = {
  fall: (a) => `Raters agree less with each other than before: by ${percent(a.value)} (${range(a)}).`,
  silent: (a) => `Answers are wanted, and nobody has given one for ${number(a.value, 1)} days.`,
};

function person(list) {
  const { rater, pseudonym, paused, answers } = list[0];
  const pause = async (value) => {
    const done = await attempt(() => api("PUT", `/api/projects/${project}/members`, { who: rater, paused: value }));
    if (!done) return;
    await load();
    say(value ? `${pseudonym} is paused in this project; their answers stay.` : `${pseudonym} may go on here.`, "good");
  };
  const quiet = () => dismiss(list.map((a) => a.what), rater);
  return el("div", { class: "alert" }, el("p", {}, el("strong", {}, pseudonym), " ", list.map((a) => TELL[a.what](a)).join("; "), "."),
    paused ? el("button", { type: "button", class: "quiet", onclick: () => pause(false) }, `Let ${pseudonym} go on`)
      : answers ? el("button", { type: "button", class: "bad", onclick: () => pause(true) }, `Pause ${pseudonym} here`) : el("span", { class: "hint" }, "They do not answer here any more."),
    el("button", { type: "button", class: "quiet", title: "Say nothing of this for a week", onclick: quiet }, "Dismiss"));
}

async function dismiss(whats, rater) {
  for (const what of whats) if (!(await attempt(() => api("POST", `/api/projects/${project}/alerts/dismiss`, { what, rater })))) return;
  await load();
  say("Dismissed for a week.", "good");
}

function draw(list) {
  const place = $("watch");
  const whole = list.filter((a) => !a.rater).map((a) => el("div", { class: "alert" }, el("p", {}, WHOLE[a.what](a)),
    el("button", { type: "button", class: "quiet", title: "Say nothing of this for a week", onclick: () => dismiss([a.what], null) }, "Dismiss")));
  const people = new Map();
  for (const a of list.filter((one) => one.rater)) people.set(a.rater, [...(people.get(a.rater) ?? []), a]);
  place.hidden = !list.length;
  place.replaceChildren(el("h2", {}, "Alerts"), ...whole, ...[...people.values()].map(person),
    el("p", { class: "hint" }, "Of the newest answers. A share or a mean is told only where its whole 99 % interval is beyond the threshold in Settings."));
}

const load = () => fill($("watch"), () => ask("alerts"), draw);

if ($("watch")) {
  load();
  setInterval(() => document.visibilityState === "visible" && load(), EVERY);
}
