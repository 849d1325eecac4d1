// Files in and out, and webhooks.
import { api, el, newest, say, stack } from "../api.js";
import { $, ask, attempt, label, project } from "./common.js";
import { download, raw } from "./download.js";

const MOST = 100_000_000;
const ASK = JSON.parse(document.getElementById("import").dataset.ask); // what: kinds of question

// ── out ──────────────────────────────────────────────────────────────────────────────────────────

$("export").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const query = new URLSearchParams({ what: form.get("what"), format: form.get("format"), split: form.get("split") });
  if (form.get("question")) query.set("question", form.get("question"));
  for (const name of ["surplus", "gold", "swaps", "margin"]) if (form.has(name)) query.set(name, "true");
  const name = `${form.get("what")}.${form.get("format")}`;
  const manifest = await attempt(() => download("GET", `/api/projects/${project}/export?${query}`, name));
  if (!manifest) return;
  const excluded = Object.entries(manifest.excluded ?? {}).map(([why, n]) => `${n} ${why}`);
  $("manifest").hidden = false;
  $("manifest").replaceChildren(el("p", { role: "status" }, `${manifest.rows} rows in ${name}.${excluded.length ? ` Left out: ${excluded.join(", ")}.` : ""}`),
    el("p", { class: "hint" }, `The same bytes again, at any time: heedful export ${form.get("what")} FILE --snapshot ${manifest.snapshot}`));
});

// ── in ───────────────────────────────────────────────────────────────────────────────────────────

const importForm = $("import");
function adapt() {
  const what = importForm.elements.what.value;
  for (const node of importForm.querySelectorAll("[data-for]")) node.hidden = !node.dataset.for.split(" ").includes(what);
  const kinds = ASK[what] ?? [];
  importForm.elements.ask.replaceChildren(el("option", { value: "" }, "nothing yet"), ...kinds.map((k) => el("option", { value: k }, k === "screen" ? "answer the project’s questions, on one screen" : label(k))));
  if (importForm.dataset.screen && kinds.includes("screen")) importForm.elements.ask.value = "screen";
}
importForm.elements.what.addEventListener("change", adapt);
adapt();

// Columns that a file may have under other names.
const NAMES = { comparisons: ["prompt", "chosen", "rejected", "responses", "ranking", "rater"], samples: ["prompt", "completion"], prompts: ["prompt"], gold: ["prompt", "responses", "completion", "answer", "explanation"], demonstrations: ["prompt", "completion"], records: [] };
let renamed = {}; // by the name that is wanted
let inFile = []; // names of columns, as they are in the file
let turn = 0; // counts looks, and changes of the form: what was asked for before them is not shown any more

function query(look) {
  const form = new FormData(importForm);
  const what = form.get("what");
  const found = new URLSearchParams({ what, name: form.get("file").name });
  if (look) found.set("dry_run", "true");
  const columns = Object.entries(renamed).map((pair) => pair.join("=")).join(",");
  if (columns) found.set("columns", columns);
  if (what === "comparisons") {
    if (form.has("gold")) found.set("gold", "true");
    if (form.has("drop")) found.set("on_bad_row", "drop");
  } else if (form.get("ask")) {
    found.set("ask", form.get("ask"));
    if (what !== "gold") found.set("overlap", form.get("overlap"));
    if (what === "samples" && form.has("together")) found.set("together", "true");
  }
  return found;
}

const busy = (words) => {
  $("added").textContent = words;
  for (const button of [importForm.querySelector("button[type=submit]"), $("confirm")]) button.disabled = Boolean(words);
};

// What the server says of the file; null where it says nothing, or too late.
async function send(look) {
  const file = new FormData(importForm).get("file");
  if (file.size > MOST) return say("This file is too large for the browser; use heedful import.", "bad");
  const call = ++turn;
  busy(look ? "Reading…" : "Importing…");
  const result = await attempt(async () => (await raw("POST", `/api/projects/${project}/import?${query(look)}`, file, { "Content-Type": "application/octet-stream" })).json());
  if (look && call !== turn) return null;
  busy("");
  return result;
}

const numbers = (counts) => Object.entries(counts).filter(([, n]) => n).map(([k, n]) => (k.includes("`") ? `${k} (${n})` : `${n} ${(n === 1 ? k.replace(/s$/, "").replace("people", "person") : k).replaceAll("_", " ")}`)).join(", ");
const words = (value) => (typeof value === "string" ? value : JSON.stringify(value)).slice(0, 300);
// Several texts, such as the responses to a prompt, as the texts that they are, one below the other.
const message = (value) => value !== null && typeof value === "object" && typeof value.content === "string";
// What each person answered, a line for each question.
const said = (people) => el("dl", {}, Object.entries(people).flatMap(([who, answers]) => [el("dt", { dir: "auto" }, who), ...Object.entries(answers).map(([question, answer]) => el("dd", {}, `${question}: ${words(answer)}`))]));
const cell = (value, name) => (name === "answers" ? said(value) : Array.isArray(value) && value.length && value.every(message) ? value.map((m) => el("p", {}, value.length > 1 ? el("span", { class: "hint" }, `${m.role} `) : null, words(m.content))) : Array.isArray(value) && value.some((v) => typeof v === "string") ? el("ol", { class: "texts" }, value.map((v) => el("li", { dir: "auto" }, words(v)))) : value === undefined ? "" : words(value));

