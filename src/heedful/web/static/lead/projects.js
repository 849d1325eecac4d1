// All projects, and a new one.
import { api, day, el, link, say } from "../api.js";
import { $, attempt, fill } from "./common.js";

function card(p) {
  const left = p.wanted.open + p.wanted.leased;
  const facts = [`${p.stored} answers stored`, left ? `${left} wanted` : "nothing wanted", p.wanted.parked ? `${p.wanted.parked} set aside` : null, p.last_at ? `last ${day(p.last_at)}` : null];
  if ($("shelf").value === "deleted")
    return el("section", { class: "card" }, el("h2", { dir: "auto" }, p.name), el("p", {}, facts.filter(Boolean).join(" · ")), el("p", {}, el("button", { type: "button", class: "quiet", onclick: () => restore(p) }, "Bring it back")));
  return el("section", { class: "card" }, el("h2", { dir: "auto" }, el("a", { href: link(`/lead/${p.id}`) }, p.name)), el("p", {}, facts.filter(Boolean).join(" · ")),
    el("p", {}, el("a", { class: "button", href: link(`/lead/${p.id}`) }, "Open"), " ", el("a", { class: "button quiet", href: link(`/rate/${p.id}`) }, "Rate")));
}

const list = () => fill($("projects"), () => api("GET", `/api/projects?which=${$("shelf").value}`), (projects) =>
  $("projects").replaceChildren(...(projects.length ? projects.map(card) : [el("p", { class: "hint" }, $("shelf").value === "active" ? "There is no project yet." : "None.")])));

async function restore(p) {
  const back = await attempt(() => api("POST", `/api/projects/${p.id}/restore`, {}));
  if (back && (await list())) say(`${back.name} is back.`, "good");
}

$("shelf").addEventListener("change", list);
list();

$("new-project").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, starter } = event.target.elements;
  const { questions: asked = "[]", next = "screen" } = starter.selectedOptions[0].dataset;
  const questions = JSON.parse(asked);
  const project = await attempt(() => api("POST", "/api/projects", { name: name.value, settings: { questions } }));
  if (project) location.assign(link(`/lead/${project.id}/${next}`));
});
