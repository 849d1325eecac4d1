// Groups: named sets of people that can be given projects.
import { api, el, newest, say, stack } from "./api.js";

const rows = document.getElementById("groups");
const names = document.getElementById("names");

async function change(request, done) {
  try {
    await request();
    await list();
    say(done, "good");
  } catch (problem) {
    say(problem.error ?? String(problem), "bad");
  }
}

const button = (text, onclick, kind, label) => el("button", { type: "button", class: kind, onclick, "aria-label": label }, text);

function person(g, p) {
  const out = () => change(() => api("DELETE", `/api/groups/${g.id}/members/${p.rater}`), `${p.pseudonym} has left ${g.name}.`);
  return el("li", {}, p.pseudonym, " ", button("×", out, "quiet small", `Take ${p.pseudonym} out of ${g.name}`));
}

function row(g) {
  const who = el("input", { list: "names", "aria-label": `Add somebody to ${g.name}`, placeholder: "add somebody", autocomplete: "off", maxlength: 300 });
  const add = (event) => {
    event.preventDefault();
    const name = who.value.trim();
    if (name) change(() => api("PUT", `/api/groups/${g.id}/members`, { who: [name] }), `${name} belongs to ${g.name}.`);
  };
  const hidden = g.others ? [`${g.others} that you do not see`] : [];
  const rename = () => {
    const name = prompt("Another name of the group", g.name);
    if (name && name !== g.name) change(() => api("PATCH", `/api/groups/${g.id}`, { name }), "Renamed.");
  };
  const remove = () => confirm(`Delete the group ${g.name}? Its people stay, and lose what only the group gave them.`) && change(() => api("DELETE", `/api/groups/${g.id}`), `${g.name} is no more.`);
  return el("tr", {}, el("th", { scope: "row" }, g.name),
    el("td", {}, el("ul", { class: "names" }, g.people.map((p) => person(g, p))), el("form", { class: "row", onsubmit: add }, who, el("button", { type: "submit", class: "quiet small", "aria-label": `Add to ${g.name}` }, "Add"))),
    el("td", {}, [...g.projects.map((p) => `${p.name} (${p.role})`), ...hidden].join(", ")),
    el("td", {}, el("div", { class: "actions" }, button("Rename", rename, "quiet"), button("Delete", remove, "bad"))));
}

const list = newest(
  () => Promise.all([api("GET", "/api/groups"), api("GET", "/api/raters")]),
  ([groups, people]) => {
    stack(rows, groups.length ? groups.map(row) : [el("tr", {}, el("td", { colspan: 4, class: "hint" }, "There is no group yet."))]);
    names.replaceChildren(...people.filter((p) => p.role !== "judge" && p.status !== "gone").map((p) => el("option", { value: p.pseudonym })));
  });

document.getElementById("new-group").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = new FormData(event.target).get("name").trim();
  change(() => api("POST", "/api/groups", { name }), `${name} is there.`);
  event.target.reset();
});

list().catch((problem) => say(problem.error ?? String(problem), "bad"));
