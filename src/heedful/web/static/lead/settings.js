// How a project asks, and what its raters read.
import { api, day, el } from "../api.js";
import { $, attempt, fill, project, rendered } from "./common.js";

const FIELDS = [
  ["gold_rate", "Gold rate: probability of a gold question", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["swap_rate", "Swap rate: probability that a pair is asked again in swapped order", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["order_by_chance", "Highest score first: share of the questions that are drawn by chance all the same", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["lease_minutes", "Lease of a question, in minutes", { type: "number", min: 0.1, step: "any" }],
  ["daily_limit", "Daily limit of answers per rater; 0: none", { type: "number", min: 0, step: 1 }],
  ["total_limit", "Total limit of answers per rater; 0: none", { type: "number", min: 0, step: 1 }],
  ["skips_until_parked", "Skips until a question is set aside", { type: "number", min: 1, step: 1 }],
  ["flags_an_hour", "Flags of a rater in an hour that set questions aside; 0: no limit", { type: "number", min: 0, step: 1 }],
  ["skips_an_hour", "Skips of a rater in an hour that count; 0: no limit", { type: "number", min: 0, step: 1 }],
  ["cost_per_hour", "Cost per hour", { type: "number", min: 0, step: "any" }],
  ["alert_seconds", "Alert: an answer within so many seconds is too fast to have read; 0: none", { type: "number", min: 0, step: "any" }],
  ["alert_hasty", "Alert: more than this share of a rater's answers are too fast", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["alert_gold", "Alert: less than this share of gold questions right; 0: none", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["alert_place", "Alert: the same place wins more than this share of a rater's pairs; 0: none", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["alert_drop", "Alert: agreement has fallen by more than this share; 0: none", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["alert_pace", "Alert: a rater takes less than this share of the others' time; 0: none", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["alert_silence", "Alert: no answer for so many days while some are wanted; 0: none", { type: "number", min: 0, step: "any" }],
  ["suggestions_hidden", "Suggestions: share of the questions on which they stay hidden, to measure their effect", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["critiques_hidden", "Critiques: share of the questions on which none can be asked for, to measure their effect", { type: "number", min: 0, max: 1, step: 0.01 }],
  ["talk_tokens", "Max tokens of a reply in conversations", { type: "number", min: 1, step: 1 }],
  ["talk_temperature", "Temperature of replies in conversations", { type: "number", min: 0, step: "any" }],
];

const whose = (chosen, sources = []) => [...new Set(["", chosen, ...sources])].map((name) => el("option", { value: name, selected: name === chosen }, name || "nobody's"));

async function listSources(of) {
  const found = await attempt(() => api("GET", `/api/projects/${project}/${of}`));
  const select = $("settings").elements[of];
  if (found) select.replaceChildren(...whose(select.value, found.sources.map((s) => s.source)));
}

function drawSettings(details) {
  const settings = details.settings;
  const order = el("select", { name: "order" }, [["random", "by chance"], ["priority", "the highest score first"]].map(([v, name]) => el("option", { value: v, selected: settings.order === v }, name)));
  $("settings").replaceChildren(
    ...FIELDS.map(([name, label, attributes]) => el("label", {}, label, el("input", { name, value: settings[name], required: true, ...attributes }))),
    el("label", {}, "Order of questions", order),
    el("label", {}, "Suggestions that raters see; a model's are made by heedful suggest", el("select", { name: "suggestions" }, whose(settings.suggestions))),
    el("label", {}, "Critiques of responses that raters can ask for; heedful suggest --critiques brings them", el("select", { name: "critiques" }, whose(settings.critiques))),
    el("label", {}, "Models to talk to in conversations, one a line", el("span", { class: "hint", id: "models-hint" }), el("textarea", { name: "models", rows: 2 }, settings.models.join("\n"))),
    el("button", { type: "submit" }, "Save"));
}

async function listModels() {
  const names = await attempt(() => api("GET", "/api/models"));
  if (names) $("models-hint").textContent = names.length ? ` of ${names.join(", ")}` : " (there are none here yet)";
}

function drawVersions(versions) {
  $("versions").replaceChildren(...versions.map((v) => el("li", {}, `${day(v.created_at)}, shown with ${v.shown} questions`)));
}

$("settings").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const settings = Object.fromEntries(FIELDS.map(([name]) => [name, Number(form.get(name))]));
  settings.order = form.get("order");
  for (const name of ["suggestions", "critiques"]) settings[name] = form.get(name);
  settings.models = form.get("models").split("\n").map((m) => m.trim()).filter(Boolean);
  // The form shows them already; drawn again, it would take away what is being typed into it.
  await attempt(() => api("PATCH", `/api/projects/${project}`, { settings }), "Saved.");
});

$("guidelines").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = event.target.elements.body.value;
  const version = await attempt(() => api("PUT", `/api/projects/${project}/guidelines`, { body }), "Written; raters see it from their next question on.");
  if (!version) return;
  $("preview").replaceChildren(rendered(version.html));
  const details = await attempt(() => api("GET", `/api/projects/${project}`));
  if (details) drawVersions(details.guidelines);
});

$("disclosure").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = event.target.elements.body.value;
  await attempt(() => api("PUT", `/api/projects/${project}/disclosure`, { body }), body.trim() ? "Written; everybody is asked to agree before their next question." : "Nobody is asked to agree to anything any more.");
});

// The text is fetched once, when the page opens, and never again: whatever answers later would overwrite what is being typed.
fill($("settings"), () => api("GET", `/api/projects/${project}`), drawSettings).then((details) => {
  if (!details) return;
  listModels();
  for (const of of ["suggestions", "critiques"]) listSources(of);
  const { elements } = $("guidelines");
  const disclosed = $("disclosure").elements.body;
  if (!disclosed.value) disclosed.value = details.disclosure?.body ?? "";
  const newest = details.guidelines[0];
  if (!elements.body.value) elements.body.value = newest?.body ?? "";
  $("preview").replaceChildren(rendered(newest?.html ?? ""));
  drawVersions(details.guidelines);
});
