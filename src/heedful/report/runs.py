"""Folders of runs → one HTML page: every curve with the runs laid over each other, sampled texts, alarms, settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from heedful.data.logs import ALARMS, METRICS, SAMPLES, read_log
from heedful.errors import UserError
from heedful.report import figures, melodies, molecules, page, svg, words
from heedful.report.results import Curve, read_metrics
from heedful.report.svg import Series
from heedful.yaml_file import read_yaml

COLOURS = 8  # m-0 … m-7 in compare.css
SHOWN = 6  # rounds whose texts are shown, evenly from the first to the last
FINISHED = ("config.json", "adapter_config.json", "player.json")
# What is drawn first, in this order; what else was logged follows by its name.
TITLES = {
    "loss": ("Loss", ""),
    "reward": ("Reward", "mean of a round's responses"),
    "kl/seq": ("KL to the reference", "nats per response"),
    "accuracy": ("Accuracy", "share of pairs"),
    "rewards/accuracies": ("Accuracy", "share of pairs"),
    "rewards/margins": ("Margin", "chosen − rejected, nats × β"),
    "completions/mean_length": ("Length", "tokens per response"),
    "policy/entropy": ("Entropy", "nats per token"),
}


@dataclass(frozen=True)
class RunFolder:
    """What a run's folder holds, as far as the page shows it."""

    name: str
    folder: Path
    curves: dict[str, Curve]
    config: dict[str, Any] = field(default_factory=dict)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False

    @property
    def step(self) -> float:
        """The last step that was logged."""
        return max((curve[-1][0] for curve in self.curves.values() if curve), default=0)


