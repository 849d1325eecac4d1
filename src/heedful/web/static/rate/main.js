// The rater's page: a question, an answer, the next question. Keyboard first; nothing that was said is ever lost.
import { api, el, link, say } from "../api.js";
import * as clip from "./clip.js";
import * as outbox from "./outbox.js";
import * as consent from "./consent.js";
import * as lessons from "./lesson.js";
import { critics } from "./critics.js";
import * as panels from "./panels.js";
import * as screen from "./screen.js";
import { typeset } from "../typeset.js";
import { t } from "../texts.js";

const UI = "rate-1";
const UNDOS = 20;
const NARROW = matchMedia("(max-width: 40rem)"); // as in rate.css
const IDLE = 30_000; // after so long without a key or a pointer nobody is at work
const $ = (id) => document.getElementById(id);
const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const rater = meta("rater");
const project = meta("project");
// Each kind of question is a module of its own (see kinds/); the server says which there are, and what each calls its
// comment. A module has `widget(task, changed)`: {node, value(), set(answer), key(event)}, where value() is null until
// the answer is complete, in the form that the kind has on the server, and key() says whether it took a key; `keys`, its
// part of the help; and `panels` = false where it shows the responses by itself. Where somebody may stop halfway,
// begun() says that they have begun. screen.js makes one widget of several.
const COMMENT = JSON.parse(meta("kinds"));
const KINDS = Object.fromEntries(await Promise.all(Object.keys(COMMENT).map(async (name) => [name, await import(`./kinds/${name}.js`)])));

let current = null; // {task, widget, view, key, shown, active}
let ahead = []; // the questions that come next: {task, answer}, undone ones before the fetched one
let loading = null; // a request for `ahead`
let undoable = []; // what can be undone, the newest last: {task, answer}
let touched = Date.now();
let retry = null;
let sending = Promise.resolve();
let answered = 0; // since the page was opened
let turn = 0; // counts calls of next(): undo overtakes one that still waits

const fresh = () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
const several = (task) => task.kind === "screen";
const draft = (assignment) => `heedful:draft:${assignment}`;

// ── time ─────────────────────────────────────────────────────────────────────────────────────────

for (const name of ["pointermove", "pointerdown", "keydown", "wheel", "touchstart"])
  addEventListener(name, () => (touched = Date.now()), { passive: true, capture: true });
setInterval(() => {
  if (current && document.visibilityState === "visible" && Date.now() - touched < IDLE) current.active += 250;
}, 250);

// ── the question ─────────────────────────────────────────────────────────────────────────────────

function answer() {
  if (!current) return null;
  const value = current.widget.value();
  if (value === null) return null;
  const comment = several(current.task) ? "" : $("comment").value.trim();
  const full = comment ? { ...value, [COMMENT[current.task.kind]]: comment } : value;
  return current.widget.enough?.(full) === false ? null : full;
}

function changed() {
  if (!current?.widget) return;
  const complete = answer();
  const read = current.view.read();
  $("submit").disabled = !(complete && read);
  $("why").textContent = !read ? (current.moves ? t("Look at every clip first.") : t("Read every response to its end first.")) : (current.widget.wanted?.() ?? "");
  if (current.settled && !current.sent) save();
}

function remember(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // A full or forbidden storage loses drafts, not answers.
  }
}

