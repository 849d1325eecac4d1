// Requests to the server: JSON in, JSON out; what goes wrong is thrown as {status, error}.

const csrf = () => document.querySelector('meta[name="csrf"]')?.content ?? "";

// Where a path of this site is: it may stand below a prefix that only the proxy knows, as this file does.
export const link = (path) => new URL(path.replace(/^\//, ""), new URL("../", import.meta.url)).href;

export async function api(method, path, body, headers = {}) {
  const init = { method, headers: { Accept: "application/json", ...headers }, credentials: "same-origin" };
  if (method !== "GET") init.headers["X-CSRF-Token"] = csrf();
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(link(path), init);
  } catch {
    throw { status: 0, error: "The server cannot be reached." };
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    value = { error: "The server answered something unreadable." };
  }
  if (!response.ok) {
    const wait = Number(response.headers.get("Retry-After") ?? 0);
    throw { status: response.status, error: value?.error ?? response.statusText, wait };
  }
  return value;
}

// What `load` brings, drawn by `draw`; of several that are under way only the one asked for last, since answers may
// overtake each other.
export function newest(load, draw) {
  let turn = 0;
  return async () => {
    const call = ++turn;
    const value = await load();
    if (call === turn) draw(value);
  };
}

// el("p", {class: "x"}, "text", child): text is always text, never markup.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined));
  return node;
}

// The rows of a table of the class "stack": on a phone each is a card, whose cells say which column they are of.
export function stack(body, rows) {
  const titles = [...body.closest("table").tHead.rows[0].cells].map((cell) => (cell.querySelector(".hidden") ? null : cell.textContent));
  for (const row of rows)
    for (const cell of row.cells) if (cell.tagName === "TD" && cell.colSpan === 1 && titles[cell.cellIndex]) cell.dataset.title = titles[cell.cellIndex];
  body.replaceChildren(...rows);
}

const STAYS = 8000; // milliseconds: time to read two lines; what went wrong stays until it is clicked or something else is said
let leaving;

export function say(text, kind = "note") {
  const place = document.getElementById("say");
  if (!place) return;
  const leave = () => (place.textContent = "");
  clearTimeout(leaving);
  place.textContent = text;
  place.dataset.kind = kind;
  place.onclick = leave;
  if (kind !== "bad") leaving = setTimeout(leave, STAYS);
}

export const day = (seconds) =>
  seconds === null ? "never" : new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
