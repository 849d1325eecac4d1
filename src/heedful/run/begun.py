"""What is in a run's folder before it begins or goes on, and what is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.errors import UserError
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
    if begun is not None:
        return changes(out, begun.about, now)
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


def _nothing(out: Path) -> str:
    return f"--resume: {out} holds no saved state to go on from; leave --resume out to begin there"
