// Talk to two models at once: both replies appear together, the chosen one goes on.
import { api, el, link } from "../../api.js";
import { choices } from "../choices.js";
import { t } from "../../texts.js";

// Server-sent events of a POST, which EventSource cannot make.
async function* events(path, body) {
  const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";
  const response = await fetch(link(path), { method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf, Accept: "text/event-stream" }, body: JSON.stringify(body) });
  if (!response.ok) {
    const failure = await response.json().catch(() => ({}));
    throw { status: response.status, error: failure.error ?? response.statusText };
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const lines = buffer.slice(0, end).split("\n");
      buffer = buffer.slice(end + 2);
      const name = lines.find((l) => l.startsWith("event:"))?.slice(6).trim() ?? "message";
      const data = lines.filter((l) => l.startsWith("data:")).map((l) => l.slice(5).trim()).join("\n");
      yield [name, data ? JSON.parse(data) : null];
    }
  }
}

export const keys = [["1 2", t("go on with A, with B")]];

export function widget(task, changed) {
  const { min_turns: minimum, max_turns: maximum } = task.options;
  let turns = task.turns.map((t) => ({ ...t }));
  let busy = false;
  const log = el("div", { class: "talk", role: "log", "aria-label": t("Conversation"), tabindex: "0" });
  const box = el("textarea", { rows: "3", maxlength: "20000", dir: "auto", "aria-label": t("Your message") });
  const button = el("button", { type: "button", onclick: say }, t("Send"), " ", el("kbd", {}, "Enter"));
  const status = el("span", { class: "hint", role: "status" });
  const count = el("p", { class: "hint" });
  const node = el("div", {}, log, el("div", { class: "saying" }, box, el("div", { class: "send" }, button, status)), count);
  // What is being written survives a reload, as the drafts of other answers do.
  const kept = `heedful:saying:${task.assignment}`;
  function keep(text) {
    try {
      if (text) localStorage.setItem(kept, text);
      else localStorage.removeItem(kept);
    } catch {
      // A full or forbidden storage loses drafts, not turns.
    }
  }
  try {
    box.value = localStorage.getItem(kept) ?? "";
  } catch {
    // nothing was kept there
  }
  box.addEventListener("input", () => {
    keep(box.value);
    changed();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    if (event.ctrlKey && !box.value.trim()) return; // submits the task; what is typed must be said, not lost
    event.preventDefault();
    event.stopPropagation();
    say();
  });

  const open = () => turns.find((t) => t.chosen === null);
  const finished = () => turns.filter((t) => t.chosen !== null).length;

  function bubble(author, content, html) {
    const body = el("div", { class: "body", dir: "auto" });
    if (!content.trim()) body.append(el("em", { class: "hint" }, t("(empty)")));
    else if (html === undefined) body.textContent = content;
    else body.innerHTML = html; // the server has cleaned it
    return el("div", { class: `bubble ${author}` }, body);
  }

  function offer(turn, index) {
    const scale = choices(t("Which reply is better?"), [
      [0, t("A is better"), t("Go on with A")],
      [1, t("B is better"), t("Go on with B")],
    ], () => choose(index, scale.value()));
    return el("div", {}, el("div", { class: "replies" }, turn.replies.map((r, i) => el("div", { class: "reply" }, el("strong", { class: "tag" }, "AB"[i]), bubble("model", r.text, r.html)))), scale.node);
  }

  function show() {
    log.replaceChildren(...turns.flatMap((turn, i) => [
      bubble("person", turn.said),
      turn.chosen === null ? offer(turn, i) : bubble("model", turn.replies[turn.chosen].text, turn.replies[turn.chosen].html),
    ]));
    log.scrollTop = log.scrollHeight;
    const locked = Boolean(open()) || busy || finished() >= maximum;
    box.disabled = button.disabled = locked;
    count.textContent = t("{n} of at least {least} and at most {most} turns", { n: finished(), least: minimum, most: maximum });
    document.dispatchEvent(new CustomEvent("heedful:shown"));
  }

  async function say() {
    const message = box.value.trim();
    if (!message || busy) return;
    busy = true;
    show();
    try {
      for await (const [name, data] of events(`/api/assignments/${task.assignment}/turns`, { said: message })) {
        if (name === "progress") status.textContent = t("Both are writing…");
        else if (name === "offer") {
          turns.push({ said: message, replies: data.replies, chosen: null });
          box.value = "";
          keep("");
          status.textContent = "";
        } else if (name === "error") throw data;
      }
    } catch (problem) {
      status.textContent = problem.error ?? t("The connection was lost; send it again.");
    } finally {
      busy = false;
      show();
      changed();
    }
  }

  async function choose(index, place) {
    try {
      await api("POST", `/api/assignments/${task.assignment}/turns/choose`, { place, strength: null });
      turns[index].chosen = place;
      status.textContent = "";
    } catch (problem) {
      status.textContent = problem.error;
    }
    show();
    changed();
    if (!box.disabled) box.focus();
  }

  show();
  return {
    node,
    value: () => (!open() && !box.value.trim() && finished() >= minimum ? { turns: finished() } : null),
    set: () => {},
    key: (event) => {
      const waiting = turns.findIndex((t) => t.chosen === null);
      if (waiting < 0 || !["1", "2", "ArrowLeft", "ArrowRight"].includes(event.key)) return false;
      choose(waiting, event.key === "1" || event.key === "ArrowLeft" ? 0 : 1);
      return true;
    },
  };
}
