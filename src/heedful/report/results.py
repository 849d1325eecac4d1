"""results.json and the run folders it names, read into frozen dataclasses.

Only what no page can do without is required: a title and, for every stage, its gold score. Whatever
else is missing or null becomes None or empty, and the page says so. What is there must be right: a
wrong type is a `UserError` that names the file and the field.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.data.logs import METRICS, is_number, read_log
from heedful.errors import UserError

Interval = tuple[float, float]
Curve = list[tuple[float, float]]  # (step, value) in the order of the steps


@dataclass(frozen=True)
class Stage:
    """One model (or best-of-n) on the held-out prompts; shares are in 0..1, KL in nats a response."""

    gold: float
    gold_ci: Interval | None
    accuracy: float | None
    rude: float | None
    length: float | None
    kl: float | None
    win_rate: float | None
    win_rate_ci: Interval | None
    voices: dict[str, float]
    n: int | None


@dataclass(frozen=True)
class Point:
    """One checkpoint (or one n of best-of-n) of the reward–KL plot."""

    method: str
    step: int | None
    n: int | None
    kl: float
    gold: float
    gold_ci: Interval | None
    reward: float | None


@dataclass(frozen=True)
class Answer:
    """What one stage wrote: hostile input until it is escaped."""

    text: str
    gold: float | None
    reward: float | None
    voice: str


@dataclass(frozen=True)
class Question:
    """A held-out prompt, its reference answer and one response a stage."""

    prompt: str
    answer: str
    responses: dict[str, Answer]


@dataclass(frozen=True)
class RewardModel:
    loss: str
    accuracy: float | None
    accuracy_ci: Interval | None
    pairs: int | None
    train_comparisons: int | None


@dataclass(frozen=True)
class Results:
    title: str
    world: str
    seed: int | None
    quick: bool
    versions: dict[str, str]
    machine: dict[str, Any]
    seconds: dict[str, float]
    peak_gib: float | None
    commands: list[tuple[str, str]]
    stages: dict[str, Stage]
    reward_model: RewardModel | None
    frontier: list[Point]
    samples: list[Question]
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)  # run → metric → curve


class _Object:
    """A JSON object that knows its file and its path in it, so that every complaint can name both."""

    def __init__(self, file: Path, where: str, value: object):
        if not isinstance(value, dict):
            raise UserError(f"{file}: {where or 'the file'} must be a JSON object")
        self.file, self.where, self.value = file, where, value

    def path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def bad(self, key: str, expected: str) -> UserError:
        got = "is missing" if key not in self.value else f"is {_short(self.value[key])}"
        return UserError(f"{self.file}: field {self.path(key)} {got}, expected {expected}")

    def _get(
        self, key: str, test: Callable[[Any], bool], expected: str, default: Any, need: bool
    ) -> Any:
        value = self.value.get(key)
        if value is None and not need:
            return default
        if not test(value):
            raise self.bad(key, expected)
        return value

    def text(self, key: str, default: str = "", need: bool = False) -> str:
        return self._get(key, lambda v: isinstance(v, str), "a text", default, need)

    def number(self, key: str, need: bool = False) -> Any:
        return self._get(key, is_number, "a finite number", None, need)

    def whole(self, key: str) -> int | None:
        def test(v: Any) -> bool:
            return isinstance(v, int) and not isinstance(v, bool)

        return self._get(key, test, "a whole number", None, False)

    def flag(self, key: str) -> bool:
        return self._get(key, lambda v: isinstance(v, bool), "true or false", False, False)

    def interval(self, key: str) -> Interval | None:
        def test(v: Any) -> bool:
            return isinstance(v, list) and len(v) == 2 and all(map(is_number, v)) and v[0] <= v[1]

        value = self._get(key, test, "two finite numbers [low, high]", None, False)
        return None if value is None else (float(value[0]), float(value[1]))

    def items(self, key: str) -> list[_Object]:
        value = self._get(key, lambda v: isinstance(v, list), "a list", [], False)
        return [_Object(self.file, f"{self.path(key)}[{i}]", v) for i, v in enumerate(value)]

    def child(self, key: str, need: bool = False) -> _Object:
        value = self._get(key, lambda v: isinstance(v, dict), "an object", {}, need)
        return _Object(self.file, self.path(key), value)

    def children(self, key: str, need: bool = False) -> dict[str, _Object]:
        child = self.child(key, need)
        return {k: _Object(self.file, child.path(k), v) for k, v in child.value.items()}

    def numbers(self, key: str) -> dict[str, float]:
        child = self.child(key)
        return {k: child.number(k) for k, v in child.value.items() if v is not None}


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def load(folder: Path) -> Results:
    """Reads `folder/results.json` and the `metrics.jsonl` of every run it names."""
    file = folder / "results.json"
    top = _Object(file, "", _read_json(file))
    stages = {name: _stage(o) for name, o in top.children("stages", need=True).items()}
    if not stages:
        raise top.bad("stages", "at least one evaluated stage")
    return Results(
        title=top.text("title", need=True),
        world=top.text("world"),
        seed=top.whole("seed"),
        quick=top.flag("quick"),
        versions={k: str(v) for k, v in top.child("versions").value.items()},
        machine=dict(top.child("machine").value),
        seconds=top.numbers("seconds"),
        peak_gib=top.number("peak_gib"),
        commands=[(o.text("stage"), o.text("command", need=True)) for o in top.items("commands")],
        stages=stages,
        reward_model=_reward_model(top),
        frontier=[_point(o) for o in top.items("frontier")],
        samples=[_question(o) for o in top.items("samples")],
        curves=_runs(top, folder),
    )


def _stage(o: _Object) -> Stage:
    return Stage(
        gold=o.number("gold", need=True),
        gold_ci=o.interval("gold_ci"),
        accuracy=o.number("accuracy"),
        rude=o.number("rude"),
        length=o.number("length"),
        kl=o.number("kl"),
        win_rate=o.number("win_rate"),
        win_rate_ci=o.interval("win_rate_ci"),
        voices=o.numbers("voices"),
        n=o.whole("n"),
    )


def _point(o: _Object) -> Point:
    return Point(
        method=o.text("method", need=True),
        step=o.whole("step"),
        n=o.whole("n"),
        kl=o.number("kl", need=True),
        gold=o.number("gold", need=True),
        gold_ci=o.interval("gold_ci"),
        reward=o.number("reward"),
    )


def _question(o: _Object) -> Question:
    responses = {
        name: Answer(
            r.text("text", need=True), r.number("gold"), r.number("reward"), r.text("voice")
        )
        for name, r in o.children("responses", need=True).items()
    }
    return Question(o.text("prompt", need=True), o.text("answer"), responses)


def _reward_model(top: _Object) -> RewardModel | None:
    if top.value.get("reward_model") is None:
        return None
    o = top.child("reward_model")
    return RewardModel(
        loss=o.text("loss"),
        accuracy=o.number("accuracy"),
        accuracy_ci=o.interval("accuracy_ci"),
        pairs=o.whole("pairs"),
        train_comparisons=o.whole("train_comparisons"),
    )


def _read_json(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{file}: there is no such file; `heedful demo` writes it, and the report is drawn from it"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{file}: cannot be read ({e})") from None
    except json.JSONDecodeError as e:
        raise UserError(f"{file}, line {e.lineno}: not valid JSON ({e.msg})") from None


def _runs(top: _Object, folder: Path) -> dict[str, dict[str, Curve]]:
    runs = top.child("runs")
    curves = {}
    for name, value in runs.value.items():
        if value is None:
            continue
        run = folder / runs.text(name, need=True)
        if not run.is_dir():
            raise UserError(f"{top.file}: field runs.{name} names {run}, which is not a folder")
        curves[name] = read_metrics(run / METRICS)
    return curves


def read_metrics(file: Path) -> dict[str, Curve]:
    """Metric → curve. Where a resumed run logged a step twice, the later line counts."""
    found: dict[str, dict[float, float]] = {}
    for row in read_log(file):
        for key, value in row.items():
            # Non-finite values stay out of the curve; a gap shows where a run blew up.
            if key != "step" and is_number(value):
                found.setdefault(key, {})[row["step"]] = value
    return {key: sorted(points.items()) for key, points in found.items()}
