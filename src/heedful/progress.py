"""Progress of long work: a rich bar with ETA and live metrics in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

PLAIN_EVERY = 5.0  # seconds between plain lines


_announced: list[str] = []


def announce(line: str) -> None:
    """Said when the work begins; a command that is refused before says only why."""
    _announced.append(line)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """`loss 1.234  reward 0.56`, short enough for a line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


class Progress:
    """`with Progress("ppo", total=50) as bar: bar.update(1, {"reward": 0.3})`."""

    def __init__(self, what: str, total: int, *, quiet: bool = False, start: int = 0):
        """`start` units were done before, by a process that was interrupted."""
        self.what, self.total, self.done, self.start = what, total, start, start
        self.started = self.last_line = time.monotonic()
        self.fancy = sys.stderr.isatty() and not quiet
        self._bar = None

    def __enter__(self) -> Progress:
        while _announced:
            print(_announced.pop(0), file=sys.stderr)
        if self.fancy:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}", markup=False),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self.what, total=self.total, completed=self.start, metrics=""
            )
        return self

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """`done` of `total` units are finished."""
        self.done = done
        text = format_metrics(metrics or {})
        if self._bar is not None:
            self._bar.update(self._task, completed=done, metrics=text)
            return
        now = time.monotonic()
        if now - self.last_line >= PLAIN_EVERY or done >= self.total:
            self.last_line = now
            elapsed = now - self.started
            pace = elapsed / (done - self.start) if done > self.start else None
            eta = f"{pace * (self.total - done):.0f}s" if pace else "?"
            line = f"{self.what} {done}/{self.total}  {elapsed:.0f}s  eta {eta}  {text}"
            print(line.rstrip(), file=sys.stderr, flush=True)

    def say(self, sentence: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(sentence, markup=False, highlight=False)
        else:
            print(sentence, file=sys.stderr, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