// For each column that is wanted, which one of the file it is.
function drawColumns() {
  const names = NAMES[importForm.elements.what.value];
  $("look-map").hidden = !inFile.length || !names.length;
  $("look-columns").replaceChildren(...names.map((name) => el("label", {}, name, " ", el("select", { onchange: (event) => {
    if (event.target.value) renamed[name] = event.target.value;
    else delete renamed[name];
    look({ chosen: true });
  } }, el("option", { value: "" }, "as it is"), ...inFile.map((column) => el("option", { value: column, selected: renamed[name] === column }, column))))));
}

// `chosen`: among the columns, which drawn again would take the focus away.
async function look({ chosen } = {}) {
  const seen = await send(true);
  if (!seen) return;
  if (!chosen) {
    if (!Object.keys(renamed).length) inFile = seen.columns;
    drawColumns();
  }
  $("look").hidden = false;
  $("look-counts").textContent = seen.problem ?? `${numbers(seen.counts)}.`;
  $("look-counts").classList.toggle("wrong", Boolean(seen.problem));
  $("confirm").hidden = Boolean(seen.problem);
  if (seen.problem) $("look-map").open = true;
  const names = [...new Set((seen.first ?? []).flatMap(Object.keys))];
  $("look-head").replaceChildren(...names.map((name) => el("th", { scope: "col" }, name)));
  $("look-rows").replaceChildren(...(seen.first ?? []).map((row) => el("tr", {}, names.map((name) => el("td", { dir: "auto" }, cell(row[name], name))))));
}

importForm.addEventListener("submit", (event) => {
  event.preventDefault();
  look();
});
importForm.addEventListener("change", () => {
  turn += 1;
  $("look").hidden = true;
  busy("");
});
for (const name of ["file", "what"]) importForm.elements[name].addEventListener("change", () => (renamed = {}));
$("confirm").addEventListener("click", async () => {
  const added = await send(false);
  if (!added) return;
  $("look").hidden = true;
  const { items: _, ...kept } = added; // rows of the file, new or not
  $("added").textContent = `Added ${numbers(kept) || "nothing: all of it was there"}.`;
});

// ── attempts to break rules ──────────────────────────────────────────────────────────────────────

$("probes").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { rules, system, ...numbers } = Object.fromEntries(new FormData(event.target));
  const lines = rules.split("\n").map((line) => line.trim()).filter(Boolean);
  const bad = lines.find((line) => !/^[^:]*\S[^:]*:.*\S/.test(line));
  if (bad !== undefined) return say(`A rule is a short name, a colon and what raters read, and not “${bad.slice(0, 60)}”.`, "bad");
  const named = lines.map((line) => ({ code: line.slice(0, line.indexOf(":")).trim(), text: line.slice(line.indexOf(":") + 1).trim() }));
  const made = await attempt(() => api("POST", `/api/projects/${project}/probes`, { rules: named, system: system.trim(), ...Object.fromEntries(Object.entries(numbers).map(([name, n]) => [name, Number(n)])) }));
  if (made) $("probed").textContent = made.tasks ? `${made.tasks} new question${made.tasks === 1 ? "" : "s"}, one for each rule.` : "Nothing new: all of it was asked before. Under Questions more answers can be wanted.";
});

// ── plays ────────────────────────────────────────────────────────────────────────────────────────

async function toPlay(part, body) {
  const made = await attempt(() => api("POST", `/api/projects/${project}/plays${part}`, body));
  if (made) $("played").textContent = made.tasks === 1 ? "1 new question." : `${made.tasks} new questions.`;
}

$("plays")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const { env, ...numbers } = Object.fromEntries(new FormData(event.target));
  $("played").textContent = "A moment…";
  toPlay("", { env, ...Object.fromEntries(Object.entries(numbers).map(([name, n]) => [name, Number(n)])) });
});
$("compare-plays")?.addEventListener("click", () => toPlay("/compare", {}));

// ── webhooks ─────────────────────────────────────────────────────────────────────────────────────

const listHooks = newest(() => ask("webhooks"), (hooks) =>
  stack($("hooks"), hooks.map((h) => el("tr", {}, el("th", { scope: "row", class: "wrap" }, h.url, h.added_by ? el("small", { class: "hint" }, ` by ${h.added_by}${h.paused ? ", who is paused: it waits" : ""}`) : null), ...["waiting", "sent", "failed"].map((k) => el("td", { class: "number" }, String(h[k]))),
    el("td", {}, h.failed ? el("button", { type: "button", class: "quiet", onclick: () => again(h.id) }, "Send all again") : null, el("button", { type: "button", class: "bad", onclick: () => removeHook(h) }, "Remove"))))));

const listDeliveries = newest(() => ask("deliveries"), (failed) => {
  $("failed").hidden = !failed.length;
  $("deliveries").replaceChildren(...failed.map((d) => el("tr", {}, el("td", {}, d.url), el("td", {}, d.event), el("td", {}, d.error ?? `status ${d.status}`),
    el("td", {}, el("button", { type: "button", class: "quiet", onclick: () => again(d.id) }, "Send again")))));
});

const again = (id) => attempt(async () => {
  await api("POST", `/api/webhooks/${id}/again`, {});
  await Promise.all([listHooks(), listDeliveries()]);
}, "On its way again.");

const removeHook = (h) => attempt(async () => {
  await api("DELETE", `/api/webhooks/${h.id}`);
  await listHooks();
}, "Removed.");

$("new-hook").addEventListener("submit", async (event) => {
  event.preventDefault();
  const webhook = await attempt(() => api("POST", `/api/projects/${project}/webhooks`, { url: new FormData(event.target).get("url") }));
  if (!webhook) return;
  $("secret").hidden = false;
  $("secret").textContent = `It is signed with this, shown only now: ${webhook.secret}`;
  event.target.reset();
  attempt(listHooks);
});

attempt(listHooks);
attempt(listDeliveries);
