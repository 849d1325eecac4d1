// A ranking by drag, by arrows, by digits or by the lists: all of them set the same ranks.
import { el } from "../../api.js";

export const keys = [
  ["1 … 9", "the rank of the chosen response"],
  ["b", "all are bad"],
  ["↑ ↓", "move the chosen response up or down"],
];

export function widget(task, changed) {
  const n = task.responses.length;
  let ranks = Array(n).fill(null);
  let allBad = false;
  let dragged = null;

  const rows = task.responses.map((r, place) => {
    const select = el("select", { "aria-label": `Rank of ${r.label}`, onchange: (e) => setRank(place, e.target.value === "" ? null : Number(e.target.value)) },
      el("option", { value: "" }, "–"), Array.from({ length: n }, (_, i) => el("option", { value: String(i + 1) }, String(i + 1))));
    const row = el("li", { class: "rankrow", tabindex: "0", draggable: "false", "data-place": String(place), "aria-label": `Response ${r.label}` },
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
      dragged = place;
      row.setPointerCapture(event.pointerId);
      row.classList.add("dragged");
    });
    row.addEventListener("pointermove", (event) => {
      if (dragged !== place) return;
      const order = inOrder();
      const at = order.indexOf(place);
      const before = at > 0 && rows[order[at - 1]].row.getBoundingClientRect();
      const after = at < n - 1 && rows[order[at + 1]].row.getBoundingClientRect();
      if (before && event.clientY < before.top + before.height / 2) move(place, -1);
      else if (after && event.clientY > after.top + after.height / 2) move(place, 1);
    });
    const drop = () => {
      if (dragged !== place) return;
      dragged = null;
      row.classList.remove("dragged");
      fromOrder(inOrder());
    };
    row.addEventListener("pointerup", drop);
    row.addEventListener("pointercancel", drop);
    return { row, select };
  });
  const list = el("ol", { class: "ranks", "aria-label": "Responses, best first" }, rows.map((r) => r.row));
  const bad = el("button", { type: "button", class: "choice", "aria-pressed": "false", onclick: () => {
    allBad = !allBad;
    show();
    changed();
  } }, el("kbd", {}, "b"), " All are bad");
  const node = el("div", {}, el("p", { class: "hint" }, "Drag the best to the top, or choose one with Tab and use the arrows or digits. Equal numbers are ties."), list, bad);

  const key3 = (place) => [ranks[place] ?? n + 1, position[place]];
  let position = task.responses.map((_, i) => i); // where a response stands while its rank says nothing
  function inOrder() {
    return task.responses.map((_, i) => i).sort((a, b) => key3(a)[0] - key3(b)[0] || key3(a)[1] - key3(b)[1]);
  }
  function fromOrder(order) {
    order.forEach((place, i) => {
      ranks[place] = i + 1;
      position[place] = i;
    });
    allBad = false;
    show();
    changed();
  }
  function move(place, step) {
    const order = inOrder();
    const at = order.indexOf(place);
    const to = Math.min(n - 1, Math.max(0, at + step));
    order.splice(at, 1);
    order.splice(to, 0, place);
    fromOrder(order);
  }
  function setRank(place, rank) {
    ranks[place] = rank;
    allBad = false;
    show();
    changed();
  }
  function show() {
    const order = inOrder();
    // A node that is moved in the page loses the pointer: while one is dragged, only the picture changes.
    if (dragged === null) {
      const focused = document.activeElement;
      list.append(...order.map((place) => rows[place].row));
      if (list.contains(focused)) focused.focus();
    }
    order.forEach((place, i) => (rows[place].row.style.order = dragged === null ? "" : String(i)));
    rows.forEach(({ row, select }, place) => {
      select.value = ranks[place] === null ? "" : String(ranks[place]);
      row.setAttribute("aria-label", `Response ${task.responses[place].label}, ${ranks[place] === null ? "not ranked" : `rank ${ranks[place]}`}`);
    });
    bad.setAttribute("aria-pressed", String(allBad));
  }
  show();
  return {
    node,
    value: () => (allBad ? { both_bad: true } : ranks.filter((r) => r !== null).length >= 2 ? { ranks: [...ranks] } : null),
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
        rows[inOrder()[0]].row.focus();
        return true;
      }
      return false;
    },
  };
}
