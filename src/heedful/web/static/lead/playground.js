// A conversation with a model, whose replies get thumbs.
import { api, el } from "../api.js";
import { renewed } from "../rate/profile.js";
import { $, attempt, project, rendered } from "./common.js";

const PATH = `/api/projects/${project}/playground`;
const form = $("converse");
let messages = []; // as the model is told them

const line = (who, ...children) => {
  $("talk").append(el("div", { class: `turn ${who}` }, ...children));
  $("talk").lastElementChild.scrollIntoView({ block: "nearest" });
};

// Which one is pressed is what the server has kept.
function thumbs(reply) {
  const buttons = [1, -1].map((thumb) => el("button", { type: "button", class: "quiet small", "aria-pressed": "false", onclick: async () => {
    for (const button of buttons) button.disabled = true;
    const kept = await attempt(() => api("PUT", `${PATH}/${reply}`, { thumb }));
    for (const button of buttons) button.disabled = false;
    if (!kept) return;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String([1, -1][i] === kept.thumb)));
    $("status").textContent = "Kept as a judgment.";
  } }, thumb > 0 ? "Good reply" : "Bad reply"));
  return el("div", { class: "actions" }, buttons);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = form.elements.said.value.trim();
  const button = form.querySelector("[type=submit]");
  if (!said || button.disabled) return;
  const before = messages;
  const asked = [...before, { role: "user", content: said }];
  button.disabled = true;
  $("status").textContent = "It is writing…";
  const told = await attempt(() => api("POST", PATH, { model: $("model").value, messages: asked, for_me: $("for-me").checked }));
  button.disabled = false;
  $("status").textContent = "";
  if (!told || before !== messages) return; // what was typed is still there; or another conversation has begun
  line("user", el("p", { dir: "auto" }, said));
  line("assistant", told.text.trim() ? rendered(told.html) : el("p", { class: "hint" }, "It said nothing."), told.text.trim() && told.reply ? thumbs(told.reply) : null);
  messages = told.text.trim() ? [...asked, { role: "assistant", content: told.text }] : messages;
  form.reset();
  form.elements.said.focus();
});

form.elements.said.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

// Who has a profile of their own here may be answered as one who likes that.
renewed(project, (mine) => {
  $("mine").hidden = !mine.sentence;
  $("sentence").textContent = mine.sentence ?? "";
});

$("anew").addEventListener("click", () => {
  messages = [];
  $("talk").replaceChildren();
  form.elements.said.focus();
});
