// A clip moves, and keys are pressed while it does: good, bad.
import { el } from "../../api.js";
import { read, screen } from "../clip.js";
import { t } from "../../texts.js";

export const panels = false;
export const keys = [[t("space"), t("start the clip, and again from the beginning")], ["j k", t("good, bad: while it moves")]];
const GRACE = 1500; // milliseconds after the last frame, for those who have only just seen it

export function widget(task, changed) {
  const clip = read(task.responses[0].text);
  let presses = null; // until it has been seen to its end
  let running = null;
  const told = el("p", { class: "hint", role: "status" });
  const film = clip && screen(clip, () => {}, GRACE);
  const start = el("button", { type: "button", class: "quiet", onclick: begin }, t("Start"));
  const button = (value, words) => el("button", { type: "button", class: "press", disabled: true, onclick: () => press(value) }, words);
  const both = [button(1, t("Good (j)")), button(-1, t("Bad (k)"))];
  const tell = () => {
    const made = running ?? presses ?? [];
    told.textContent = clip ? t("{good} good, {bad} bad", { good: made.filter((p) => p.value > 0).length, bad: made.filter((p) => p.value < 0).length }) : t("This response is no clip.");
  };
  function begin() {
    if (!clip) return;
    presses = null;
    running = [];
    changed();
    tell();
    for (const b of both) b.disabled = false;
    start.textContent = t("From the beginning");
    film.play(() => {
      [presses, running] = [running, null];
      for (const b of both) b.disabled = true;
      changed();
    });
  }
  function press(value) {
    const now = running && film.now();
    if (!now) return false;
    const [k, after] = now;
    running.push({ start: clip.frames[k].start, end: clip.frames[k].end, after: Math.round(after * 1000) / 1000, value });
    both[value > 0 ? 0 : 1].animate?.([{ opacity: 0.3 }, { opacity: 1 }], 200);
    tell();
    return true;
  }
  tell();
  return {
    node: el("div", { class: "pressing" }, film ? film.node : el("p", {}, task.responses[0].text), el("div", { class: "controls" }, start, both), told),
    value: () => presses && { presses },
    set: (answer) => {
      presses = answer.presses ?? null;
      tell();
    },
    wanted: () => (presses ? "" : t("Watch the clip to its end.")),
    key: (event) => {
      if (event.key === " ") begin();
      else if (event.key === "j") return press(1);
      else if (event.key === "k") return press(-1);
      else return false;
      return true;
    },
  };
}
