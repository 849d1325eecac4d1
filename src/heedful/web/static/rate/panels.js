// The prompt and the responses: equal panels that scroll together, as Markdown, as raw text or with differences.
import { el, say } from "../api.js";
import { t } from "../texts.js";
import { typeset } from "../typeset.js";
import { mount, read } from "./clip.js";
import { compare, marked } from "./diff.js";

// The names of who speaks in an episode, in the reader's language.
export function named(body, assistant = t("Model")) {
  const names = { user: t("User"), system: t("Instructions"), assistant, tool: t("Tool") };
  for (const role of body.querySelectorAll(".role[data-role]")) role.textContent = names[role.dataset.role] ?? role.dataset.role;
}

export function prompt(place, turns) {
  place.replaceChildren(...turns.map((turn) => {
    const body = el("div", { class: "body", dir: "auto" });
    body.innerHTML = turn.html; // the server has cleaned it
    typeset(body);
    return el("div", { class: `turn ${turn.role}` }, el("span", { class: "role" }, { user: t("Prompt"), system: t("Instructions"), assistant: t("Model"), text: t("Text") }[turn.role] ?? turn.role), body);
  }));
}

// Copying gives the text as the model wrote it, not as it is drawn.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say(t("Copied."), "good");
  } catch {
    say(t("This browser does not let the page copy; select the text instead."), "bad");
  }
}

// A clip's text is for programs: nobody reads or copies it.
const tools = (r, enlarge, button) => el("span", { class: "panel-tools" }, button ?? [],
  read(r.text) ? [] : el("button", { type: "button", class: "quiet small", "aria-label": t("Copy response {label}", { label: r.label }), onclick: () => copy(r.text) }, t("Copy")),
  el("button", { type: "button", class: "quiet small enlarge", "aria-pressed": "false", "aria-label": t("Enlarge response {label}", { label: r.label }), title: t("Enlarge"), onclick: enlarge }, "⤢"));

// In `place`, above `foot`, which itself or whose last part may stick to the window and cover what is behind it. Returns {read(): all read to the end?, view(name),
// together(on), close()}. `buttons` and `words` stand in the head and at the end of each panel, by place. Where the window is narrow, one response is shown at a time, by tabs.
export function responses(place, list, changed, foot, { buttons, words } = { buttons: [], words: [] }) {
  const seen = new Set();
  let together = true;
  let view = "html";
  const panels = list.map((r, i) => {
    const body = el("div", { class: "body", dir: "auto", tabindex: "0", role: "region", "aria-label": t("Response {label}", { label: r.label }) });
    const hint = el("span", { class: "hint more", hidden: true }, t("scroll to the end"));
    body.addEventListener("scroll", () => scrolled(i), { passive: true });
    return { body, hint, node: el("article", { class: "panel" }, el("header", {}, el("strong", { class: "tag" }, r.label), hint, tools(r, () => enlarge(i), buttons[i])), body, words[i] ?? []) };
  });
  const tabs = list.map((r, i) => el("button", { type: "button", role: "tab", class: "tab", "aria-selected": String(i === 0), tabindex: i ? "-1" : "0", "aria-label": t("Response {label}", { label: r.label }), onclick: () => choose(i) }, r.label));
  const strip = el("div", { class: "tabs", role: "tablist", "aria-label": t("Responses"), onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const i = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
    choose(i);
    tabs[i].focus();
  } }, tabs);
  place.replaceChildren(...(list.length > 1 ? [strip] : []), ...panels.map((p) => p.node));
  place.dataset.count = String(list.length);
  const columns = { 4: 2 }[list.length] ?? Math.min(3, list.length);
  place.style.setProperty("--columns", String(columns || 1));
  place.style.setProperty("--rows", String(Math.ceil(list.length / (columns || 1)) || 0));
  // One response in the whole window, to read it; Escape or the same button puts it back.
  function enlarge(i) {
    const on = panels[i].node.classList.toggle("enlarged");
    const button = panels[i].node.querySelector(".enlarge");
    button.setAttribute("aria-pressed", String(on));
    panels[i].body.focus();
    requestAnimationFrame(look);
  }
  function shrink(event) {
    const i = panels.findIndex(({ node }) => node.classList.contains("enlarged"));
    if (event.key !== "Escape" || i < 0) return;
    event.preventDefault();
    enlarge(i);
  }
  addEventListener("keydown", shrink, { capture: true });
  function choose(k) {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === k));
      tab.tabIndex = i === k ? 0 : -1;
    });
    panels.forEach(({ node }, i) => node.classList.toggle("behind", i !== k));
    requestAnimationFrame(look);
  }

  // Its last line is in front of somebody: scrolled to the end inside its panel, and that on the screen.
  function endSeen(body) {
    const bottom = body.getBoundingClientRect().bottom;
    const cover = [foot, foot.lastElementChild].find((node) => getComputedStyle(node).position === "sticky");
    const covered = cover?.getBoundingClientRect().top ?? innerHeight;
    return body.clientHeight > 0 && body.scrollTop + body.clientHeight >= body.scrollHeight - 4 && bottom > 0 && bottom <= covered + 4;
  }
  function look() {
    panels.forEach(({ body, hint }, i) => {
      if (endSeen(body)) seen.add(i);
      hint.hidden = seen.has(i);
      tabs[i].classList.toggle("unread", !seen.has(i));
    });
    changed();
  }
  // Where a panel was put by another one: the event of that must not lead in turn, it would stop a smooth scroll.
  const put = list.map(() => null);
  function scrolled(i) {
    look();
    const from = panels[i].body;
    if (!together || (put[i] !== null && Math.abs(from.scrollTop - put[i]) < 2)) return;
    put[i] = null;
    const share = from.scrollTop / Math.max(1, from.scrollHeight - from.clientHeight);
    panels.forEach(({ body }, k) => {
      if (k === i) return;
      // By no more than what is in front of somebody: a leap in one panel must not count as having read another.
      const step = share * (body.scrollHeight - body.clientHeight) - body.scrollTop;
      body.scrollTop += Math.sign(step) * Math.min(Math.abs(step), body.clientHeight);
      put[k] = body.scrollTop;
    });
  }
  function show() {
    const parts = view === "diff" && list.length === 2 ? compare(list[0].text, list[1].text) : null;
    panels.forEach(({ body }, i) => {
      if (parts) body.replaceChildren(el("pre", { class: "source" }, marked(parts, i ? "new" : "gone")));
      else if (view === "raw") body.replaceChildren(el("pre", { class: "source" }, list[i].text));
      else {
        body.innerHTML = list[i].html; // the server has cleaned it
        named(body);
        typeset(body);
        mount(body);
      }
    });
    requestAnimationFrame(look);
  }
  const resized = new ResizeObserver(look);
  panels.forEach(({ body }) => resized.observe(body));
  addEventListener("scroll", look, { passive: true });
  choose(0);
  show();
  return {
    read: () => seen.size === panels.length,
    view: (name) => {
      view = name;
      show();
    },
    together: (on) => (together = on),
    close: () => {
      resized.disconnect();
      removeEventListener("scroll", look);
      removeEventListener("keydown", shrink, { capture: true });
    },
  };
}
