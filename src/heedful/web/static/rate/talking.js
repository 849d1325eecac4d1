// A conversation with models, turn by turn: what the kinds of question that are one share.
import { el, link } from "../api.js";
import { t } from "../texts.js";

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

export function bubble(author, content, html) {
  const body = el("div", { class: "body", dir: "auto" });
  if (!content.trim()) body.append(el("em", { class: "hint" }, t("(empty)")));
  else if (html === undefined) body.textContent = content;
  else body.innerHTML = html; // the server has cleaned it
  return el("div", { class: `bubble ${author}` }, body);
}

// `replied(turn, i)` draws what stands below a message: replies, and what is asked of them. `writing`: said meanwhile.
// After a reply `heard(i)` is called. {node, turns, open(), idle(), show(), status, focus()}: a turn is {said, replies,
// chosen}, and `chosen` is null while one of several replies is to be chosen; nothing can be said while one is `open`.
export function conversation(task, changed, { replied, writing, heard = () => {} }) {
  const { min_turns: minimum, max_turns: maximum } = task.options;
  const turns = task.turns.map((turn) => ({ ...turn }));
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

  const open = () => turns.some((turn) => turn.chosen === null);

  function show() {
    log.replaceChildren(...turns.flatMap((turn, i) => [bubble("person", turn.said), replied(turn, i)]));
    log.scrollTop = log.scrollHeight;
    const done = turns.filter((turn) => turn.chosen !== null).length;
    box.disabled = button.disabled = open() || busy || done >= maximum;
    count.textContent = t("{n} of at least {least} and at most {most} turns", { n: done, least: minimum, most: maximum });
    document.dispatchEvent(new CustomEvent("heedful:shown"));
  }

  async function say() {
    const message = box.value.trim();
    if (!message || busy) return;
    busy = true;
    show();
    let came = false;
    try {
      for await (const [name, data] of events(`/api/assignments/${task.assignment}/turns`, { said: message })) {
        if (name === "progress") status.textContent = writing;
        else if (name === "offer") {
          turns.push({ said: message, replies: data.replies, chosen: data.replies.length > 1 ? null : 0 });
          box.value = "";
          keep("");
          status.textContent = "";
          came = true;
        } else if (name === "error") throw data;
      }
    } catch (problem) {
      status.textContent = problem.error ?? t("The connection was lost; send it again.");
    } finally {
      busy = false;
      show();
      changed();
      if (came) heard(turns.length - 1);
    }
  }

  return {
    node,
    turns,
    status,
    open,
    idle: () => !busy && !box.value.trim() && turns.length >= minimum,
    show,
    focus: () => !box.disabled && box.focus(),
  };
}
