// Jobs that train: started from a form, followed by their log, stopped.
import { api, day, el, link, say } from "../api.js";
import { $, attempt, fill, project } from "./common.js";

const EVERY = 2_000;
const WORDS = { iterate: "training with people", compare: "comparing methods" };
const LIST = ["methods"];
const open = new Map(); // job id: {text, next}, of those whose log is shown

function values(form) {
  const given = { command: form.dataset.command };
  for (const { name, type, value, checked } of form.elements) {
    if (!name || LIST.includes(name)) continue;
    if (type === "checkbox") given[name] = checked;
    else if (value !== "") given[name] = type === "number" ? Number(value) : value;
  }
  for (const name of LIST) if (form.elements[name]) given[name] = [...form.elements[name].selectedOptions].map((o) => o.value);
  return given;
}

for (const form of [$("round"), $("comparison")])
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const job = await attempt(() => api("POST", `/api/projects/${project}/jobs`, values(form)));
    if (!job) return;
    open.set(job.id, { text: "", next: 0 });
    await load();
    say(`${job.name} has begun.`, "good");
  });

async function stop(job, force) {
  if (force && !confirm(`End ${job.name} at once? What it did since its last checkpoint is lost.`)) return;
  if ((await attempt(() => api("POST", `/api/jobs/${job.id}/stop`, { force }))) && (await load())) say(force ? "Ended." : "It saves what it has, and stops.", "good");
}

function row(job) {
  const shown = open.get(job.id);
  const log = el("pre", { class: "config log", tabindex: "0", role: "log", "aria-label": `Log of ${job.name}`, hidden: !shown }, shown?.text ?? "");
  const toggle = el("button", { type: "button", class: "quiet small", "aria-expanded": String(Boolean(shown)), onclick: () => {
    if (open.has(job.id)) open.delete(job.id);
    else open.set(job.id, { text: "", next: 0 });
    load();
  } }, shown ? "Hide the log" : "Log");
  const running = job.state === "running";
  return el("li", { class: "card", "data-job": job.id },
    el("div", { class: "head" }, el("strong", {}, job.name), el("span", { class: `state ${job.state}` }, job.state === "failed" ? `failed (${job.code})` : job.state),
      el("span", { class: "hint" }, [WORDS[job.command] ?? job.command, `begun ${day(job.started_at)}`, job.ended_at && `ended ${day(job.ended_at)}`].filter(Boolean).join(" · ")),
      job.report ? el("a", { href: link(`/runs/${job.report}`) }, "report") : null,
      job.runs.map((run, i) => el("a", { href: link(`/runs/${run}`) }, job.runs.length > 1 ? `curves ${i + 1}` : "curves")),
      toggle, running ? el("button", { type: "button", class: "bad small", onclick: () => stop(job, false) }, "Stop") : null, running ? el("button", { type: "button", class: "quiet small", onclick: () => stop(job, true) }, "End at once") : null),
    log);
}

async function logs() {
  for (const [id, shown] of open) {
    const after = shown.next;
    const told = await attempt(() => api("GET", `/api/jobs/${id}?after=${after}`));
    if (!told || shown.next !== after) continue; // another call has brought it meanwhile
    shown.text = (shown.text + told.log.text).slice(-200_000);
    shown.next = told.log.next;
  }
}

function draw(jobs) {
  const bottom = new Set([...document.querySelectorAll(".log")].filter((p) => p.scrollTop + p.clientHeight < p.scrollHeight - 8).map((p) => p.closest("li").dataset.job));
  $("jobs").replaceChildren(...(jobs.length ? jobs.map(row) : [el("li", { class: "hint" }, "None yet.")]));
  for (const pre of document.querySelectorAll(".log")) if (!bottom.has(pre.closest("li").dataset.job)) pre.scrollTop = pre.scrollHeight;
}

let drawn = "";
async function load() {
  await logs();
  return fill($("jobs"), () => api("GET", "/api/jobs"), (jobs) => {
    const now = JSON.stringify([jobs, [...open]]);
    if (now !== drawn) draw(jobs); // drawn anew it would take the focus away
    drawn = now;
  });
}

load();
setInterval(() => document.visibilityState === "visible" && load(), EVERY);
