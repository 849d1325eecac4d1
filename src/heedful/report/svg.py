"""A line chart in SVG, by hand.

Why not matplotlib: these figures take their colours from the page's CSS variables (so that dark mode,
print and the theme toggle just work), keep text as text, show each point's numbers on hover, have the
same bytes on every machine, and weigh a tenth. That needs axes, lines and markers: this file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup, escape

SHAPES = {  # how large it must be to look as large as the others, and its corners
    "square": (0.9, [(-1, -1), (1, -1), (1, 1), (-1, 1)]),
    "triangle": (1.25, [(0, -1), (1, 0.8), (-1, 0.8)]),
    "diamond": (1.3, [(0, -1), (1, 0), (0, 1), (-1, 0)]),
    "nabla": (1.25, [(-1, -0.8), (1, -0.8), (0, 1)]),
    "plus": (1.2, [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35),
                   (0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)]),
    "cross": (1.15, [(-1, -0.6), (-0.6, -1), (0, -0.4), (0.6, -1), (1, -0.6), (0.4, 0),
                     (1, 0.6), (0.6, 1), (0, 0.4), (-0.6, 1), (-1, 0.6), (-0.4, 0)]),
}  # fmt: skip
MARKERS = {"s-sft": "square", "s-dpo": "triangle", "s-best-of-n": "diamond"}  # others: a circle


@dataclass(frozen=True)
class Series:
    """Points of one line. `css` sets its colour; `dash` and the marker tell it apart without colour.

    `ci` are (low, high) or None a point; `tips` the hover text a point; `note` a direct label at the end.
    """

    name: str
    css: str
    points: Sequence[tuple[float, float]]
    dash: bool = False
    markers: bool = False
    ci: Sequence[tuple[float, float] | None] = ()
    tips: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """Data range and pixel range. `fmt` writes the ticks; `low`/`high` widen the range to hold them."""

    low: float
    high: float
    a: float
    b: float
    ticks: list[float] = field(default_factory=list)

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        return self.a + (value - self.low) / (self.high - self.low) * (self.b - self.a)


def el(tag: str, *children: object, **attributes: object) -> Markup:
    """One element; every attribute and every child that is not Markup is escaped. `class_` is class."""
    text = Markup("<") + tag
    for key, value in attributes.items():
        if value is not None:
            value = f"{value:.1f}" if isinstance(value, float) else value
            text += Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
    if not children:
        return text + Markup("/>")
    return text + Markup(">") + Markup("").join(map(escape, children)) + Markup(f"</{tag}>")


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that enclose [low, high]."""
    if high - low < 1e-12 * max(1.0, abs(low), abs(high)):
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_text(value: float, step: float) -> str:
    if abs(value) >= 10_000 or abs(step) >= 10_000:
        return f"{value / 1000:g}k".replace("-", "−")
    if step < 1e-4:
        return f"{value:.0e}".replace("e-0", "e-").replace("-", "−") if value else "0"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}".replace("-", "−")


def marker(shape: str, x: float, y: float, size: float = 4.0, **attributes: object) -> Markup:
    if shape == "circle":
        return el("circle", cx=x, cy=y, r=size, **attributes)
    scale, outline = SHAPES[shape]
    corners = [(size * scale * a, size * scale * b) for a, b in outline]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return el("polygon", points=points, **attributes)


def shape_of(css: str) -> str:
    return MARKERS.get(css, "circle")


def key(series: Series) -> Markup:
    """The little picture beside a name in a legend."""
    line = el("path", d="M1 7H27", class_="ln dash" if series.dash else "ln")
    mark = marker(shape_of(series.css), 14.0, 7.0, class_="pt") if series.markers else ""
    return el(
        "svg", line, mark, class_=f"key {series.css}", viewBox="0 0 28 14", width=28, height=14,
        aria_hidden="true",
    )  # fmt: skip


