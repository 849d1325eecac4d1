"""What is in a run's folder before it begins or goes on, and what is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.errors import UserError
from heedful.remote.journal import Journal
from heedful.run.settings import Habits, changes, identity, refuse_finished
from heedful.run.state import Damaged, Saved, States
from heedful.run.stop import locked


def check_out(config: Any) -> None:
    """Refuse what `Run` would refuse (finished, another's, in use, begun otherwise) before anything is loaded."""
    out = config.out
    refuse_finished(out)
    habits = Habits.of(config)
    _ = habits.best
    if out.is_dir():
        with locked(out):
            if not habits.restart:
                what_changed(out, habits, identity(config))
    elif habits.resume:
        raise UserError(_nothing(out))


def what_changed(out: Path, habits: Habits, now: Mapping[str, Any]) -> list[str]:
    """`settings.changes` since the run in `out` was begun; `--resume` needs something to go on from."""
    begun = states(out).newest(check=False) or _newest_stash(out)
    about = begun.about if begun else Recordings(out).about()
    if about is not None:
        return changes(out, about, now, resume=habits.resume)
    if habits.resume:
        raise UserError(_nothing(out))
    return []


def _newest_stash(out: Path) -> Saved | None:
    kept = stashes(out)
    for step in reversed(kept.steps()):
        try:
            return kept.read(step)
        except Damaged:
            kept.drop([step])
    return None


def states(out: Path) -> States:
    """From which a run can go on."""
    return States(out / "state")


def stashes(out: Path) -> States:
    """What a step in progress has cost so far."""
    return States(out / "state" / "stash")


class Recordings:
    """What was answered over the network in each step, as it came: files that go when their step is in a state."""

    def __init__(self, out: Path):
        self.folder = out / "state" / "asked"

    def file(self, step: int) -> Path:
        return self.folder / f"{step:06d}.jsonl"

    def steps(self) -> list[int]:
        """In which somebody was asked, and what was said is still here."""
        return sorted(int(f.stem) for f in self.folder.glob("[0-9]*.jsonl"))

    def about(self) -> dict[str, Any] | None:
        """What was said of the run when the newest was begun."""
        for step in reversed(self.steps()):
            journal = Journal(self.file(step))
            journal.read()
            if journal.about is not None:
                return journal.about
        return None

    def read(self) -> dict[int, dict[str, Any]]:
        """Step → what was answered in it, by its request."""
        return {step: Journal(self.file(step)).read() for step in self.steps()}

    def drop(self, until: int) -> None:
        """Of a step and those before it nobody will be asked again."""
        for step in self.steps():
            if step <= until:
                self.file(step).unlink(missing_ok=True)


def _nothing(out: Path) -> str:
    return f"--resume: {out} holds no saved state to go on from; leave --resume out to begin there"
