// A project's name and its end.
import { api, link, say } from "../api.js";
import { $, attempt, project } from "./common.js";

const change = (values) => attempt(() => api("PATCH", `/api/projects/${project}`, values));

$("rename").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = event.target.elements.name.value.trim();
  if (!(await change({ name }))) return;
  document.querySelector(".project h1").textContent = name;
  $("delete")?.setAttribute("data-name", name);
  say("Renamed.", "good");
});

$("archive").addEventListener("click", async () => {
  const archived = $("archive").dataset.archived !== "yes";
  if (await change({ archived })) location.assign(link(archived ? "/lead" : `/lead/${project}/settings`));
});

$("delete")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const done = await attempt(() => api("POST", `/api/projects/${project}/delete`, { name: event.target.elements.name.value }));
  if (done) location.assign(link("/lead"));
});