def chart(
    series: Sequence[Series],
    *,
    name: str,
    title: str,
    desc: str,
    x_label: str,
    y_label: str = "",
    width: int = 340,
    height: int = 200,
    y_range: tuple[float, float] | None = None,
    y_include: Sequence[float] = (),
    x_zero: bool = False,
    rule: float | None = None,
) -> Markup:
    """A line chart. `name` makes ids unique on the page; `y_range` clamps; `rule` is a dashed level."""
    series = [s for s in series if s.points]
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points]
    ys += [end for s in series for ci in s.ci if ci for end in ci]
    ys += [*y_include, *([] if rule is None else [rule])]
    y_ticks = nice_ticks(*(y_range or (min(ys), max(ys))), about=4 if height < 260 else 6)
    x_ticks = nice_ticks(0.0 if x_zero else min(xs), max(xs), about=max(3, width // 90))
    y_step = y_ticks[1] - y_ticks[0]
    left = 14.0 + 6.6 * max(len(tick_text(t, y_step)) for t in y_ticks)
    top, bottom = (24.0 if y_label else 8.0), height - 38.0
    # The axis ends where the data do, not at the next tick: small panels have no room to waste.
    x_end = max(xs) if max(xs) > x_ticks[0] else x_ticks[-1]
    room = 12.0 + max((7.0 * len(s.note) for s in series), default=0.0)
    x = Axis(min(x_ticks[0], *xs) if x_zero else min(xs), x_end, left, width - room)
    if x.low >= x.high:
        x = Axis(x_ticks[0], x_ticks[-1], left, width - room)
    y = Axis(y_ticks[0], y_ticks[-1], bottom, top)
    parts = [el("title", title, id=f"{name}-t"), el("desc", desc, id=f"{name}-d")]
    x, y = replace(x, ticks=x_ticks), replace(y, ticks=y_ticks)
    parts += frame(x, y, x_label, y_label, height)
    if rule is not None:
        parts.append(el("path", d=f"M{left:.1f} {y(rule):.1f}H{x.b + 4:.1f}", class_="rule"))
    parts += [_draw(s, x, y) for s in series]
    parts += _notes(series, x, y, top, bottom)
    return el(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", class_="chart",
        aria_labelledby=f"{name}-t {name}-d",
    )  # fmt: skip


def frame(x: Axis, y: Axis, x_label: str, y_label: str, height: int) -> list[Markup]:
    """Grid, axes, ticks and the names of the axes; ticks of x beyond its range are left out."""
    parts = []
    y_step, x_step = y.ticks[1] - y.ticks[0], x.ticks[1] - x.ticks[0]
    left, bottom = x.a, y.a
    for t in y.ticks:
        parts.append(el("path", d=f"M{left:.1f} {y(t):.1f}H{x.b + 4:.1f}", class_="grid"))
        at = {"x": left - 7, "y": y(t) + 4, "class_": "tick", "text_anchor": "end"}
        parts.append(el("text", tick_text(t, y_step), **at))
    for t in (t for t in x.ticks if x.low - 1e-9 <= t <= x.high + 1e-9):
        parts.append(el("path", d=f"M{x(t):.1f} {bottom:.1f}v4", class_="axis"))
        at = {"x": x(t), "y": bottom + 17, "class_": "tick", "text_anchor": "middle"}
        parts.append(el("text", tick_text(t, x_step), **at))
    parts.append(el("path", d=f"M{left:.1f} {bottom:.1f}H{x.b + 4:.1f}", class_="axis"))
    parts.append(el("text", x_label, x=x.b + 4, y=height - 5.0, class_="lab", text_anchor="end"))
    if y_label:
        parts.append(el("text", y_label, x=2.0, y=12.0, class_="lab"))
    return parts


def _draw(s: Series, x: Axis, y: Axis) -> Markup:
    spots = [(x(a), y(b)) for a, b in s.points]
    parts = []
    if len(spots) > 1:
        d = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in spots)
        parts.append(el("path", d=d, class_="ln dash" if s.dash else "ln"))
    for (a, _), ci in zip(spots, s.ci, strict=False):
        if ci:
            parts.append(el("path", d=f"M{a:.1f} {y(ci[0]):.1f}V{y(ci[1]):.1f}", class_="ci"))
    if s.markers or len(spots) == 1:
        shape = shape_of(s.css)
        for i, (a, b) in enumerate(spots):
            size = 5.5 if s.note and i == len(spots) - 1 else 3.6
            dot = marker(shape, a, b, size, class_="pt")
            parts.append(el("g", el("title", s.tips[i]), dot) if i < len(s.tips) else dot)
    return el("g", *parts, class_=s.css)


def _notes(series: Sequence[Series], x: Axis, y: Axis, top: float, bottom: float) -> list[Markup]:
    """Direct labels beside the last points, pushed apart where they would overlap."""
    noted = [(x(s.points[-1][0]), y(s.points[-1][1]), s) for s in series if s.note]
    noted.sort(key=lambda n: n[1])
    placed: list[tuple[float, float, float]] = []  # x, y, width
    found = []
    for a, b, s in noted:
        at, wide = max(b, top + 4), 7.0 * len(s.note) + 14
        for pa, pb, pw in placed:
            if a < pa + pw and pa < a + wide and at < pb + 15:
                at = pb + 15
        placed.append((a, at, wide))
        found.append(
            el(
                "g",
                el("text", s.note, x=a + 10, y=min(at, bottom) + 4, class_="note"),
                class_=s.css,
            )
        )
    return found
