// Files in and out, and webhooks.
import { api, el, link, newest, say } from "../api.js";
import { $, ask, attempt, project } from "./common.js";

const MOST = 100_000_000;
const ASK = JSON.parse(document.getElementById("import").dataset.ask); // what: kinds of question
const csrf = document.querySelector('meta[name="csrf"]').content;

async function raw(method, path, body, headers) {
  let response;
  try {
    response = await fetch(link(path), { method, body, headers: { ...headers, "X-CSRF-Token": csrf }, credentials: "same-origin" });
  } catch {
    throw { status: 0, error: "The server cannot be reached." };
  }
  if (response.ok) return response;
  const failure = await response.json().catch(() => ({}));
  throw { status: response.status, error: failure.error ?? response.statusText };
}

// ── out ──────────────────────────────────────────────────────────────────────────────────────────

$("export").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const query = new URLSearchParams({ what: form.get("what"), format: form.get("format"), split: form.get("split") });
  for (const name of ["surplus", "gold", "swaps", "margin"]) if (form.has(name)) query.set(name, "true");
  const response = await attempt(() => raw("GET", `/api/projects/${project}/export?${query}`));
  if (!response) return;
  const manifest = JSON.parse(response.headers.get("X-Heedful-Manifest"));
  const name = `${form.get("what")}.${form.get("format")}`;
  const link = el("a", { href: URL.createObjectURL(await response.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers begin to read it after the click
  const excluded = Object.entries(manifest.excluded ?? {}).map(([why, n]) => `${n} ${why}`);
  $("manifest").hidden = false;
  $("manifest").replaceChildren(el("p", { role: "status" }, `${manifest.rows} rows in ${name}.${excluded.length ? ` Left out: ${excluded.join(", ")}.` : ""}`),
    el("p", { class: "hint" }, `The same bytes again, at any time: heedful export ${form.get("what")} FILE --snapshot ${manifest.snapshot}`));
});

// ── in ───────────────────────────────────────────────────────────────────────────────────────────

const importForm = $("import");
function adapt() {
  const what = importForm.elements.what.value;
  for (const node of importForm.querySelectorAll("[data-for]")) node.hidden = !node.dataset.for.split(" ").includes(what);
  const kinds = ASK[what] ?? [];
  importForm.elements.ask.replaceChildren(el("option", { value: "" }, "nothing yet"), ...kinds.map((k) => el("option", { value: k }, k)));
}
importForm.elements.what.addEventListener("change", adapt);
adapt();

importForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(importForm);
  const file = form.get("file");
  if (file.size > MOST) return say("This file is too large for the browser; use heedful import.", "bad");
  const what = form.get("what");
  const query = new URLSearchParams({ what, name: file.name });
  if (what === "comparisons") for (const name of ["gold", "skip_bad"]) form.has(name) && query.set(name, "true");
  else if (form.get("ask")) {
    query.set("ask", form.get("ask"));
    query.set("overlap", form.get("overlap"));
    if (form.get("options").trim()) query.set("options", form.get("options"));
  }
  const button = importForm.querySelector("button[type=submit]");
  button.disabled = true;
  $("added").textContent = "Reading…";
  const added = await attempt(async () => (await raw("POST", `/api/projects/${project}/import?${query}`, file, { "Content-Type": "application/octet-stream" })).json());
  button.disabled = false;
  $("added").textContent = added ? `Added ${Object.entries(added).map(([k, n]) => `${n} ${k.replaceAll("_", " ")}`).join(", ")}.` : "";
});

// ── webhooks ─────────────────────────────────────────────────────────────────────────────────────

const listHooks = newest(() => ask("webhooks"), (hooks) =>
  $("hooks").replaceChildren(...hooks.map((h) => el("tr", {}, el("td", {}, h.url), ...["waiting", "sent", "failed"].map((k) => el("td", { class: "number" }, String(h[k]))),
    el("td", {}, h.failed ? el("button", { type: "button", class: "quiet", onclick: () => again(h.id) }, "Send all again") : null, el("button", { type: "button", class: "bad", onclick: () => removeHook(h) }, "Remove"))))));

const listDeliveries = newest(() => ask("deliveries"), (failed) => {
  $("failed").hidden = !failed.length;
  $("deliveries").replaceChildren(...failed.map((d) => el("tr", {}, el("td", {}, d.url), el("td", {}, d.event), el("td", {}, d.error ?? `status ${d.status}`),
    el("td", {}, el("button", { type: "button", class: "quiet", onclick: () => again(d.id) }, "Send again")))));
});

const again = (id) => attempt(async () => {
  await api("POST", `/api/webhooks/${id}/again`, {});
  await Promise.all([listHooks(), listDeliveries()]);
}, "On its way again.");

const removeHook = (h) => attempt(async () => {
  await api("DELETE", `/api/webhooks/${h.id}`);
  await listHooks();
}, "Removed.");

$("new-hook").addEventListener("submit", async (event) => {
  event.preventDefault();
  const webhook = await attempt(() => api("POST", `/api/projects/${project}/webhooks`, { url: new FormData(event.target).get("url") }));
  if (!webhook) return;
  $("secret").hidden = false;
  $("secret").textContent = `It is signed with this, shown only now: ${webhook.secret}`;
  event.target.reset();
  attempt(listHooks);
});

attempt(listHooks);
attempt(listDeliveries);
