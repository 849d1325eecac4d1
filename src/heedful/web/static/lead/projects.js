// All projects, and a new one.
import { api, day, el, link } from "../api.js";
import { $, attempt, fill } from "./common.js";

function card(p) {
  const left = p.wanted.open + p.wanted.leased;
  const facts = [`${p.stored} answers stored`, left ? `${left} wanted` : "nothing wanted", p.wanted.parked ? `${p.wanted.parked} set aside` : null, p.last_at ? `last ${day(p.last_at)}` : null];
  return el("section", { class: "card" }, el("h2", {}, el("a", { href: link(`/lead/${p.id}`) }, p.name)), el("p", {}, facts.filter(Boolean).join(" · ")),
    el("p", {}, el("a", { class: "button", href: link(`/lead/${p.id}`) }, "Look"), " ", el("a", { class: "button quiet", href: link(`/rate/${p.id}`) }, "Rate")));
}

fill($("projects"), () => api("GET", "/api/projects"), (projects) =>
  $("projects").replaceChildren(...(projects.length ? projects.map(card) : [el("p", { class: "hint" }, "There is no project yet.")])));

$("new-project").addEventListener("submit", async (event) => {
  event.preventDefault();
  const project = await attempt(() => api("POST", "/api/projects", { name: new FormData(event.target).get("name") }));
  if (project) location.assign(link(`/lead/${project.id}/files`));
});
