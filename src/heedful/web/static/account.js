// Where one is signed in; API tokens: made once, shown once, revoked here.
import { api, day, el, newest, say } from "./api.js";
import { device } from "./device.js";

const rows = document.getElementById("tokens");
const secret = document.getElementById("secret");

const list = newest(() => api("GET", "/api/tokens"), (tokens) =>
  rows.replaceChildren(
    ...tokens.map((t) =>
      el("tr", {}, el("td", {}, t.name), el("td", {}, t.scopes.join(", ")),
        el("td", {}, t.used_at === null ? "never" : `${day(t.used_at)}${t.address ? `, ${t.address}` : ""}`),
        el("td", {}, t.revoked_at !== null ? "revoked" : day(t.expires_at)),
        el("td", {}, t.revoked_at !== null ? "" : el("button", { type: "button", class: "bad", onclick: () => revoke(t) }, "Revoke"))),
    ),
  ));

async function revoke(token) {
  try {
    await api("DELETE", `/api/tokens/${token.id}`);
    await list(); // what is said stands in the list by then
    say(`${token.name} is revoked.`, "good");
  } catch (problem) {
    say(problem.error, "bad");
  }
}

document.getElementById("new-token").addEventListener("submit", async (event) => {
  event.preventDefault();
  const values = new FormData(event.target);
  try {
    const token = await api("POST", "/api/tokens", {
      name: values.get("name"),
      scopes: values.getAll("scope"),
      days: values.get("days") ? Number(values.get("days")) : null,
    });
    secret.textContent = `Keep this, it is shown only now: ${token.token}`;
    secret.hidden = false;
    event.target.reset();
    await list();
  } catch (problem) {
    say(problem.error, "bad");
  }
});

// ── sessions ─────────────────────────────────────────────────────────────────────────────────────

const places = document.getElementById("sessions");
const others = document.getElementById("end-others");

const listSessions = newest(() => api("GET", "/api/sessions"), (sessions) => {
  others.disabled = sessions.length < 2;
  places.replaceChildren(...sessions.map((s) =>
    el("tr", {}, el("th", { scope: "row" }, device(s.user_agent)), el("td", {}, s.address ?? ""), el("td", {}, s.used_at === null ? "" : day(s.used_at)),
      el("td", {}, s.current ? "this one" : el("button", { type: "button", class: "bad", onclick: () => end(`/api/sessions/${s.id}`, "It has ended.") }, "End")))));
});

async function end(path, done) {
  try {
    await api("DELETE", path);
    await listSessions();
    say(done, "good");
  } catch (problem) {
    say(problem.error, "bad");
  }
}

document.getElementById("disconnect")?.addEventListener("click", async () => {
  try {
    await api("DELETE", "/api/identity");
    location.reload();
  } catch (problem) {
    say(problem.error, "bad");
  }
});

others.addEventListener("click", () => end("/api/sessions", "You are signed in only here now."));

listSessions().catch((problem) => say(problem.error, "bad"));
list().catch((problem) => say(problem.error, "bad"));
