// What the lead's pages share: the project, asking with its errors said, a question to read.
import { api, el, link, say } from "../api.js";
import { mount } from "../rate/clip.js";
import { typeset } from "../typeset.js";

export const project = document.querySelector('meta[name="project"]')?.content ?? "";
export const $ = (id) => document.getElementById(id);
export const ask = (part) => api("GET", `/api/projects/${project}/${part}`);

document.querySelector('.parts [aria-current="page"]')?.scrollIntoView({ inline: "center", block: "nearest" });

export async function attempt(request, done) {
  try {
    const value = await request();
    if (done) say(done, "good");
    return value;
  } catch (problem) {
    say(problem.error ?? String(problem), "bad");
    return null;
  }
}

const turns = new WeakMap();

// Show what `load` brings in `place` and say so to screen readers when it is there. What was asked for before is not
// shown any more: answers may overtake each other.
export async function fill(place, load, draw) {
  const turn = (turns.get(place) ?? 0) + 1;
  turns.set(place, turn);
  place.setAttribute("aria-busy", "true");
  const value = await attempt(load);
  if (turn !== turns.get(place)) return value;
  if (value !== null) draw(value);
  place.removeAttribute("aria-busy");
  return value;
}

export function rendered(html) {
  const node = el("div", { class: "body", dir: "auto" });
  node.innerHTML = html; // the server has cleaned it
  typeset(node);
  mount(node);
  return node;
}

const KINDS = JSON.parse(document.querySelector('meta[name="kinds"]')?.content ?? "{}"); // name: what its answers are called
export const label = (kind) => (kind === "screen" ? "several questions" : KINDS[kind] ?? kind); // or its package has been removed
const LETTERS = "ABCDEFGHIJKL";

// Whatever scrolls by itself can be scrolled by keys; what does not is no stop on the way.
const scrolls = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollHeight > target.clientHeight + 1) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

export function question(task, { facts = [], below = [] } = {}) {
  const node = drawn(task, facts, below);
  for (const body of node.querySelectorAll(".asked .body, .shown .body")) scrolls.observe(body);
  return node;
}

function drawn(task, facts, below) {
  return el("article", { class: "question" },
    el("header", {}, el("strong", {}, label(task.kind)), ...facts.map((f) => el("span", { class: "hint" }, f))),
    el("div", { class: "asked" }, task.prompt.map((t) => rendered(t.html))),
    (task.options?.rules ?? []).map((rule) => el("p", { class: "hint", dir: "auto" }, `${rule.code}: ${rule.text}`)),
    el("div", { class: "shown" }, task.responses.map((html, i) => el("div", {}, el("span", { class: "hint" }, `${LETTERS[i]}${task.models?.[i] ? ` · ${task.models[i]}` : ""}`), rendered(html)))),
    ...below);
}

export async function review(task) {
  const assigned = await attempt(() => api("POST", `/api/tasks/${task.task}/review`, {}));
  if (assigned) location.assign(link(`/rate/${assigned.project}?assignment=${assigned.assignment}`));
}

// A list that grows by "More": `load(after)` gives {total, tasks}.
export function list(load, draw) {
  const place = $("tasks");
  const more = $("more");
  let loaded = 0;
  function next() {
    return fill(place, () => load(loaded), ({ total, tasks }) => {
      place.append(...tasks.map(draw));
      loaded += tasks.length;
      more.hidden = loaded >= total;
      if (!total) place.replaceChildren(el("p", { class: "hint" }, "Nothing here."));
    });
  }
  more.onclick = next;
  place.replaceChildren();
  return next();
}
