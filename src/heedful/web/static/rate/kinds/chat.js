// Talk to two models at once: both replies appear together, the chosen one goes on.
import { api, el } from "../../api.js";
import { choices } from "../choices.js";
import { bubble, conversation } from "../talking.js";
import { t } from "../../texts.js";

export const keys = [["1 2", t("go on with A, with B")]];

export function widget(task, changed) {
  const talk = conversation(task, changed, { replied, writing: t("Both are writing…") });
  const { turns } = talk;

  function replied(turn, i) {
    if (turn.chosen !== null) return bubble("model", turn.replies[turn.chosen].text, turn.replies[turn.chosen].html);
    const scale = choices(t("Which reply is better?"), [
      [0, t("A is better"), t("Go on with A")],
      [1, t("B is better"), t("Go on with B")],
    ], () => choose(i, scale.value()));
    return el("div", {}, el("div", { class: "replies" }, turn.replies.map((r, k) => el("div", { class: "reply" }, el("strong", { class: "tag" }, "AB"[k]), bubble("model", r.text, r.html)))), scale.node);
  }

  async function choose(i, place) {
    try {
      await api("POST", `/api/assignments/${task.assignment}/turns/choose`, { place, strength: null });
      turns[i].chosen = place;
      talk.status.textContent = "";
    } catch (problem) {
      talk.status.textContent = problem.error;
    }
    talk.show();
    changed();
    talk.focus();
  }

  talk.show();
  return {
    node: talk.node,
    value: () => (!talk.open() && talk.idle() ? { turns: turns.length } : null),
    set: () => {},
    key: (event) => {
      const waiting = turns.findIndex((turn) => turn.chosen === null);
      if (waiting < 0 || !["1", "2", "ArrowLeft", "ArrowRight"].includes(event.key)) return false;
      choose(waiting, event.key === "1" || event.key === "ArrowLeft" ? 0 : 1);
      return true;
    },
  };
}