function remembered(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

const save = () => remember(draft(current.task.assignment), { answer: (current.widget.draft ?? current.widget.value)(), comment: $("comment").value });
const load = (assignment) => remembered(draft(assignment));

function show(task, previous = task.answer) {
  const kind = task.kind;
  const missing = task.questions.find((q) => !KINDS[q.kind]);
  if (missing) return nothing(t("It cannot be shown"), t("The questions of the kind {kind} come from a package that is not here. Reload the page, or ask your lead.", { kind: missing.kind }));
  current?.view.close();
  $("desk").hidden = false;
  $("empty").hidden = true;
  current = { task, previous, key: fresh(), shown: Date.now(), active: 0, settled: false, view: { read: () => true, close: () => {} } };
  lessons.banner($("trial"), task.trial);
  panels.prompt($("prompt"), task.prompt);
  $("prompt").hidden = !task.responses.length && task.prompt.every((turn) => !turn.text); // a conversation that begins with nothing
  $("guidelines").innerHTML = task.guidelines?.html ?? "";
  $("guide").hidden = !task.guidelines;
  $("desk").classList.toggle("bare", !task.guidelines);
  typeset($("guidelines"));
  const comparing = task.responses.length > 0 && task.questions.some((q) => KINDS[q.kind].panels !== false);
  current.moves = task.responses.length > 0 && task.responses.every((r) => clip.read(r.text));
  $("views").hidden = !comparing || current.moves;
  $("desk").dataset.kind = kind;
  $("diff").hidden = task.responses.length !== 2;
  $("sync").hidden = task.responses.length < 2;
  for (const name of ["raw", "diff"]) $(name).setAttribute("aria-pressed", "false");
  current.critics = critics(task);
  current.view = panels.responses($("responses"), comparing ? task.responses : [], changed, $("foot"), current.critics);
  current.view.together($("sync").getAttribute("aria-pressed") === "true");
  current.widget = several(task) ? screen.widget(task, changed, KINDS) : KINDS[kind].widget(task, changed);
  const unpanelled = comparing ? [] : [current.critics.buttons, current.critics.words].flat().filter(Boolean);
  $("answer").replaceChildren(...lessons.suggestion(task.suggestion), ...unpanelled, current.widget.node);
  const saved = previous && !("skip" in previous) ? { answer: previous, comment: previous[COMMENT[kind]] ?? "" } : load(task.assignment);
  $("comment").value = saved?.comment ?? "";
  $("comment-fold").hidden = several(task);
  $("comment-fold").open = !NARROW.matches || Boolean(saved?.comment);
  if (saved?.answer) current.widget.set(saved.answer);
  current.settled = true;
  changed();
  $("prompt").scrollTop = 0;
  scrollTo(0, 0);
}

// After an answer the focus would stay on a button that cannot be pressed any more, and nobody who only hears the page
// would know that it has changed.
function arrived() {
  if (document.activeElement !== document.body) ($("prompt").hidden ? $("answer").querySelector("textarea") : $("prompt"))?.focus({ preventScroll: true });
  $("now").textContent = t("Sent. Question {n}.", { n: (answered += 1) + 1 });
}

function nothing(title, text, ...more) {
  current?.view.close();
  current = null;
  $("desk").hidden = $("trial").hidden = true;
  $("empty").hidden = false;
  $("empty-title").textContent = title;
  $("empty-text").textContent = text;
  $("empty-more").replaceChildren(...more);
  $("again").hidden = more.length > 0;
}

const REASONS = {
  "nothing left": [t("All done"), t("There is nothing left for you to judge here. Thank you!")],
  "daily limit": [t("Enough for today"), t("You have reached today's limit. Come back tomorrow.")],
  "skip limit": [t("Enough for today"), t("You have skipped or flagged as many questions as one may in a day. Come back tomorrow, or tell your lead what is wrong with them.")],
  "no gold questions": [t("Not ready for you yet"), t("This project asks some questions before the real work, and there are not enough of them. Tell your lead.")],
  "total limit": [t("You have done your share"), t("You have reached the limit of this project. Thank you!")],
  withdrawn: [t("Your answers are withdrawn"), t("So you are not asked anything here; “Your answers” says more.")],
  paused: [t("You are paused"), t("Ask your lead when you may go on.")],
  archived: [t("This project has ended"), t("Its lead has archived it. Thank you!")],
};

function progress(p) {
  const parts = [p.daily_limit ? t("{n} today of at most {most}", { n: p.today, most: p.daily_limit }) : t("{n} today", { n: p.today }), t("{n} in all", { n: p.total })];
  if (p.seconds_median) parts.push(t("about {n} s each", { n: p.seconds_median }));
  if (p.waiting) parts.push(p.at_least ? t("at least {n} left for you", { n: p.waiting }) : t("{n} left for you", { n: p.waiting }));
  // A bar only where its end is known.
  const bar = p.waiting && !p.at_least ? [el("progress", { max: p.total + p.waiting, value: p.total, "aria-label": t("How far you are") })] : [];
  $("progress").replaceChildren(parts.join(" · "), ...bar);
}

async function ask() {
  // What was just answered arrives first, so that the server counts it; a slow line holds nobody up.
  await Promise.race([sending, new Promise((done) => setTimeout(done, 1500))]);
  const holding = [current?.task.assignment, ...ahead.map((e) => e.task.assignment), ...(await outbox.all(rater)).map((e) => e.assignment)].filter(Boolean);
  const post = () => api("POST", `/api/projects/${project}/next`, { holding: [...new Set(holding)].slice(0, 10) });
  const reply = await post().catch(async (problem) => {
    if (problem.status !== 403) throw problem;
    await outbox.renew(rater);
    return post();
  });
  // What is wanted of others only is no number to be seen above "All done"; what is on the screen is still to be done.
  const here = (current && !current.sent ? 1 : 0) + ahead.length;
  progress(reply.why === "nothing left" ? { ...reply.progress, waiting: here } : reply.progress);
  if (reply.disclosure) REASONS.disclosure = [t("Before you begin"), "", ...consent.agreement(project, reply.disclosure, next)];
  if (reply.why === "not qualified" && reply.qualification) REASONS[reply.why] = lessons.failed(reply.qualification);
  return reply;
}

// The next question into `ahead`, or why there is none. One request at a time: two would bring the same question twice.
function prefetch() {
  loading ??= ask().then((reply) => {
    if (reply.task && !ahead.some((e) => e.task.assignment === reply.task.assignment)) ahead.push({ task: reply.task });
    return reply.why;
  }).finally(() => (loading = null));
  return loading;
}

async function next() {
  const call = ++turn;
  try {
    if (!ahead.length && loading) await loading;
    const why = ahead.length ? null : await prefetch();
    if (call !== turn) return;
    if (ahead.length) {
      const { task, answer: previous } = ahead.shift();
      show(task, previous);
      if (!ahead.length) prefetch().catch(() => {}); // asked for again when it is needed
    } else nothing(...(REASONS[why] ?? [t("A moment"), t("Your answers have to reach the server first.")]));
  } catch (problem) {
    if (current && !current.sent) return;
    if (problem.status === 403) nothing(t("You cannot go on now"), `${problem.error} ${t("Your answers are kept.")}`);
    else nothing(problem.status === 401 ? t("You are signed out") : t("No connection"), problem.status === 401 ? t("Sign in again in another tab, then look again. Your answers are kept.") : t("The next question cannot be fetched now. Your answers are kept."));
  }
}

// ── sending ──────────────────────────────────────────────────────────────────────────────────────

async function enqueue(value) {
  if (!current || current.sent) return; // a second Enter, while the next question is on its way
  current.sent = true;
  const { task, key, shown, active } = current;
  const body = { answer: value, active_ms: Math.round(active), wall_ms: Date.now() - shown, client_at: Date.now() / 1000, ui_version: UI };
  try {
    await outbox.put({ key, rater, assignment: task.assignment, body, at: Date.now() });
  } catch (problem) {
    say(t("This browser cannot keep your answer ({problem}); it is still on the screen.", { problem: problem?.message ?? problem }), "bad");
    current.sent = false;
    return;
  }
  try {
    localStorage.removeItem(draft(task.assignment));
  } catch {
    // nothing was kept there
  }
  undoable = "flag" in value ? [] : [...undoable, { task, answer: value }].slice(-UNDOS);
  $("undo").disabled = !undoable.length;
  sending = deliver();
  if (!("skip" in value || "flag" in value)) await lessons.lesson(task, sending);
  await next();
  if (current) arrived();
}

async function deliver() {
  clearTimeout(retry);
  const { waiting, refused, problem, sent } = await outbox.flush(rater);
  const place = $("outbox");
  place.replaceChildren();
  place.hidden = !waiting && !refused.length;
  if (waiting) {
    const why = problem?.status === 401 ? el("span", {}, t("You are signed out."), " ", el("a", { href: link("/login"), target: "_blank" }, t("Sign in and they are sent."))) : problem?.status === 403 ? problem.error : t("They are sent as soon as the server answers.");
    place.append(el("p", {}, waiting > 1 ? t("{n} answers are kept on this device.", { n: waiting }) : t("1 answer is kept on this device."), " ", why));
    retry = setTimeout(deliver, Math.max(2000, (problem?.wait ?? 0) * 1000, Math.min(30_000, 2000 * (deliver.failed = (deliver.failed ?? 0) + 1))));
  } else deliver.failed = 0;
  for (const entry of refused)
    place.append(el("p", {}, `${t("An answer was refused:")} ${entry.refused} `, el("code", {}, JSON.stringify(entry.body.answer)), " ",
      el("button", { type: "button", class: "quiet small", onclick: async () => {
        await outbox.remove(entry.key);
        deliver();
      } }, t("Discard it"))));
  // There may be a question now, and what came late has to be counted.
  if (!waiting && !$("empty").hidden && (sent || [t("A moment"), t("No connection"), t("You are signed out"), t("You cannot go on now")].includes($("empty-title").textContent))) next();
}

function submit() {
  const value = answer();
  if (value && !$("submit").disabled) enqueue(value);
  else if (current && !current.sent) current.widget.next?.();
}

function flag() {
  if (!current || current.sent) return; // the next question would be flagged, on which it is not seen yet
  $("flag-reason").value = "";
  $("flagging").returnValue = "";
  $("flagging").showModal();
}

$("flagging").addEventListener("close", () => {
  if ($("flagging").returnValue === "flag" && $("flag-reason").value.trim()) enqueue({ flag: $("flag-reason").value.trim() });
});

function undo() {
  if (!undoable.length) return;
  turn += 1;
  if (current && !current.sent) ahead.unshift({ task: current.task, answer: current.previous }); // it waits, and its draft is kept
  const { task, answer: previous } = undoable.pop();
  $("undo").disabled = !undoable.length;
  show(task, previous);
  say("skip" in previous ? t("You skipped this one: answer it, or skip it again.") : t("Change your answer and submit it again, or skip to leave it as it was."));
}

function skip() {
  if (current?.previous && !("skip" in current.previous)) {
    // It has an answer, which stays as it was.
    undoable = [...undoable, { task: current.task, answer: current.previous }].slice(-UNDOS);
    $("undo").disabled = false;
    next();
  } else enqueue({ skip: null });
}

// ── controls ─────────────────────────────────────────────────────────────────────────────────────

function toggle(name) {
  const on = $(name).getAttribute("aria-pressed") !== "true";
  for (const other of ["raw", "diff"]) $(other).setAttribute("aria-pressed", String(on && other === name));
  current?.view.view(on ? name : "html");
}

const COMMON = [...$("keys").children];
const there = (name) => $(name).offsetParent !== null; // a button that can be seen, with its key
function help() {
  const kinds = current ? [...new Set(current.task.questions.map((q) => q.kind))].map((kind) => KINDS[kind]) : [];
  const kindKeys = [...(current && several(current.task) ? screen.keys : []), ...kinds.flatMap((kind) => kind.keys ?? []), ...(current?.task.critiques ? [["m", t("ask what a model says against the responses")]] : [])];
  $("keys").replaceChildren(...kindKeys.flatMap(([keys, text]) => [el("dt", {}, keys.split(" ").map((k) => (k === "…" ? k : el("kbd", {}, k)))), el("dd", {}, text)]), ...COMMON.filter(({ dataset }) => !dataset.of || there(dataset.of)));
  $("help").showModal();
}

function guide() {
  if (!there("guide")) return;
  const hidden = $("desk").classList.toggle("unguided");
  $("guide").setAttribute("aria-expanded", String(!hidden));
}

$("submit").addEventListener("click", submit);
$("skip").addEventListener("click", skip);
$("flag").addEventListener("click", flag);
$("undo").addEventListener("click", undo);
for (const name of ["raw", "diff"])
  $(name).addEventListener("click", (event) => {
    toggle(name);
    if (event.detail) $(name).blur(); // pressed by a pointer: Enter is to submit, not to press it again
  });
$("guide").addEventListener("click", guide);
$("help-open").addEventListener("click", help);
// WCAG 2.1.4: who dictates, or types beside the fields, can switch single keys off.
$("single").checked = remembered("heedful:single-keys") !== false;
$("single").addEventListener("change", () => remember("heedful:single-keys", $("single").checked));
$("again").addEventListener("click", () => deliver().then(next));
$("comment").addEventListener("input", changed);
$("sync").addEventListener("click", () => {
  const on = $("sync").getAttribute("aria-pressed") !== "true";
  $("sync").setAttribute("aria-pressed", String(on));
  current?.view.together(on);
});

const typing = (node) => node.matches?.("textarea, select, input:not([type=checkbox]):not([type=radio]):not([type=range])");

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    submit();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  // A button takes the space bar and a slider the arrows, as everywhere.
  if (event.target.matches?.(event.key === " " ? "button, summary" : "input[type=range]") && /^( |Arrow|Page|Home|End)/.test(event.key)) return;
  if (event.key.length === 1 && !$("single").checked) return;
  if (event.key === "?") help();
  else if (event.repeat && ["Enter", "s", "f", "u"].includes(event.key)) return; // a key held down answers one question
  else if (event.key === "u") undo();
  else if (!current) return;
  else if (event.key === "Enter") {
    // On a button Enter presses it; the choices are radios, on which Enter submits.
    if (event.target.matches("button:not(.choice), a, summary")) return;
    submit();
  } else if (event.key === "s") skip();
  else if (event.key === "f") flag();
  else if (event.key === "g") guide();
  else if (event.key === "m" && current.task.critiques) current.critics.ask();
  else if (event.key === "r" && there("raw")) toggle("raw");
  else if (event.key === "d" && there("diff")) toggle("diff");
  else if (!current.widget.key(event)) return;
  event.preventDefault();
});

document.addEventListener("heedful:shown", () => typeset($("answer")));
addEventListener("online", deliver);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && deliver());

async function start() {
  await deliver();
  const assignment = meta("assignment");
  if (assignment) {
    try {
      show(await api("GET", `/api/assignments/${encodeURIComponent(assignment)}`));
      prefetch().catch(() => {});
      return;
    } catch (problem) {
      say(problem.error, "bad");
    }
  }
  await next();
}

start();
