"""A run's folder: resolved config, metrics, checkpoints, the state to go on from, and the final model at its root.

out/config.yaml       the resolved config
out/metrics.jsonl     one object a logged step
out/record.jsonl      which rows were dropped or cut, and what was changed when a run went on; absent if nothing
out/raters.json       with --weights: what each rater's judgments count, and the version of that fit
out/alarms.jsonl      what went wrong by the look of the metrics, in plain words; absent if nothing did
out/samples.jsonl     of on-policy methods: a few prompts and responses of some steps
out/tensorboard/      the same for TensorBoard
out/checkpoints/N/    a loadable model of step N
out/state/N/          all that a stopped or killed run needs to go on after step N; gone once it has finished
out/state/stash/N/    what step N has cost so far, such as scored rollouts
out/state/asked/N.jsonl   what was answered over the network in step N, as it came
out/config.json …     the final model (an adapter: adapter_config.json …); absent until the run has finished
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from heedful.disk import (
    PARTIAL,
    discard,
    disk_errors,
    make_folder,
    sweep,
    sync,
    write_folder,
    write_text,
)
from heedful.errors import Stopped, UserError
from heedful.progress import Progress
from heedful.ranks import ALONE, Ranks
from heedful.remote.journal import recorded
from heedful.run import checkpoints
from heedful.run.begun import Recordings, check_out, stashes, states, what_changed
from heedful.run.files import fingerprint, plain
from heedful.run.metrics import ALARMS, SAMPLES, MetricsLog, alarms_of, cut, metrics_of
from heedful.run.settings import (
    FINISHED,
    Habits,
    finished,
    flat,
    identity,
    refuse_finished,
    settings,
)
from heedful.run.state import Damaged, GlobalRandom, Holder, Saved
from heedful.run.stop import StopSignals, locked
from heedful.types import Stateful

__all__ = [
    "FINISHED",
    "Run",
    "alarms_of",
    "check_out",
    "fingerprint",
    "finished",
    "flat",
    "metrics_of",
    "plain",
    "refuse_finished",
    "settings",
]

KEPT = 2  # states: the newest, and the one before in case that is damaged
SHARE = 0.05  # of the time may go into saving states, unless --state-every says how often
AT_LEAST = 10.0  # seconds between two of them; a shorter run is quickly begun anew
RECORD = "record.jsonl"
RANDOM = "random_generators"  # what every state has
log = logging.getLogger("heedful")
Method = TypeVar("Method", bound=Callable[..., Any])


def _on_first(method: Method) -> Method:
    """A method of `Run` that rank 0 alone performs; what comes of it is everybody's."""

    @functools.wraps(method)
    def call(self: Run, *args: Any, **kwargs: Any) -> Any:
        return self.ranks.on_first(method, self, *args, **kwargs)

    return call  # type: ignore[return-value]


