// What somebody seems to like in a project: renewed from their answers, theirs to change and to switch off.
import { api, say } from "../api.js";
import { t } from "../texts.js";

const PAUSE = 2000; // milliseconds between two looks at whether it is made
const path = (project) => `/api/projects/${project}/profile`;

// Shows it by `draw` as it is, and again until it has been renewed, where there are newer answers.
export async function renewed(project, draw) {
  for (;;) {
    const mine = await api("GET", path(project)).catch(() => null);
    if (!mine) return;
    const begun = mine.stale && !mine.made && (await api("POST", path(project), {}).catch(() => null))?.begun;
    draw(begun ? { ...mine, made: true } : mine);
    if (!begun && !mine.made) return;
    await new Promise((then) => setTimeout(then, PAUSE));
  }
}

// The part of "Your answers" that shows it.
export function liking(project) {
  const part = document.getElementById("profile");
  const form = document.getElementById("likes");
  const buttons = { off: document.getElementById("unlike"), on: document.getElementById("like") };
  let shown = null; // what stands in the field unless somebody types there
  const draw = (mine) => {
    const { sentence, kept, theirs, off, made, missing } = mine;
    part.hidden = !(sentence || kept);
    form.hidden = !sentence;
    if (form.elements.sentence.value === (shown ?? "")) form.elements.sentence.value = shown = sentence ?? "";
    const states = [[made, t("It is being made from your answers…")], [off, t("You have switched it off: none is made from your answers.")],
      [sentence && theirs, t("You have written it yourself.")], 
      [!sentence && missing, t("There is none yet. Answers that compare or rank and are still needed: {n}.", { n: missing })], [!sentence, t("There is none yet: it is made from answers that compare or rank.")]];
    document.getElementById("how-made").textContent = states.find(([is]) => is)?.[1] ?? "";
    buttons.off.hidden = off;
    buttons.off.textContent = sentence ? t("Delete it") : t("Make none");
    buttons.on.hidden = !(kept && (off || theirs)) || made;
  };
  const change = async (method, body, done) => {
    try {
      await api(method, path(project), body);
    } catch (problem) {
      return say(problem.error, "bad");
    }
    if (done) say(done, "good");
    await renewed(project, draw);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    shown = form.elements.sentence.value;
    change("PUT", { sentence: shown }, t("It is changed."));
  });
  buttons.off.addEventListener("click", () => {
    shown = form.elements.sentence.value;
    change("DELETE", undefined, t("It is switched off, and none is made."));
  });
  buttons.on.addEventListener("click", () => {
    shown = form.elements.sentence.value;
    change("POST", {});
  });
  renewed(project, draw);
}
