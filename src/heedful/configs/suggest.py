"""What `heedful suggest` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.errors import UserError
from heedful.fields import SEED, SHARE, alias


@dataclass(frozen=True, kw_only=True)
class Config:
    """Let a model suggest which response is better on a project's questions; without one, tell what suggestions do to
    raters."""

    workspace: Path = Path(".")
    """The workspace's folder."""
    project: str | None = None
    """The project; needed where there are several."""
    judge: Annotated[str | None, alias("--model")] = None
    """Who suggests by comparing: llm:MODEL, http://HOST:PORT/v1#NAME (a server) and all else that heedful judge asks; a
    model's folder alone is llm:FOLDER."""
    reward: Annotated[tuple[str, ...], alias("--reward-model")] = ()
    """Who suggests by a score: a reward model, a rule, package.module:function; several are summed."""
    name: str | None = None
    """Under which suggestions are kept and chosen; default: what --judge or --reward says. Raters never see it."""
    show: Literal["yes", "no"] | None = None
    """From now on raters see these suggestions, or (no) nobody's; by default the project stays as it is."""
    hidden: Annotated[float | None, SHARE] = None
    """The chance that a suggestion stays hidden, so that its effect can be measured; 0.2 in a new project."""
    seed: Annotated[int, SEED] = 0
    """Seed of a judge's sampling."""
    device: str = "cpu"
    """Torch device of a reward model, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""

    def __post_init__(self) -> None:
        if self.judge is not None and self.reward:
            raise UserError("either --judge or --reward suggests, not both")
        if self.name is not None and not self.name.strip():
            raise UserError("--name must not be empty")
        if self.show == "yes" and self.source is None:
            raise UserError("--show yes needs --judge, --reward or --name: whose suggestions?")

    @property
    def source(self) -> str | None:
        """The name under which suggestions are kept; None: nobody is named."""
        return self.name or self.judge or " + ".join(self.reward) or None

    @property
    def asks(self) -> bool:
        """Whether somebody is to suggest something."""
        return self.judge is not None or bool(self.reward)
