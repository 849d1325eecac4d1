// Play an environment in the model's place, a turn at a time, until it is over.
import { api, el } from "../../api.js";
import { named } from "../panels.js";
import { t } from "../../texts.js";

export const panels = false;

export function widget(task, changed) {
  const most = task.options.max_turns;
  let turns = task.turns.length;
  let over = false;
  let reward = null;
  let busy = false;
  const log = el("div", { class: "talk played", role: "log", "aria-label": t("Conversation"), tabindex: "0" });
  const tools = el("dl");
  const box = el("textarea", { rows: "2", maxlength: "20000", dir: "auto", "aria-label": t("What you say") });
  const button = el("button", { type: "button", onclick: () => send(box.value.trim()) }, t("Send"), " ", el("kbd", {}, "Enter"));
  const status = el("span", { class: "hint", role: "status" });
  const count = el("p", { class: "hint" });
  const saying = el("div", { class: "saying" }, box, el("div", { class: "send" }, button, status));
  const offered = el("details", { class: "offered", open: true, hidden: true }, el("summary", {}, t("Tools")), el("p", { class: "hint" }, t("Call one by writing its name and what it is given, alone in a message; texts stand in quotes.")), tools);
  box.addEventListener("input", changed);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.ctrlKey) return;
    event.preventDefault();
    event.stopPropagation();
    send(box.value.trim());
  });

  function show() {
    box.disabled = button.disabled = busy;
    saying.hidden = over;
    count.textContent = over ? t("It is over after {n} turns. Reward: {reward}", { n: turns, reward: reward ?? "?" }) : t("{n} of at most {most} turns", { n: turns, most });
    changed();
  }

  // An empty text asks where it stands.
  async function send(said) {
    if (busy || over || (!said && log.hasChildNodes())) return;
    busy = true;
    status.textContent = t("A moment");
    show();
    try {
      const led = await api("POST", `/api/assignments/${task.assignment}/play`, said ? { said } : {});
      log.innerHTML = led.html; // the server has escaped it
      named(log, t("You"));
      tools.replaceChildren(...led.tools.flatMap((one) => [el("dt", {}, el("code", {}, `${one.name}(${one.arguments.map((a) => `${a}=…`).join(", ")})`)), el("dd", { dir: "auto" }, one.description)]));
      offered.hidden = over || !led.tools.length;
      offered.open = !led.turns;
      ({ turns, over, reward } = led);
      log.hidden = !led.html;
      log.scrollTop = log.scrollHeight;
      if (said) box.value = "";
      status.textContent = "";
    } catch (problem) {
      status.textContent = problem.error ?? t("The connection was lost; send it again.");
    } finally {
      busy = false;
      show();
      if (said && !over) box.focus();
      document.dispatchEvent(new CustomEvent("heedful:shown"));
    }
  }

  if (task.assignment) send("");
  else show();
  return {
    node: el("div", {}, log, offered, saying, count),
    value: () => (over ? { turns } : null),
    set: (answer) => {
      if (answer.turns) [over, turns] = [true, answer.turns];
      show();
    },
    wanted: () => (over ? "" : t("Play it to its end, or skip it.")),
    key: () => false,
  };
}