class Run:
    """An open run; use `with Run(...) as run`. Logs, shows progress, saves checkpoints, states and the final model.

    `stateful` in the methods are a recipe's mutable things by name (identifiers), always the same ones. With several
    ranks all call the same methods: the first touches the folder, and an error there is everybody's.
    """

    def __init__(
        self,
        out: Path,
        config: Any,
        *,
        total_steps: int,
        quiet: bool = False,
        report_to: str = "tensorboard",
        show: tuple[str, ...] = ("loss",),
        ranks: Ranks = ALONE,
    ):
        self.ranks = ranks
        self.out, self.show, self.total_steps = Path(out), show, total_steps
        self._config, self._quiet, self._report_to = config, quiet, report_to
        self._habits = Habits.of(config)
        self._best = self._habits.best
        self._states, self._stashes = states(self.out), stashes(self.out)
        self._recordings = Recordings(self.out)
        ranks.on_first(refuse_finished, self.out)
        self._saved = False
        self._found: Saved | None = None
        self._changes: list[str] = []
        self._restored = False
        self._cost = 0.0  # seconds that the last state took

    def __enter__(self) -> Run:
        self._stack = ExitStack()
        self._found, self._answered, self._identity = self._open()
        if not self.out.is_dir():
            raise UserError(f"--out {self.out} must be on a file system that all processes share")
        self._stack.push(self._stop_after_all)
        self._signals = StopSignals(tells=self.ranks.rank == 0)
        self._kept_at = time.monotonic()
        return self

    @_on_first
    def _open(self) -> tuple[Saved | None, dict[int, dict[str, Any]], dict[str, Any]]:
        """Take the folder; returns the state to go on from, what was answered since, and what this run is."""
        created = not self.out.exists()
        with ExitStack() as stack:
            with disk_errors(self.out):
                make_folder(self.out)
            stack.enter_context(locked(self.out))
            if created:
                stack.push(self._remove_if_empty)
            self._identity = identity(self._config)
            self._begin()
            after, seconds = (
                (self._found.step, self._found.about["seconds"]) if self._found else (0, 0.0)
            )
            self._metrics = stack.enter_context(
                MetricsLog(self.out, self._config, self._report_to, after=after, seconds=seconds)
            )
            self._progress = stack.enter_context(
                Progress(self.out.name, self.total_steps, quiet=self._quiet, start=after)
            )
            self._stack = stack.pop_all()
        return self._found, self._recordings.read(), self._identity

    def __exit__(self, kind, error, tb) -> None:
        self._stack.__exit__(kind, error, tb)

    def restore(self, stateful: Mapping[str, Stateful]) -> int:
        """What is stateful has again what it had when the run was stopped; returns the last step that counts, or 0."""
        self._restored = True
        self._stack.enter_context(self._signals)  # from here on somebody heeds them, in `keep`
        if self._found is None:
            return 0
        self._found.load({**stateful, RANDOM: GlobalRandom(self.ranks)})
        step = self._found.step
        since = f"; since then {'; '.join(self._changes)}" if self._changes else ""
        told = f"continuing {self.out} after step {step} of {self.total_steps}{since}"
        print(told, file=sys.stderr)
        return step

    def keep(self, step: int, stateful: Mapping[str, Stateful]) -> None:
        """After each step: save the state where that is due. Raises `Stopped` if a signal has come, the state saved."""
        if not self._restored:
            raise RuntimeError("restore(stateful) comes before the first keep(step, stateful)")
        told = self.ranks.gather((self._signals.received, self._due(step)))
        asked = _any(signal for signal, _ in told)
        if asked or told[0][1]:  # of clocks the first's counts
            shards = self._write_shards(stateful)
            self._write_state({**stateful, RANDOM: GlobalRandom.now(self.ranks)}, step, shards)
        if asked:
            raise Stopped(
                f"stopped after step {step} of {self.total_steps}; the same command goes on", asked
            )

    @contextmanager
    def asking(self, step: int, what: str) -> Iterator[None]:
        """Whatever is asked over the network in this block is kept as it comes, and not asked again by who goes on.

        `what` tells this block of a step from its others; see `remote.journal.recorded`.
        """
        file, past = self._recordings.file(step), self._answered.get(step, {})
        with recorded(file, past=past, about={"step": step, **self._identity}, part=what):
            yield

    def stash(self, step: int, value: Any) -> None:
        """Keep what the step in progress has cost so far (rollouts, scores), before anything changes in it.

        `value` may be made of tensors, numbers, strings, None, `types`, and dicts, lists and tuples of them.
        """
        self._write_stash({"stash": Holder(value), RANDOM: GlobalRandom.now(self.ranks)}, step)

    def stashed(self, step: int) -> Any | None:
        """What `stash` kept for this step when the run was interrupted, or None."""
        if (found := self._read_stash(step)) is None:
            return None
        value, generators = found
        GlobalRandom(self.ranks).load_state_dict(generators)
        return value

    @_on_first
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one line of metrics; `step` counts finished optimiser (or policy) steps."""
        if (loss := metrics.get("loss")) is not None and not math.isfinite(loss):
            raise UserError(
                f"the loss became {loss} at step {step}; lower --learning-rate or look at the data"
            )
        self._metrics.write(step, metrics)
        self._progress.update(step, {k: metrics[k] for k in self.show if k in metrics})

    @_on_first
    def record(self, **event: Any) -> None:
        """Keep in `record.jsonl` what one must know beside the config to know what was trained on."""
        self._append(RECORD, event)

    @_on_first
    def texts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows of what was sampled in `samples.jsonl`."""
        self._append(SAMPLES, *rows)

    @_on_first
    def advise(self, step: int, sentences: Sequence[str]) -> None:
        """Tell the person who watches, and keep it in `alarms.jsonl` for who looks later."""
        for sentence in sentences:
            self._progress.say(f"{self.out.name}, step {step}: {sentence}")
            self._append(ALARMS, {"step": step, "alarm": sentence})

    @_on_first
    def checkpoint(
        self, step: int, write: Callable[[Path], None], metrics: Mapping[str, float] | None = None
    ) -> Path:
        """Save a loadable model of this step under `checkpoints/`, with its metrics beside it, and prune older ones."""
        metrics = metrics or {}
        if self._best is not None:
            self._best.require(metrics)

        def with_metrics(folder: Path) -> None:
            write(folder)
            if metrics:
                text = json.dumps({"step": step, **metrics}, indent=1)
                (folder / checkpoints.METRICS).write_text(text, encoding="utf-8")

        root = self.out / "checkpoints"
        target = root / f"{step:06d}"
        write_folder(target, with_metrics)
        self._saved = True
        checkpoints.prune(root, self._habits.keep_last, self._best)
        return target

    @_on_first
    def set_aside(self, name: str, write: Callable[[Path], None]) -> None:
        """A loadable model in a folder of its own, in place of what was there; nothing prunes it."""
        write_folder(self.out / name, write)
        self._saved = True

    @_on_first
    def finish(self, write: Callable[[Path], None]) -> None:
        """Save the final model into the run's folder itself; nothing is left to go on from."""
        self._metrics.sync()
        whole = self.out / f".final{PARTIAL}"
        write_folder(whole, write)
        with disk_errors(self.out):
            for file in sorted(whole.iterdir(), key=lambda f: f.name in FINISHED):
                if file.name in FINISHED:
                    sync(self.out)  # all else is in place, whatever the power takes after this
                os.replace(file, self.out / file.name)
            sync(self.out)
            self._saved = True
            discard(self.out / "state")
            whole.rmdir()  # last: where it is still there, so may be what went before
        if self._best and (found := self._best.of(checkpoints.folders(self.out / "checkpoints"))):
            folder, value = found
            print(f"best {self._best.metric}: {value:.6g} at {folder}", file=sys.stderr)

    def _write_shards(self, stateful: Mapping[str, Stateful]) -> Path | None:
        """What several ranks have parts of, written by each of them."""
        parts = {name: thing for name, thing in stateful.items() if hasattr(thing, "save_shards")}
        if not parts:
            return None
        folder = self.ranks.on_first(self._states.parts, list(parts))
        for name, thing in parts.items():
            thing.save_shards(folder / name)  # type: ignore[attr-defined]
        return folder

    @_on_first
    def _write_state(
        self, stateful: Mapping[str, Stateful], step: int, shards: Path | None
    ) -> None:
        began = time.monotonic()
        self._metrics.sync()
        self._states.write(stateful, self._about(step), shards)
        self._saved = True
        steps = self._states.steps()
        self._states.drop(steps[:-KEPT])
        # From the older state, too, everything that was paid for can be had again.
        self._stashes.drop([s for s in self._stashes.steps() if s <= steps[-KEPT:][0]])
        self._recordings.drop(until=steps[-KEPT:][0])
        self._kept_at = time.monotonic()
        self._cost = self._kept_at - began

    @_on_first
    def _write_stash(self, held: Mapping[str, Stateful], step: int) -> None:
        self._stashes.write(held, self._about(step))
        self._saved = True

    @_on_first
    def _read_stash(self, step: int) -> tuple[Any, dict[str, Any]] | None:
        """The value, and the random generators of all ranks when it was kept."""
        if step not in self._stashes.steps():
            return None
        holder, random = Holder(), GlobalRandom(self.ranks)
        try:
            self._stashes.read(step).load({"stash": holder, RANDOM: random})
        except Damaged as damage:
            log.warning("what was kept of step %d is damaged (%s) and made again", step, damage)
            return None
        return holder.value, random.state

    def _begin(self) -> None:
        """Find what there is to go on from; a run that begins anew throws away what an earlier one left."""
        if self._habits.restart:
            discard(self.out / "state")
        self._changes = what_changed(self.out, self._habits, self._identity)
        self._found = self._states.newest()
        anything = bool(self._found or self._stashes.steps() or self._recordings.steps())
        after = self._found.step if self._found else 0
        with disk_errors(self.out):
            if not anything:
                discard(self.out / "checkpoints")
                (self.out / RECORD).unlink(missing_ok=True)
            cut(self.out / RECORD, after)
            if self._changes:
                self._append(RECORD, {"step": after, "changed": self._changes})
            for folder in (self.out, self.out / "checkpoints", self.out / "state"):
                sweep(folder)
            self._stashes.sweep()
            self._states.drop([s for s in self._states.steps() if s > after])
            for folder in checkpoints.folders(self.out / "checkpoints"):
                if int(folder.name) > after:
                    discard(folder)
            text = yaml.safe_dump(settings(self._config), sort_keys=False, allow_unicode=True)
            write_text(self.out / "config.yaml", text)
        self._saved = anything

    def _append(self, name: str, *rows: Mapping[str, Any]) -> None:
        with disk_errors(self.out), open(self.out / name, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def _due(self, step: int) -> bool:
        if self._habits.state_every:
            return step % self._habits.state_every == 0
        return time.monotonic() - self._kept_at >= max(AT_LEAST, self._cost / SHARE)

    def _about(self, step: int) -> dict[str, Any]:
        return {"step": step, "seconds": round(self._metrics.seconds, 3), **self._identity}

    def _remove_if_empty(self, kind, error, tb) -> None:
        if isinstance(error, UserError) and not self._saved:
            shutil.rmtree(self.out, ignore_errors=True)

    def _stop_after_all(self, kind, error, tb) -> None:
        """A signal that came too late for a step still stops what the command would do next."""
        if error is None and (received := _any(self.ranks.gather(self._signals.received))):
            raise Stopped(f"stopped; {self.out} is finished", received)


def _any(signals: Iterable[int | None]) -> int | None:
    """The first signal that a rank has got, if one has."""
    return next(filter(None, signals), None)
