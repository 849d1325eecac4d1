"""What `heedful suggest` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from heedful.errors import UserError
from heedful.fields import AT_LEAST_1, SEED, SHARE, alias


@dataclass(frozen=True, kw_only=True)
class Config:
    """Let a model suggest which response is better on a project's questions, or keep what it says against them;
    without one, tell what both do to raters."""

    workspace: Path = Path(".")
    """The workspace's folder."""
    project: str | None = None
    """The project; needed where there are several."""
    judge: Annotated[str | None, alias("--model")] = None
    """Who suggests by comparing: llm:MODEL, http://HOST:PORT/v1#NAME (a server) and all else that heedful judge asks; a
    model's folder alone is llm:FOLDER."""
    reward: Annotated[tuple[str, ...], alias("--reward-model")] = ()
    """Who suggests by a score: a reward model, a rule, package.module:function; several are summed."""
    critiques: str | None = None
    """Critiques in place of suggestions, which raters can ask for: a file with prompt, completion and critique on each
    line, or who writes them, llm:MODEL or http://HOST:PORT/v1#NAME. --name, --show and --hidden are then about them."""
    name: str | None = None
    """Under which they are kept and chosen; default: what --judge, --reward or --critiques says. Kept from raters."""
    show: Literal["yes", "no"] | None = None
    """From now on raters see these suggestions, or can ask for these critiques; or (no) nobody's. By default the
    project stays as it is."""
    hidden: Annotated[float | None, SHARE] = None
    """The chance that a suggestion stays hidden, so that its effect can be measured; 0.2 in a new project."""
    max_tokens: Annotated[int, AT_LEAST_1] = 256
    """Longest critique in tokens."""
    seed: Annotated[int, SEED] = 0
    """Seed of a judge's sampling."""
    device: str = "cpu"
    """Torch device of a model, such as cpu, cuda or auto."""
    quiet: bool = False
    """Log lines in place of a progress bar."""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.judge, self.reward, self.critiques))) > 1:
            raise UserError("one of --judge, --reward and --critiques at a time, not both")
        if self.name is not None and not self.name.strip():
            raise UserError("--name must not be empty")
        if self.show == "yes" and self.source is None:
            raise UserError(
                "--show yes needs --judge, --reward, --critiques or --name: whose suggestions?"
            )

    @property
    def source(self) -> str | None:
        """The name under which suggestions are kept; None: nobody is named."""
        return self.name or self.judge or self.critiques or " + ".join(self.reward) or None

    @property
    def asks(self) -> bool:
        """Whether somebody is to suggest something."""
        return self.judge is not None or bool(self.reward) or self.critiques is not None
