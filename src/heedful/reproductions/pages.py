"""Results → their pictures and the page about all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from heedful.disk import write_text
from heedful.report.svg import Series, chart, el
from heedful.reproductions import load, names, results

HEAD = """# Reproductions

Claims of the literature, made again by one command each: `heedful reproduce NAME`, or `all`; `heedful reproduce --list`
prints the table below. Criteria stand in the file of each reproduction (`src/heedful/reproductions/`) with the day on
which they were written down, before the final run; what failed stays here as what failed. Values are means over seeds
with 95 % bootstrap intervals; a result of fewer than four seeds is *preliminary*. Minutes are those of two cores that
have nothing else to do, a seed on each: half the processor's time of all seeds. With ~ they are a clock's, of seeds in
turn and beside other work, which is longer. The command makes this page from the JSON files beside the pictures.

"""
# A picture that stands alone: the colours of the report's page, light and dark.
COLOURS = ("#0b66a3", "#c2540a", "#0a7d60", "#7d46b2", "#846300", "#b03a72", "#3f4c55", "#8a3b22")
DARK = ("#6db3e8", "#f39a5b", "#45c9a1", "#c9a0ea", "#e2bd4d", "#f08fbd", "#c3ced3", "#d99a80")
STYLE = """
svg { --ink: #1a2224; --soft: #55626a; --line: #d5dbda; --card: #ffffff; font-family: system-ui, sans-serif; }
text { fill: var(--soft); font-size: 11.5px; } .head { fill: var(--ink); font-size: 13px; font-weight: 600; }
.sheet { fill: var(--card); } .grid, .axis, .rule { stroke: var(--line); fill: none; }
.axis, .rule { stroke: var(--soft); } .rule { stroke-dasharray: 4 3; }
.ln { fill: none; stroke: var(--c); stroke-width: 2; } .pt { fill: var(--c); }
.ci { stroke: var(--c); stroke-width: 1.5; opacity: .55; } .note, .legend { fill: var(--c); font-weight: 600; }
"""
WIDTH, HEIGHT, ROW = 680, 340, 18


def write(folder: Path, page: Path) -> Path:
    """The page about all results in a folder; `page` is returned."""
    lines = ["| name | verdict | minutes | claim |", "|---|---|---|---|"]
    sections = []
    for name in names():
        file = folder / f"{name}.json"
        result = results.read(file) if file.exists() else None
        reproduction = load(name)
        verdict = results.verdict_of(reproduction, result)
        named, mark, taken = name, verdict, f"about {reproduction.minutes:g}"
        if result:
            named, mark, taken = f"[{name}](#{name})", f"**{verdict}**", minutes(result)
        lines.append(f"| {named} | {mark} | {taken} | {reproduction.claim} |")
        if result:
            sections.append(section(result, folder, page))
    write_text(page, HEAD + "\n".join([*lines, "", *sections]))
    return page


def minutes(result: dict[str, Any]) -> str:
    """Of all seeds on two cores; of results that do not know the processor's time, the clock's."""
    worked = [s.get("processor_seconds") for s in result["seeds"]]
    if None in worked:
        return f"~{sum(s['seconds'] for s in result['seeds']) / 60:.1f}"
    return f"{sum(worked) / 2 / 60:.1f}"


def section(result: dict[str, Any], folder: Path, page: Path) -> str:
    """Claim, source, what was run, each criterion with what was measured, the picture."""
    name, machine = result["name"], result["machine"]
    lines = [
        f"## {name}",
        "",
        f"**{result['verdict']}** · {len(result['seeds'])} seeds · {result['date']} · heedful {result['version']} · "
        f"{machine['cpu']}, {machine['cores']} cores",
        "",
        "```",
        result["command"],
        "```",
        "",
        f"Claim: {result['claim']} ({result['source']})",
        "",
        f"What is run: {result['what']} Criteria of {result['frozen']}:",
        "",
        *(f"- {sentence(c)}" for c in result["criteria"]),
        "",
    ]
    if result["figure"]:
        place = (folder / f"{name}.svg").resolve()
        lines += [f"![{result['figure']['title']}]({relative(place, page)})", ""]
    criteria = {c["value"] for c in result["criteria"]}
    others = {k: v for k, v in result["values"].items() if k not in criteria}
    if others:
        lines += [
            "Also measured: " + "; ".join(f"{k} {interval(v)}" for k, v in others.items()) + ".",
            "",
        ]
    return "\n".join(lines)


def relative(place: Path, page: Path) -> str:
    """The way from the page to a file, as a link."""
    here = page.resolve().parent
    up = next(k for k, parent in enumerate([here, *here.parents]) if place.is_relative_to(parent))
    return "../" * up + place.relative_to([here, *here.parents][up]).as_posix()


def sentence(criterion: dict[str, Any]) -> str:
    """A criterion, what was measured and whether it is met."""
    of = {"mean": "", "interval": ", interval", "every seed": ", every seed"}[criterion["of"]]
    got = "not measured" if criterion["measured"] is None else f"{criterion['measured']:.4g}"
    met = "met" if criterion["pass"] else "NOT met"
    return f"{criterion['words']}: {got} ({criterion['direction']} {criterion['threshold']:g}{of}): {met}"


def interval(summary: dict[str, Any]) -> str:
    """A mean with its interval."""
    ends = f" [{summary['ci'][0]:.3g}, {summary['ci'][1]:.3g}]" if summary["ci"] else ""
    return f"{summary['mean']:.3g}{ends}"


def picture(name: str, figure: dict[str, Any]) -> str:
    """A figure's data as an SVG file that stands alone, light or dark as its reader likes."""
    intervals = figure["intervals"] or {}
    series = [
        Series(
            label,
            f"m-{k % len(COLOURS)}",
            points,
            markers=len(points) < 20,
            ci=intervals.get(label) or (),
        )
        for k, (label, points) in enumerate(figure["lines"].items())
    ]
    drawn = chart(
        series, name=name, title=figure["title"], desc=f"Lines: {', '.join(figure['lines'])}.",
        x_label=figure["x"], y_label=figure["y"], width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    top, tall = 24 + ROW * ((len(series) + 2) // 3), 0
    legend = [
        el(
            "g",
            el("path", d=f"M{14 + 220 * (k % 3)} {32 + ROW * (k // 3)}h22", class_="ln"),
            el("text", s.name, x=42 + 220 * (k % 3), y=36 + ROW * (k // 3), class_="legend"),
            class_=s.css,
        )
        for k, s in enumerate(series)
    ]
    tall = HEIGHT + top + 16
    plot = Markup(
        str(drawn).replace("<svg ", f'<svg x="8" y="{top}" width="{WIDTH}" height="{HEIGHT}" ', 1)
    )
    return str(
        el(
            "svg", el("style", Markup(STYLE + palette())),
            el("rect", width=WIDTH + 16, height=tall, class_="sheet"),
            el("text", figure["title"], x=12, y=18, class_="head"), *legend, plot,
            xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH + 16} {tall}",
            width=WIDTH + 16, height=tall,
        )
    )  # fmt: skip


def palette() -> str:
    """The lines' colours, by daylight and in the dark."""
    light = " ".join(f".m-{k} {{ --c: {c}; }}" for k, c in enumerate(COLOURS))
    dark = " ".join(f".m-{k} {{ --c: {c}; }}" for k, c in enumerate(DARK))
    sheet = "svg { --ink: #e8ecec; --soft: #a9b4b7; --line: #333b40; --card: #14181a; }"
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {sheet} {dark} }}\n"
