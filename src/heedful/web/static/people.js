// Raters and what opens their accounts, for those who lead.
import { api, day, el, link, newest, say, stack } from "./api.js";
import { device } from "./device.js";

const raters = document.getElementById("raters");
const owner = Boolean(raters.dataset.owner);

const failure = (problem) => [problem.error ?? String(problem), "bad"];

// `lists` are those that change; they are drawn again before it is said, and all of them after something went wrong.
async function attempt(request, done, ...lists) {
  let message = [done, "good"];
  try {
    await request();
  } catch (problem) {
    message = failure(problem);
    lists = [listRaters];
  }
  try {
    await Promise.all(lists.map((list) => list()));
  } catch (problem) {
    message = failure(problem);
  }
  if (message[0]) say(...message);
}

// The row shows the change already; drawn again, it would take away what is being typed into the next field.
const change = (rater, values) => attempt(() => api("PATCH", `/api/raters/${rater.id}`, values), "Saved.");

function pick(rater, name, values) {
  const select = el("select", { "aria-label": `${name} of ${rater.pseudonym}`, onchange: (e) => change(rater, { [name]: e.target.value }) },
    values.map((v) => el("option", { value: v, selected: v === rater[name] }, v)));
  return select;
}

function limit(rater, name, label) {
  return el("input", { type: "number", min: "0", step: name === "cost_per_hour" ? "0.01" : "1", value: rater.settings[name] ?? "", "aria-label": `${label} of ${rater.pseudonym}`,
    onchange: (e) => change(rater, { settings: { [name]: e.target.value === "" ? null : Number(e.target.value) } }) });
}

function row(r) {
  const person = r.role !== "judge" && r.status !== "gone";
  const editable = person && (owner || r.role === "rater");
  return el("tr", {},
    el("th", { scope: "row" }, r.pseudonym),
    owner ? el("td", {}, r.login ?? "") : null,
    el("td", {}, editable && owner ? pick(r, "role", ["rater", "lead", "owner"]) : r.role),
    el("td", {}, editable ? pick(r, "status", ["active", "paused"]) : r.status),
    el("td", { class: "number" }, String(r.answers)),
    el("td", {}, editable ? limit(r, "daily_limit", "Daily limit") : ""),
    el("td", {}, editable ? limit(r, "cost_per_hour", "Cost an hour") : ""),
    el("td", {}, editable ? el("div", { class: "actions" }, [
      button("New password", () => reset(r), "quiet"),
      owner ? button("Sessions", () => attempt(() => showAccess(r), ""), "quiet") : null,
      owner ? button("Erase", () => erase(r), "bad") : null]) : ""));
}

const button = (text, onclick, kind) => el("button", { type: "button", class: kind, onclick }, text);

// ── accounts ─────────────────────────────────────────────────────────────────────────────────────

const reset = (r) => attempt(async () => {
  const { url } = await api("POST", `/api/raters/${r.id}/reset`, {});
  const place = document.getElementById("link");
  place.textContent = `For ${r.pseudonym} to set a new password, once and within a day, shown only now: ${link(`/reset${new URL(url).search}`)}`;
  place.hidden = false;
}, "");

async function showAccess(r) {
  const { sessions, tokens } = await api("GET", `/api/raters/${r.id}/access`);
  const open = tokens.filter((t) => t.revoked_at === null);
  const line = (name, entry, path) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, entry.address ?? ""), el("td", {}, entry.used_at === null ? "never" : day(entry.used_at)),
    el("td", {}, button("End", () => attempt(async () => {
      await api("DELETE", path);
      await showAccess(r);
    }, "It has ended."), "bad")));
  const rows = [...sessions.map((s) => line(device(s.user_agent), s, `/api/sessions/${s.id}`)), ...open.map((t) => line(`token ${t.name}: ${t.scopes.join(", ")}`, t, `/api/tokens/${t.id}`))];
  document.getElementById("access-title").textContent = `Where ${r.pseudonym} is signed in`;
  document.getElementById("access-rows").replaceChildren(...(rows.length ? rows : [el("tr", {}, el("td", { colspan: "4", class: "hint" }, "Nowhere."))]));
  document.getElementById("end-access").onclick = () => attempt(async () => {
    await api("DELETE", `/api/raters/${r.id}/access`);
    await showAccess(r);
  }, "All have ended.");
  const dialog = document.getElementById("access");
  if (!dialog.open) dialog.showModal();
}

function erase(r) {
  if (!confirm(`Forget who ${r.pseudonym} is? Their answers stay, the account ends. This cannot be undone.`)) return;
  attempt(() => api("DELETE", `/api/raters/${r.id}/personal`), `${r.pseudonym} is forgotten.`, listRaters);
}

const listRaters = newest(() => api("GET", "/api/raters"), (list) => stack(raters, list.map(row)));

attempt(async () => {}, "", listRaters);