def build(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Draws the runs; returns the page's path. A folder without metrics stands for the runs in it."""
    found = [run for folder in folders for run in _runs_in(Path(folder))]
    if not found:
        raise UserError(
            f"{folders[0]}: no run is there ({METRICS}), and no results.json of a demo or comparison"
        )
    runs = [_read(folder, _name(folder, found)) for folder in found]
    home = found[0] if len(found) == 1 else found[0].parent
    return page.write(
        out or home / "report.html", page.fill("runs.html.j2", **_context(runs, folders))
    )


def _runs_in(folder: Path) -> list[Path]:
    if (folder / METRICS).exists():
        return [folder]
    return sorted(p.parent for p in folder.glob(f"**/{METRICS}") if "checkpoints" not in p.parts)


def _name(folder: Path, among: Sequence[Path]) -> str:
    """The folder's name, with its parent's where another one is called so too."""
    alone = [other.name for other in among].count(folder.name) == 1
    return folder.resolve().name if alone else f"{folder.resolve().parent.name}/{folder.name}"


def _read(folder: Path, name: str) -> RunFolder:
    config = folder / "config.yaml"
    loaded = read_yaml(config, str(config)) if config.exists() else {}
    return RunFolder(
        name=name,
        folder=folder,
        curves=read_metrics(folder / METRICS),
        config=loaded if isinstance(loaded, dict) else {},
        alarms=read_log(folder / ALARMS),
        texts=read_log(folder / SAMPLES),
        finished=any((folder / file).exists() for file in FINISHED),
    )


def _context(runs: list[RunFolder], folders: Sequence[Path]) -> dict[str, Any]:
    first, rest = charts(runs)
    return {
        "style_compare": Markup(page.static("compare.css")),
        "title": runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        "outcome": outcome(runs),
        "runs": runs,
        "keys": [(svg.key(_series(run, i, [(0, 0)], "")), run.name) for i, run in enumerate(runs)],
        "first": first,
        "rest": rest,
        "columns": [TITLES[m][0] for m in _measured(runs)],
        "rows": [_row(run, _measured(runs)) for run in runs],
        "differences": differences(runs),
        "texts": [
            (run.name, rounds(run.texts, picture_of(run.config))) for run in runs if run.texts
        ],
        "command": "heedful report " + " ".join(map(str, folders)),
    }


def outcome(runs: Sequence[RunFolder]) -> str:
    """One sentence: how far the runs are, and what raised an alarm."""
    ends = [
        f"{run.name} {'finished at' if run.finished else 'is at'} step {run.step:g}" for run in runs
    ]
    alarmed = [run.name for run in runs if run.alarms]
    said = f" {words.listed(alarmed)} raised alarms." if alarmed else " No alarm was raised."
    return "; ".join(ends) + "." + said


def charts(runs: Sequence[RunFolder]) -> tuple[list[figures.Figure], list[figures.Figure]]:
    """The charts that matter most, and all others; a held-out metric is drawn with its training one, dashed."""
    logged = dict.fromkeys(m for run in runs for m in run.curves)
    names = [
        m for m in logged if m.removeprefix("eval/") == m or m.removeprefix("eval/") not in logged
    ]
    names = [m for m in names if m != "seconds"]
    first = [m for m in TITLES if m in names]
    rest = sorted(set(names) - set(first))
    drawn = [
        [_chart(runs, m, f"{kind}-{i}") for i, m in enumerate(ms)]
        for kind, ms in (("f", first), ("r", rest))
    ]
    return drawn[0], drawn[1]


def _chart(runs: Sequence[RunFolder], metric: str, name: str) -> figures.Figure:
    title, unit = TITLES.get(metric, (metric, ""))
    series = []
    for i, run in enumerate(runs):
        series.append(_series(run, i, run.curves.get(metric, []), ""))
        series.append(_series(run, i, run.curves.get(f"eval/{metric}", []), " held out"))
    series = [s for s in series if s.points]
    ends = "; ".join(f"{s.name}: {s.points[0][1]:.3g} to {s.points[-1][1]:.3g}" for s in series)
    chart = svg.chart(
        series, name=name, title=f"{title} ({metric})", desc=ends + ".", x_label="step", y_label=unit,
    )  # fmt: skip
    dashed = " Dashed: held out." * any(s.dash for s in series)
    return figures.Figure(
        title, chart, [], f"{metric}.{dashed}" if title != metric or dashed else ""
    )


def _series(run: RunFolder, place: int, curve: Curve, of: str) -> Series:
    return Series(
        run.name + of,
        f"m-{place % COLOURS}",
        figures.thin(curve) if curve else [],
        dash=bool(of),
        markers=len(curve) <= 12,
    )


def _measured(runs: Sequence[RunFolder]) -> list[str]:
    return [m for m in TITLES if any(m in run.curves for run in runs)][:6]


def _row(run: RunFolder, measured: Sequence[str]) -> dict[str, Any]:
    seconds = run.curves.get("seconds")
    return {
        "name": run.name,
        "command": run.config.get("command", ""),
        "state": "finished" if run.finished else "not finished",
        "steps": f"{run.step:g}",
        "time": words.duration(seconds[-1][1]) if seconds else words.ABSENT,
        "cells": [
            words.number(run.curves[m][-1][1]) if m in run.curves else words.ABSENT
            for m in measured
        ],
        "alarms": len(run.alarms),
    }


def differences(runs: Sequence[RunFolder]) -> list[tuple[str, list[str]]]:
    """Settings in which the runs differ, with the value of each."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    table = [(n, [str(run.config.get(n, words.ABSENT)) for run in runs]) for n in names]
    return [(n, values) for n, values in table if len(set(values)) > 1 and n != "out"]


Picture = Callable[[str], Markup]


def picture_of(config: Mapping[str, Any]) -> Picture:
    """How a run's texts are seen besides: molecules where they were rewarded as such, else melodies where they are."""
    chemistry = "molecule_" in str(config.get("reward"))  # "C" alone is a molecule, and a letter
    return molecules.shown if chemistry else melodies.shown


def rounds(
    texts: Sequence[dict[str, Any]], picture: Picture
) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Some steps, evenly from the first to the last, with what was sampled in each."""
    steps = sorted({row["step"] for row in texts})
    last = len(steps) - 1
    count = min(SHOWN, len(steps))
    chosen = {steps[round(i * last / max(1, count - 1))] for i in range(count)}
    return [
        (step, [_text(r, picture) for r in texts if r["step"] == step]) for step in sorted(chosen)
    ]


def _text(row: dict[str, Any], picture: Picture) -> dict[str, str]:
    reward = row.get("reward")
    return {
        "picture": picture(str(row.get("completion", ""))),
        "prompt": str(row.get("prompt", "")).strip(),
        "text": str(row.get("completion", "")),
        "reward": words.number(reward) if isinstance(reward, int | float) else "",
        "truncated": "truncated" if row.get("truncated") else "",
    }
