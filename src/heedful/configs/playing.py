"""What every command takes that may let the policy talk with an environment, in place of answering once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from heedful.errors import UserError
from heedful.fields import ABOVE_0, AT_LEAST_1
from heedful.tagged import ReadWith

PLAYED = ReadWith("plays", reason="there is neither --env nor --tools")


@dataclass(frozen=True, kw_only=True)
class Playing:
    """Episodes of several turns; see docs/envs.md."""

    needs_reward: ClassVar[bool] = False
    env: str | None = None
    """An environment that the policy talks with over several turns: a name (calculator, browse, …), package.module:env,
    ./file.py:env, or another library's (PREFIX:ID); see docs/envs.md."""
    env_options: Annotated[tuple[str, ...], ReadWith("env")] = ()
    """Options of the environment, such as digits=3."""
    tools: tuple[str, ...] = ()
    """Python functions that the policy may call until it answers, in place of --env: package.module:function, or
    ./file.py for all in it that have a docstring. --reward judges the answer."""
    tool_format: Annotated[Literal["auto", "hermes", "llama3", "mistral"], PLAYED] = "auto"
    """How the model writes calls of tools; auto: as its chat template does."""
    max_turns: Annotated[int, AT_LEAST_1, PLAYED] = 8
    """Turns of the policy in an episode, which is then truncated; --max-tokens is the longest turn."""
    max_episode_tokens: Annotated[int | None, AT_LEAST_1, PLAYED] = None
    """Tokens of an episode, all that was heard included. Default: the model's context."""
    env_seconds: Annotated[float, ABOVE_0, PLAYED] = 600.0
    """Seconds that an environment may take for itself in an episode, while the policy does not speak."""
    judged: Annotated[Literal["turn", "episode"], PLAYED] = "turn"
    """What raters and a --reward see of an episode: its last turn, behind the conversation, or all that came after the
    prompt, as one text. An environment that shows something of its own, as browse does, shows that."""
    on_env_error: Annotated[Literal["stop", "drop"], PLAYED] = "stop"
    """An environment that fails stops the command, or the episode is dropped and counted."""

    @property
    def longest(self) -> int:
        """Tokens that the policy may write in an episode, or in its only turn."""
        turn: int = getattr(self, "max_tokens", 1)
        whole = self.max_turns * turn
        return min(whole, self.max_episode_tokens or whole) if self.plays else turn

    @property
    def plays(self) -> bool:
        """Whether there is an environment at all."""
        return bool(self.env or self.tools)


def refuse_unplayable(config: Any) -> None:
    """Combinations that nobody can play."""
    if config.env and config.tools:
        raise UserError("--env and --tools are two environments; leave one of them out")


def refuse_unasked(config: Playing) -> None:
    """Without an environment somebody else must say what is asked, and what a response is worth."""
    if config.env or getattr(config, "game", ""):
        return
    name = "prompts" if hasattr(config, "prompts") else "data"
    if not getattr(config, name, ""):
        raise UserError(f"--{name} is missing: what is asked; an --env may bring its own tasks")
    if config.needs_reward and not getattr(config, "reward", ()):
        raise UserError("--reward is missing: what a response is worth; an --env may say so itself")
