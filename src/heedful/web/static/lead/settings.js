// How a project asks, and what its raters read.
import { api, day, el } from "../api.js";
import { $, attempt, fill, project, rendered } from "./common.js";

const SHARE = { type: "number", min: 0, max: 1, step: 0.01 };
const WHOLE = { type: "number", min: 0, step: 1 };
const ANY = { type: "number", min: 0, step: "any" };

const NONE = { suggestions: "nobody's", critiques: "nobody's", profiles: "none are made" }; // whose they are may be chosen
const whose = (of, chosen, sources = []) => [...new Set(["", chosen, ...sources])].map((name) => el("option", { value: name, selected: name === chosen }, name || NONE[of]));
const choose = (name, label, options) => (settings) => el("label", {}, label, el("select", { name }, options(settings)));
const ORDERS = [["random", "by chance"], ["priority", "the highest score first"]];

// Headings, each with its fields: [setting, label, attributes] of a number, or a function that makes the node.
const GROUPS = [
  ["Asking", [
    choose("order", "Order of questions", (settings) => ORDERS.map(([v, name]) => el("option", { value: v, selected: settings.order === v }, name))),
    ["order_by_chance", "Highest score first: share of the questions that are drawn by chance all the same", SHARE],
    ["lease_minutes", "Lease of a question, in minutes", { ...ANY, min: 0.1 }],
    ["skips_until_parked", "Skips until a question is set aside", { ...WHOLE, min: 1 }],
    ["skips_an_hour", "Skips of a rater in an hour that count; 0: no limit", WHOLE],
    ["flags_an_hour", "Flags of a rater in an hour that set questions aside; 0: no limit", WHOLE],
  ]],
  ["Alerts", [
    ["alert_seconds", "An answer within so many seconds is too fast to have read; 0: none", ANY],
    ["alert_hasty", "More than this share of a rater's answers are too fast", SHARE],
    ["alert_gold", "Less than this share of gold questions right; 0: none", SHARE],
    ["alert_place", "The same place wins more than this share of a rater's pairs; 0: none", SHARE],
    ["alert_drop", "Agreement has fallen by more than this share; 0: none", SHARE],
    ["alert_pace", "A rater takes less than this share of the others' time; 0: none", SHARE],
    ["alert_silence", "No answer for so many days while some are wanted; 0: none", ANY],
  ]],
  ["Quality", [
    ["gold_rate", "Gold rate: probability of a gold question", SHARE],
    ["swap_rate", "Swap rate: probability that a pair is asked again in swapped order", SHARE],
  ]],
  ["People", [
    ["daily_limit", "Daily limit of answers per rater; 0: none", WHOLE],
    ["total_limit", "Total limit of answers per rater; 0: none", WHOLE],
    ["cost_per_hour", "Cost per hour", ANY],
    choose("profiles", "Profiles: what each rater seems to like, made from their answers with a folder of heedful pluralism; they see it and can switch it off", (settings) => whose("profiles", settings.profiles)),
  ]],
  ["What models say", [
    choose("suggestions", "Suggestions that raters see; a model's are made by heedful suggest", (settings) => whose("suggestions", settings.suggestions)),
    ["suggestions_hidden", "Share of the questions on which suggestions stay hidden, to measure their effect", SHARE],
    choose("critiques", "Critiques of responses that raters can ask for; heedful suggest --critiques brings them", (settings) => whose("critiques", settings.critiques)),
    ["critiques_hidden", "Share of the questions on which none can be asked for, to measure their effect", SHARE],
  ]],
  ["Conversations", [
    (settings) => el("label", { class: "whole" }, "Models to talk to in conversations, one a line", el("span", { class: "hint", id: "models-hint" }), el("textarea", { name: "models", rows: 2 }, settings.models.join("\n"))),
    ["talk_tokens", "Max tokens of a reply in conversations", { ...WHOLE, min: 1 }],
    ["talk_temperature", "Temperature of replies in conversations", ANY],
  ]],
];
const NUMBERS = GROUPS.flatMap(([, fields]) => fields).filter(Array.isArray).map(([name]) => name);

async function listSources(of) {
  const found = await attempt(() => api("GET", `/api/projects/${project}/${of}`));
  const select = $("settings").elements[of];
  if (!found) return;
  select.replaceChildren(...whose(of, select.value, found.sources.map((s) => s.source)));
  if (found.running || found.said) select.before(el("span", { class: "hint" }, ` ${found.running ? "being made now" : found.said}`));
}

function drawSettings({ settings }) {
  const number = ([name, label, attributes]) => el("label", {}, label, el("input", { name, value: settings[name], required: true, ...attributes }));
  const group = ([title, fields]) => el("fieldset", { class: "group" }, el("legend", {}, el("h3", {}, title)), fields.map((field) => (Array.isArray(field) ? number(field) : field(settings))));
  $("settings").replaceChildren(...GROUPS.map(group), el("p", { class: "save" }, el("button", { type: "submit" }, "Save")));
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
  const settings = Object.fromEntries(NUMBERS.map((name) => [name, Number(form.get(name))]));
  settings.order = form.get("order");
  for (const name of Object.keys(NONE)) settings[name] = form.get(name);
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
  Object.keys(NONE).forEach(listSources);
  const { elements } = $("guidelines");
  const disclosed = $("disclosure").elements.body;
  if (!disclosed.value) disclosed.value = details.disclosure?.body ?? "";
  const newest = details.guidelines[0];
  if (!elements.body.value) elements.body.value = newest?.body ?? "";
  $("preview").replaceChildren(rendered(newest?.html ?? ""));
  drawVersions(details.guidelines);
});
