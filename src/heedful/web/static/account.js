// Where one is signed in; API tokens: made once, shown once, revoked here.
import { api, day, el, newest, say, stack } from "./api.js";
import { device } from "./device.js";
import { t } from "./texts.js";

const rows = document.getElementById("tokens");
const secret = document.getElementById("secret");

const list = newest(() => api("GET", "/api/tokens"), (tokens) =>
  stack(
    rows,
    tokens.map((token) =>
      el("tr", {}, el("th", { scope: "row" }, token.name), el("td", {}, token.scopes.join(", ")),
        el("td", {}, token.used_at === null ? t("never") : `${day(token.used_at)}${token.address ? `, ${token.address}` : ""}`),
        el("td", {}, token.revoked_at !== null ? t("revoked") : day(token.expires_at)),
        el("td", {}, token.revoked_at !== null ? "" : el("button", { type: "button", class: "bad", onclick: () => revoke(token) }, t("Revoke")))),
    ),
  ));

async function revoke(token) {
  try {
    await api("DELETE", `/api/tokens/${token.id}`);
    await list(); // what is said stands in the list by then
    say(t("{name} is revoked.", { name: token.name }), "good");
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
    secret.textContent = `${t("Keep this, it is shown only now:")} ${token.token}`;
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
  stack(places, sessions.map((s) =>
    el("tr", {}, el("th", { scope: "row" }, device(s.user_agent)), el("td", {}, s.address ?? ""), el("td", {}, s.used_at === null ? "" : day(s.used_at)),
      el("td", {}, s.current ? t("this one") : el("button", { type: "button", class: "bad", onclick: () => end(`/api/sessions/${s.id}`, t("It has ended.")) }, t("End"))))));
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

others.addEventListener("click", () => end("/api/sessions", t("You are signed in only here now.")));

listSessions().catch((problem) => say(problem.error, "bad"));
list().catch((problem) => say(problem.error, "bad"));
