// Charts in SVG: bars, lines, and shares with their intervals. Every chart has a name and a table of its numbers
// for those who do not see it.
import { el } from "./api.js";

const NS = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined));
  return node;
}

export const percent = (x) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(x > 0 && x < 0.1 ? 1 : 0)} %`);
export const number = (x, digits = 2) => (x === null || x === undefined ? "–" : Number(x).toLocaleString(undefined, { maximumFractionDigits: digits }));
export const short = (x) => {
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-3) return x.toExponential(1).replace("e+", "e");
  return String(Number(x.toPrecision(3)));
};

// About `n` round numbers from low to high.
export function ticks(low, high, n = 4) {
  const span = high - low || 1;
  const rough = span / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough * 0.999);
  const values = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-9; t += step) values.push(Number(t.toPrecision(12)));
  return values;
}

// Of a place on an axis no two ticks say the same: the first of them stays.
const unique = (places, write) => places.filter((t, i) => places.findIndex((other) => write(other) === write(t)) === i);

// A picture is as wide as its place, so that its text has the size of the page's; drawn anew where that changes.
const pictures = new WeakMap();
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const last = pictures.get(target);
    if (last && Math.abs(last.width - target.clientWidth) > 1) fitted(target, last.draw);
  }
});
function fitted(place, draw) {
  pictures.set(place, { width: place.clientWidth, draw });
  draw(Math.max(240, place.clientWidth || 640));
  resized.observe(place);
}

function figure(place, label, picture, head, rows) {
  const table = el("table", {}, el("caption", {}, label), el("thead", {}, el("tr", {}, head.map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, rows.map((r) => el("tr", {}, r.map((c, i) => (i ? el("td", {}, String(c)) : el("th", { scope: "row" }, String(c))))))));
  const open = place.querySelector("details")?.open;
  place.replaceChildren(picture, el("details", { open }, el("summary", {}, "As a table"), el("div", { class: "scroll" }, table)));
}

// items: [[name, value]]
export const bars = (place, label, items) => fitted(place, (w) => drawBars(place, label, items, w));

function drawBars(place, label, items, w) {
  const [h, left, bottom] = [200, 44, 24];
  const maximum = Math.max(1, ...items.map((i) => i[1]));
  const y = (v) => 8 + (h - bottom - 8) * (1 - v / maximum);
  const step = (w - left) / Math.max(1, items.length);
  const stride = Math.ceil((items.length * 64) / (w - left)); // pixels of a name
  const picture = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": label },
    ticks(0, maximum, 3).filter(Number.isInteger).map((t) => [svg("line", { class: "grid", x1: left, x2: w, y1: y(t), y2: y(t) }), text(left - 6, y(t) + 4, short(t), "end")]),
    items.map(([name, value], i) => svg("g", {},
      svg("title", {}, document.createTextNode(`${name}: ${value}`)),
      svg("rect", { class: "bar", x: left + i * step + step * 0.12, width: Math.max(1, step * 0.76), y: y(value), height: Math.max(0, h - bottom - y(value)), rx: 2 }),
      i % stride === 0 ? text(left + (i + 0.5) * step, h - 7, name, "middle") : null)));
  figure(place, label, picture, ["", "number"], items);
}

// lines: [{name, points: [[x, y, low?, high?]], colour?}]; `x` writes a place on the axis. `colour`: a number, where a
// name has the same one in several pictures.
export const lines = (place, label, series, options) => fitted(place, (w) => drawLines(place, label, series, w, options));

function drawLines(place, label, series, width, { x = short, height = 200 } = {}) {
  const all = series.flatMap((s) => s.points).filter((p) => Number.isFinite(p[1]));
  if (!all.length) {
    place.replaceChildren(el("p", { class: "hint" }, "Nothing to draw yet."));
    return;
  }
  const [w, h, left, right, bottom] = [width, height, 56, 12, 24];
  const extent = (values) => [Math.min(...values), Math.max(...values)];
  let [x0, x1] = extent(all.map((p) => p[0]));
  let [y0, y1] = extent(all.flatMap((p) => p.slice(1).filter(Number.isFinite)));
  const one = x0 === x1;
  if (one) [x0, x1] = [x0 - 0.5, x1 + 0.5];
  if (y0 === y1) [y0, y1] = [y0 - Math.abs(y0 || 1) * 0.5, y1 + Math.abs(y1 || 1) * 0.5];
  const pad = (y1 - y0) * 0.06;
  [y0, y1] = [y0 - pad, y1 + pad];
  const px = (v) => left + ((v - x0) / (x1 - x0)) * (w - left - right);
  const py = (v) => 8 + (h - bottom - 8) * (1 - (v - y0) / (y1 - y0));
  const draw = (points) => points.map((p, i) => `${i ? "L" : "M"}${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`).join("");
  const picture = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": label },
    unique(ticks(y0, y1, 4), short).map((t) => [svg("line", { class: "grid", x1: left, x2: w - right, y1: py(t), y2: py(t) }), text(left - 6, py(t) + 4, short(t), "end")]),
    unique(one ? [all[0][0]] : ticks(x0, x1, Math.min(6, w / 90)).filter((t) => t >= x0 && t <= x1), x).map((t) => text(px(t), h - 6, x(t), "middle")),
    series.map((s, i) => {
      const points = s.points.filter((p) => Number.isFinite(p[1]));
      const dots = points.length <= 60;
      return svg("g", { class: `line s${(s.colour ?? i) % 6}` }, svg("path", { d: draw(points), fill: "none" }),
        points.filter((p) => Number.isFinite(p[2])).map((p) => svg("line", { class: "whisker", x1: px(p[0]), x2: px(p[0]), y1: py(p[2]), y2: py(p[3]) })),
        dots ? points.map((p) => svg("circle", { cx: px(p[0]), cy: py(p[1]), r: 3 }, svg("title", {}, document.createTextNode(`${s.name} ${x(p[0])}: ${short(p[1])}`)))) : null);
    }));
  const told = series.length > 1 || series[0].colour !== undefined;
  const legend = told ? el("ul", { class: "legend" }, series.map((s, i) => el("li", { class: `s${(s.colour ?? i) % 6}` }, s.name))) : null;
  figure(place, label, legend ? el("div", {}, picture, legend) : picture, ["", ...series.map((s) => s.name)], rowsOf(series, x));
}

function rowsOf(series, x) {
  const places = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  return places.map((position) => [x(position), ...series.map((s) => short2(s.points.find((p) => p[0] === position)?.[1]))]);
}
const short2 = (v) => (Number.isFinite(v) ? short(v) : "");

// A dot with its interval a row. items: [{name, value, low, high, note}]; `at`: a line to compare with.
export const intervals = (place, label, items, options) => fitted(place, (w) => drawIntervals(place, label, items, w, options));

function drawIntervals(place, label, items, w, { low = 0, high = 1, reference = null, write = percent } = {}) {
  const measured = items.filter((i) => i.value !== null && i.value !== undefined);
  if (!measured.length) {
    place.replaceChildren(el("p", { class: "hint" }, "Nothing to draw yet."));
    return;
  }
  const [left, right, row] = [Math.min(300, w * 0.38), 56, 26];
  const letters = Math.floor((left - 16) / 6.2);
  const h = measured.length * row + 26;
  const px = (v) => left + ((Math.max(low, Math.min(high, v)) - low) / (high - low)) * (w - left - right);
  const picture = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": label },
    unique(ticks(low, high, Math.min(4, (w - left - right) / 44)), write).map((t) => [svg("line", { class: "grid", x1: px(t), x2: px(t), y1: 4, y2: h - 20 }), text(px(t), h - 5, write(t), "middle")]),
    reference === null ? null : svg("line", { class: "mark", x1: px(reference), x2: px(reference), y1: 4, y2: h - 20 }),
    measured.map((item, i) => {
      const y = 16 + i * row;
      const name = item.name.length > letters ? `…${item.name.slice(1 - letters)}` : item.name;
      return svg("g", { class: "line s0" }, svg("title", {}, document.createTextNode(`${item.name}: ${write(item.value)}${Number.isFinite(item.low) ? ` (${write(item.low)} to ${write(item.high)})` : ""} ${item.note ?? ""}`)),
        text(left - 10, y + 4, name, "end"),
        Number.isFinite(item.low) ? svg("line", { class: "whisker", x1: px(item.low), x2: px(item.high), y1: y, y2: y }) : null,
        svg("circle", { cx: px(item.value), cy: y, r: 5 }), text(w - right + 8, y + 4, write(item.value), "start"));
    }));
  figure(place, label, picture, ["", "value", "95 % interval", ""], measured.map((i) => [i.name, write(i.value), Number.isFinite(i.low) ? `${write(i.low)} to ${write(i.high)}` : "–", i.note ?? ""]));
}

function text(x, y, content, anchor) {
  return svg("text", { x, y, "text-anchor": anchor }, document.createTextNode(content));
}
