// What somebody is told before their first question, that they agree, and that they take it back.
import { api, day, el, say } from "../api.js";
import { t } from "../texts.js";

function text(disclosure) {
  const node = el("div", { class: "body", dir: "auto" });
  node.innerHTML = disclosure.html; // the server has cleaned it
  return node;
}

// Nodes that tell and ask; `then` goes on, also where the text has changed meanwhile.
export function agreement(project, disclosure, then) {
  const agree = async () => {
    await api("POST", `/api/projects/${project}/consent`, { version: disclosure.id }).catch((problem) => say(problem.error, "bad"));
    then();
  };
  return [text(disclosure), el("p", { class: "hint" }, t("You can withdraw what you have said at any time, under “Your answers”.")),
    el("button", { type: "button", onclick: agree }, t("I have read this and agree"))];
}

// The part of "Your answers" that says what one agreed to, with the button that takes everything back.
export async function standing(project, place) {
  const path = `/api/projects/${project}/consent`;
  const told = await api("GET", path).catch(() => null);
  if (!told) return;
  const set = (withdrawn) => async () => {
    await api("PUT", `${path}/withdrawn`, { withdrawn }).catch((problem) => say(problem.error, "bad"));
    standing(project, place);
  };
  const { disclosure } = told;
  const nodes = [];
  if (disclosure) nodes.push(el("p", {}, told.agreed_at ? t("You agreed to this, {day}:", { day: day(told.agreed_at) }) : t("You have not agreed to this yet:")), text(disclosure));
  if (!told.withdrawn_at)
    nodes.push(el("p", {}, t("If you withdraw, nothing that you have said here is given to anybody or learned from any more, and you are not asked anything. Models that have learned from it already stay as they are.")),
      el("button", { type: "button", class: "bad", onclick: set(true) }, t("Withdraw my answers")));
  else if (told.by_themselves)
    nodes.push(el("p", {}, t("You have withdrawn your answers, {day}. They are not exported, and nothing is learned from them.", { day: day(told.withdrawn_at) })),
      el("button", { type: "button", class: "quiet", onclick: set(false) }, t("Give them again")));
  else nodes.push(el("p", {}, t("Your lead has taken your answers out, {day}. They are not exported, and nothing is learned from them.", { day: day(told.withdrawn_at) })));
  place.replaceChildren(...nodes);
}
