// Clips of games (heedful.data.clips), drawn on a canvas: rows of cells, or strokes on a plane of 100 by 60.
import { el } from "../api.js";
import { t } from "../texts.js";

const COLOURS = ["--soft", "--accent", "--warm", "--good", "--bad"]; // of cells and strokes, in turn; see base.css
const still = matchMedia("(prefers-reduced-motion: reduce)");

// {ms, frames: [{shape, start, end}]}, where start to end is the frame's line in the text; null for another text.
export function read(text) {
  if (!text.startsWith("clip {")) return null;
  try {
    const [first, ...lines] = text.split("\n");
    let start = first.length + 1;
    const frames = lines.map((line) => {
      const frame = { shape: JSON.parse(line), start, end: start + line.length };
      start = frame.end + 1;
      return frame;
    });
    const { ms } = JSON.parse(first.slice("clip ".length));
    return frames.length && ms > 0 ? { ms, frames } : null;
  } catch {
    return null;
  }
}

// Colours are the page's own, so that a clip is as dark as it is.
function draw(canvas, shape) {
  const named = (name) => {
    canvas.style.color = `var(${name})`;
    return getComputedStyle(canvas).color; // as the browser has resolved it; a canvas knows no variables
  };
  const colour = (n) => named(COLOURS[(Math.max(1, n) - 1) % COLOURS.length]);
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (typeof shape === "string") {
    const rows = shape.split("/");
    const size = Math.min(canvas.width / rows[0].length, canvas.height / rows.length);
    const left = (canvas.width - size * rows[0].length) / 2;
    pen.strokeStyle = named("--line");
    const edge = (pen.lineWidth = Math.max(1, size / 8)); // shown at half the size it would vanish
    pen.strokeRect(left + edge / 2, edge / 2, size * rows[0].length - edge, size * rows.length - edge);
    rows.forEach((row, r) => [...row].forEach((cell, c) => {
      if (cell === ".") return;
      pen.fillStyle = colour(Number(cell));
      pen.fillRect(left + c * size + 0.5, r * size + 0.5, size - 1, size - 1);
    }));
    return;
  }
  const unit = Math.min(canvas.width / 100, canvas.height / 60);
  for (const [x1, y1, x2, y2, width, n] of shape) {
    pen.strokeStyle = colour(n);
    pen.lineWidth = width * unit;
    pen.lineCap = "round";
    pen.beginPath();
    pen.moveTo(x1 * unit, y1 * unit);
    pen.lineTo(x2 * unit, y2 * unit);
    pen.stroke();
  }
}

// A screen on which a clip is shown: {node, show(k), play(ended), stop(), now()}; now() is [frame, seconds since it came
// up] while it plays, else null. A frame stays as long as the clip says, the last one `grace` milliseconds longer.
export function screen(clip, shown = () => {}, grace = 0) {
  const cells = typeof clip.frames[0].shape === "string" ? clip.frames[0].shape.split("/") : null;
  const [width, height] = cells ? [cells[0].length, cells.length] : [100, 60];
  const scale = Math.max(1, Math.floor(640 / Math.max(width, height)));
  const canvas = el("canvas", { width: String(width * scale), height: String(height * scale), role: "img", "aria-label": t("A clip of {n} frames", { n: clip.frames.length }) });
  canvas.style.aspectRatio = `${width} / ${height}`;
  let began = null;
  let timer = null;
  const show = (k) => {
    draw(canvas, clip.frames[k].shape);
    shown(k);
  };
  const stop = () => {
    clearTimeout(timer);
    began = null;
  };
  function play(ended, from = 0) {
    stop();
    began = performance.now() - from * clip.ms;
    const next = (k) => {
      if (!canvas.isConnected) return stop(); // another question is shown
      show(k);
      const last = k === clip.frames.length - 1;
      timer = setTimeout(() => (last ? (stop(), ended()) : next(k + 1)), began + (k + 1) * clip.ms + (last ? grace : 0) - performance.now());
    };
    next(from);
  }
  function now() {
    if (began === null) return null;
    const past = performance.now() - began;
    const k = Math.min(clip.frames.length - 1, Math.floor(past / clip.ms));
    return [k, (past - k * clip.ms) / 1000];
  }
  requestAnimationFrame(() => show(0));
  return { node: canvas, show, play, stop, now };
}

// Every clip in a text that the server has made HTML of: it moves, over and over, until somebody stops it.
export function mount(root) {
  for (const place of root.querySelectorAll(".clip[data-clip]")) {
    const clip = read(place.dataset.clip);
    if (!clip) continue;
    const where = el("input", { type: "range", min: "0", max: String(clip.frames.length - 1), value: "0", "aria-label": t("Frame"), oninput: () => (halt(), film.show(Number(where.value))) });
    const film = screen(clip, (k) => (where.value = String(k)));
    const again = () => film.play(again);
    const button = el("button", { type: "button", class: "quiet small", onclick: () => (film.now() ? halt() : go()) }, t("Play"));
    function go() {
      const k = Number(where.value);
      film.play(again, k === clip.frames.length - 1 ? 0 : k);
      button.textContent = t("Pause");
    }
    function halt() {
      film.stop();
      button.textContent = t("Play");
    }
    place.replaceChildren(film.node, el("div", { class: "controls" }, button, where));
    if (!still.matches) requestAnimationFrame(go);
  }
}
