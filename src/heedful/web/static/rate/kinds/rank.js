// A ranking by drag, by arrows, by digits or by the lists: each says where one response belongs, and nothing of another.
import { el } from "../../api.js";
import { t } from "../../texts.js";

export const keys = [
  ["1 … 9", t("the rank of the chosen response")],
  ["b", t("all are bad")],
  ["↑ ↓", t("move the chosen response up or down, and over the line")],
];

const SLACK = 5; // pixels: less is a click
const LINE = -1; // stands for the line between what is ranked and what is not

export function widget(task, changed) {
  const n = task.responses.length;
  let ranks = Array(n).fill(null);
  let allBad = false;
  let pool = task.responses.map((_, i) => i); // the order of those between which the ranks say nothing
  let pressed = null; // where the pointer went down: {place, y}
  let dragged = null;

  const rows = task.responses.map((r, place) => {
    const select = el("select", { "aria-label": t("Rank of {label}", { label: r.label }), onchange: (e) => setRank(place, e.target.value === "" ? null : Number(e.target.value)) },
      el("option", { value: "" }, "–"), Array.from({ length: n }, (_, i) => el("option", { value: String(i + 1) }, String(i + 1))));
    const row = el("li", { class: "rankrow", tabindex: "0", draggable: "false", "data-place": String(place), "aria-label": t("Response {label}", { label: r.label }) },
      el("span", { class: "grip", "aria-hidden": "true" }, "⠿"), el("strong", { class: "tag" }, r.label),
      el("span", { class: "snippet", dir: "auto" }, r.text.slice(0, 90)), select);
    row.addEventListener("keydown", (event) => {
      if (event.target !== row || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "ArrowUp" || event.key === "ArrowDown") move(place, event.key === "ArrowUp" ? -1 : 1);
      else if (/^[0-9]$/.test(event.key) && Number(event.key) <= n) setRank(place, Number(event.key) || null);
      else return;
      event.preventDefault();
      event.stopPropagation();
      rows[place].row.focus();
    });
    row.addEventListener("pointerdown", (event) => {
      if (event.target === select || event.button) return;
      pressed = { place, y: event.clientY };
      row.setPointerCapture(event.pointerId);
    });
    row.addEventListener("pointermove", (event) => {
      if (pressed?.place !== place) return;
      if (dragged === null && Math.abs(event.clientY - pressed.y) < SLACK) return; // a click ranks nothing
      dragged = place;
      row.classList.add("dragged");
      const others = inOrder().filter((item) => item !== place);
      const above = others.filter((item) => {
        const box = nodeOf(item).getBoundingClientRect();
        return box.top + box.height / 2 < event.clientY;
      });
      put(place, others, above.length);
    });
    const drop = () => {
      pressed = null;
      if (dragged !== place) return;
      dragged = null;
      row.classList.remove("dragged");
      show();
    };
    row.addEventListener("pointerup", drop);
    row.addEventListener("pointercancel", drop);
    return { row, select };
  });
  const line = el("li", { class: "rankline", "aria-hidden": "true" });
  const list = el("ol", { class: "ranks", "aria-label": t("Responses, best first") }, line, rows.map((r) => r.row));
  const bad = el("button", { type: "button", class: "choice", "aria-pressed": "false", onclick: () => {
    allBad = !allBad;
    show();
    changed();
  } }, el("kbd", {}, "b"), " ", t("All are bad"));
  const node = el("div", {}, el("p", { class: "hint" }, t("Drag a response above the line, best first, or choose it with Tab and use the arrows or digits. Equal numbers are ties; what stays below the line counts as worse, in no order.")), list, bad);

  const nodeOf = (item) => (item === LINE ? line : rows[item].row);
  // What the list shows from top to bottom: ranked responses, the line, and those without a rank.
  function inOrder() {
    const ranked = pool.filter((place) => ranks[place] !== null).sort((a, b) => ranks[a] - ranks[b]);
    return [...ranked, LINE, ...pool.filter((place) => ranks[place] === null)];
  }
  // Responses with the same rank together, best first.
  function tiers() {
    const groups = new Map();
    for (const place of inOrder().filter((item) => item !== LINE && ranks[item] !== null)) groups.set(ranks[place], [...(groups.get(ranks[place]) ?? []), place]);
    return [...groups.values()];
  }
  function fromTiers(groups) {
    ranks = Array(n).fill(null);
    groups.forEach((group, i) => group.forEach((place) => (ranks[place] = i + 1)));
    allBad = false;
    show();
    changed();
  }
  // Before `others[index]`: between two that are tied it joins the tie, below the line it has no rank.
  function put(place, others, index) {
    const [above, below] = [others[index - 1], others[index]];
    const order = [...others.slice(0, index), place, ...others.slice(index)];
    pool = order.filter((item) => item !== LINE);
    if (index > others.indexOf(LINE)) ranks[place] = null;
    else if (above !== undefined && below !== LINE && ranks[above] === ranks[below]) ranks[place] = ranks[above];
    else ranks[place] = above === undefined ? 0 : ranks[above] + 0.5;
    fromTiers(tiers());
  }
  // One step: out of a tie, past the next tier, and over the line. Nobody else's rank comes or goes.
  function move(place, step) {
    const groups = tiers();
    const from = groups.findIndex((group) => group.includes(place));
    if (from < 0) {
      if (step < 0) groups.push([place]);
    } else if (groups[from].length > 1) {
      groups[from] = groups[from].filter((other) => other !== place);
      groups.splice(step < 0 ? from : from + 1, 0, [place]);
    } else if (step > 0 || from > 0) {
      groups.splice(from, 1);
      if (step < 0 || from < groups.length) groups.splice(from + step, 0, [place]);
    }
    fromTiers(groups);
  }
  function setRank(place, rank) {
    ranks[place] = rank;
    allBad = false;
    show();
    changed();
  }
  function show() {
    const order = inOrder();
    line.textContent = order[0] === LINE ? t("Best first: nothing is ranked yet") : t("Worse than those above, in no order");
    line.hidden = order.at(-1) === LINE && dragged === null;
    // A node that is moved in the page loses the pointer: while one is dragged, only the picture changes.
    if (dragged === null) {
      const focused = document.activeElement;
      list.append(...order.map(nodeOf));
      if (list.contains(focused)) focused.focus();
    }
    order.forEach((item, i) => (nodeOf(item).style.order = dragged === null ? "" : String(i)));
    rows.forEach(({ row, select }, place) => {
      select.value = ranks[place] === null ? "" : String(ranks[place]);
      row.setAttribute("aria-label", ranks[place] === null ? t("Response {label}, not ranked", task.responses[place]) : t("Response {label}, rank {n}", { label: task.responses[place].label, n: ranks[place] }));
    });
    bad.setAttribute("aria-pressed", String(allBad));
  }
  show();
  return {
    node,
    value: () => (allBad ? { both_bad: true } : ranks.some((r) => r !== null) ? { ranks: [...ranks] } : null),
    set: (answer) => {
      allBad = Boolean(answer.both_bad);
      ranks = answer.ranks ? [...answer.ranks] : Array(n).fill(null);
      show();
    },
    key: (event) => {
      if (event.key === "b") {
        bad.click();
        return true;
      }
      if (/^[1-9]$/.test(event.key) && Number(event.key) <= n) {
        const free = ranks.findIndex((r) => r === null);
        if (free < 0) return false;
        setRank(free, Number(event.key));
        return true;
      }
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        nodeOf(inOrder().find((item) => item !== LINE)).focus();
        return true;
      }
      return false;
    },
  };
}
