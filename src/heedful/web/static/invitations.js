// Invitations: links for one person each, made together, copied or sent by mail, with their state.
import { api, day, el, link, newest, say, stack } from "./api.js";

const $ = (id) => document.getElementById(id);
const button = (text, onclick, label, kind = "quiet small") => el("button", { type: "button", class: kind, onclick, "aria-label": label }, text);
const date = (seconds) => new Date(seconds * 1000).toLocaleDateString(undefined, { dateStyle: "medium" });
const whom = (i) => [i.name, i.email].filter(Boolean).join(", ") || "whoever has it";
let made = []; // of this page, whose links are known: the server keeps only their hashes

async function attempt(request) {
  try {
    return await request();
  } catch (problem) {
    say(problem.error ?? String(problem), "bad");
    return null;
  }
}

// Over plain HTTP there is no clipboard: then what is to be copied is selected.
async function copy(text, node, done) {
  try {
    await navigator.clipboard.writeText(text);
    say(done, "good");
  } catch {
    getSelection().selectAllChildren(node);
    say("This browser does not let a page copy here; it is selected for you.");
  }
}

function drawLinks() {
  $("made").hidden = !made.length;
  $("made-say").textContent = `${made.length === 1 ? "A link" : `${made.length} links`} for one person each, for seven days, shown only now.`;
  stack($("links"), made.map((m) => {
    const place = el("code", {}, m.url);
    return el("tr", {}, el("th", { scope: "row" }, whom(m)), el("td", {}, button("Copy", () => copy(m.url, place, "Copied."), `Copy the link for ${whom(m)}`)), el("td", { class: "wrap" }, place));
  }));
}

$("copy-all").addEventListener("click", () =>
  copy(made.map((m) => (m.name || m.email ? `${whom(m)}\t${m.url}` : m.url)).join("\n"), $("links"), made.length === 1 ? "Copied." : `${made.length} links are copied, one a line.`));

$("invite").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const body = { role: form.get("role"), people: form.get("people"), mail: form.get("mail") === "on" };
  if (form.get("group")) body.groups = [form.get("group")];
  if (form.get("project")) body.projects = { [form.get("project")]: form.get("place") };
  const reply = await attempt(() => api("POST", "/api/invitations", body));
  if (!reply) return;
  made = reply.invitations.map((m) => ({ ...m, url: link(`/join${new URL(m.url).search}`) }));
  event.target.elements.people.value = "";
  drawLinks();
  await attempt(list);
});

const withdraw = async (i) => {
  if (!(await attempt(() => api("DELETE", `/api/invitations/${i.id}`)))) return;
  await attempt(list);
  say("Withdrawn.", "good");
};

const state = (i) => [i.state, i.problem ? `not sent: ${i.problem}` : i.sent_at ? `sent ${day(i.sent_at)}` : null].filter(Boolean).join(", ");

const list = newest(() => api("GET", "/api/invitations"), (rows) =>
  stack($("invitations"), rows.length ? rows.map((i) =>
    el("tr", {}, el("th", { scope: "row" }, whom(i)), el("td", {}, [i.role, ...i.groups].join(", ")), el("td", { class: i.problem ? "bad-words" : null }, state(i)), el("td", {}, date(i.created_at)),
      el("td", {}, i.state === "withdrawn" ? "" : date(i.expires_at)), el("td", {}, i.used_by ?? ""),
      el("td", {}, i.state === "open" ? button("Withdraw", () => withdraw(i), `Withdraw the invitation of ${whom(i)}`, "bad") : "")))
    : [el("tr", {}, el("td", { colspan: 7, class: "hint" }, "Nobody has been invited yet."))]));

const options = (id, rows) => $(id).append(...rows.map((r) => el("option", { value: r.id }, r.name)));

attempt(async () => {
  await list();
  options("invite-group", await api("GET", "/api/groups"));
  options("invite-project", (await api("GET", "/api/projects")).filter((p) => p.role === "lead"));
});
