// Forms that talk to the interface: data-method, data-path and data-next on the form; values by field name.
import { api, link, say } from "./api.js";
import { t } from "./texts.js";

for (const form of document.querySelectorAll("form[data-path]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    say("");
    try {
      const values = Object.fromEntries(new FormData(form));
      await api(form.dataset.method ?? "POST", form.dataset.path, values);
      const target = new URLSearchParams(location.search).get("next") ?? "";
      // Only a path of this site: "//elsewhere" and "/\elsewhere" are other sites.
      const next = /^\/[A-Za-z0-9]/.test(target) ? target : form.dataset.next;
      if (next) location.assign(link(next));
      else say(form.dataset.done ?? t("Done."), "good");
      form.reset();
    } catch (problem) {
      say(problem.error ?? String(problem), "bad");
    } finally {
      button.disabled = false;
    }
  });
}

document.getElementById("log-out")?.addEventListener("click", async () => {
  try {
    await api("DELETE", "/api/session");
  } finally {
    location.assign(link("/login"));
  }
});
