"""`build`: results.json and run folders in, one HTML file out that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from heedful.disk import write_text
from heedful.report import figures, story, tables, words
from heedful.report.results import Results, load


def build(folder: Path) -> Path:
    """Draws `folder/results.json` and the runs it names as `folder/report.html` and returns its path.

    The same input gives the same bytes. Raises `UserError` where the input is missing or wrong.
    """
    folder = Path(folder)
    html = render(load(folder))
    return write(folder / "report.html", html)


def render(results: Results) -> str:
    """The page as a string. Autoescape is on for everything; only our own SVG, CSS and JS are Markup."""
    return fill("report.html.j2", **_context(results))


def fill(template: str, **context: Any) -> str:
    """A template with styles, script and `words` besides the context."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("heedful.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = static("report.js")
    return environment.get_template(template).render(
        style=Markup(static("report.css")),
        dark=Markup(static("dark.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        w=words,
        **context,
    )


def _context(results: Results) -> dict[str, Any]:
    rows = tables.cards(results)
    return {
        "results": results,
        "outcome": words.outcome(results),
        "tiles": words.tiles(results),
        "example": tables.example(results),
        "ladder": figures.ladder(results),
        "steps": story.tell(results),
        "cards": rows,
        "filters": tables.filters(rows),
        "win_rates": tables.win_rates(results),
        "voices": tables.voices(results),
        "evaluated": max((s.n or 0 for s in results.stages.values()), default=0),
        "evaluate": [c for stage, c in results.commands if stage == "evaluate"],
        "frontier": figures.frontier(results),
        "curves": figures.curves(results),
        "thinned": any(
            len(c) > figures.MOST_POINTS for run in results.curves.values() for c in run.values()
        ),
        "costs": tables.costs(results),
        "total": words.duration(words.total_seconds(results)),
        "machine": _machine(results),
    }


def _machine(results: Results) -> list[tuple[str, str]]:
    names = {"cpu": "Processor", "cores": "Cores", "memory_gib": "Memory, GiB", "gpu": "GPU"}
    facts = [(names.get(k, k.replace("_", " ")), str(v)) for k, v in results.machine.items() if v]
    if results.peak_gib is not None:
        facts.append(("Peak memory, GiB", words.number(results.peak_gib)))
    if results.seed is not None:
        facts.append(("Seed", str(results.seed)))
    return facts + list(results.versions.items())


def static(name: str) -> str:
    return (resources.files("heedful.report") / "static" / name).read_text(encoding="utf-8")


def write(path: Path, text: str) -> Path:
    """The page, whole: a reader never sees half of one."""
    write_text(path, text)
    return path
