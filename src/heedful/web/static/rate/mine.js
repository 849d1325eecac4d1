// A rater's own answers in a project, the newest first; each opens on the rater's page, where it can be corrected.
import { api, day, el, link, say } from "../api.js";
import { standing } from "./consent.js";
import { liking } from "./profile.js";
import { t } from "../texts.js";

const project = document.querySelector('meta[name="project"]').content;
const list = document.getElementById("mine");
const older = document.getElementById("older");
let next = null;

const WORDS = () => ({ answer: t("answered"), tie: t("a tie"), both_bad: t("all are bad"), skip: t("skipped"), flag: t("flagged") });

function row(a) {
  const facts = [WORDS()[a.outcome] ?? a.outcome, a.revision > 1 ? t("changed {n} times", { n: a.revision - 1 }) : null, day(a.at)];
  const text = el("a", { href: link(`/rate/${project}?assignment=${a.assignment}`), dir: "auto" }, a.prompt || t("(empty)"));
  return el("li", { class: "card" }, text, el("span", { class: "hint" }, facts.filter(Boolean).join(" · ")));
}

async function load() {
  try {
    const page = await api("GET", `/api/projects/${project}/mine${next ? `?after=${next}` : ""}`);
    next = page.next;
    older.hidden = !next;
    list.append(...page.answers.map(row));
    if (!list.children.length) list.append(el("li", { class: "hint" }, t("You have not answered anything here yet.")));
  } catch (problem) {
    say(problem.error, "bad");
  }
  list.removeAttribute("aria-busy");
}

const length = (seconds) => (seconds < 5400 ? t("{n} minutes", { n: Math.max(1, Math.round(seconds / 60)) }) : t("{n} hours", { n: Math.round(seconds / 360) / 10 }));

api("GET", `/api/projects/${project}/progress`).then((p) => {
  const parts = [t("{n} today", { n: p.today }), t("{n} in all", { n: p.total })];
  if (p.waiting) parts.push(p.at_least ? t("at least {n} left for you", { n: p.waiting }) : t("{n} left for you", { n: p.waiting }));
  if (p.waiting && !p.at_least && p.seconds_median) parts.push(t("about {length} at your pace", { length: length(p.waiting * p.seconds_median) }));
  document.getElementById("how-far").textContent = parts.join(" · ");
}).catch(() => {});
liking(project);
older.addEventListener("click", load);
standing(project, document.getElementById("consent"));
load();
