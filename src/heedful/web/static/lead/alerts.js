// Raters whose flags or skips went beyond the limit: told, and settled with a click.
import { api, el, say } from "../api.js";
import { attempt, project } from "./common.js";

const DAY = 86400;
const WHAT = { flagged: "flags", skipped: "skips" };

export function alerts(place, list, reload) {
  place.hidden = !list.length;
  if (list.length) place.replaceChildren(el("h2", {}, "Look at this"), ...list.map((a) => line(a, reload)));
}

function line(a, reload) {
  const act = async (request, done) => {
    const value = await attempt(request);
    if (value && (await reload())) say(done(value), "good");
  };
  const pause = () => act(() => api("PATCH", `/api/raters/${a.rater}`, { status: "paused" }), () => `${a.pseudonym} is paused.`);
  const back = () => act(() => takeBack(a.rater, Date.now() / 1000 - DAY), told);
  return el("p", {}, `${a.pseudonym} has gone beyond the limit of ${WHAT[a.what]} an hour in the last day; ${a.beyond} of them set nothing aside. `,
    a.status === "active" ? el("button", { type: "button", class: "bad", onclick: pause }, "Pause them") : "They are paused.", " ",
    el("button", { type: "button", class: "quiet", onclick: back }, "Take back what they set aside"));
}

export const takeBack = (rater, since) => api("POST", `/api/projects/${project}/aside/take-back`, { rater, since });
export const told = (done) => `${done.tasks} questions are asked again; the ${done.taken_back} flags and skips are kept, and count no more.`;
