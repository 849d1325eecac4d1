"""Several rewards as one: Σ weight · part, each part logged by its name, and scaled by its running spread if asked.

The raw values of the *whole* batch are taken first; then each part's scale is brought up to date, once;
then they are summed. So the order of prompts and the size of groups change nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.ranks import ALONE, Ranks
from heedful.types import Facts, Metrics, Prompt, Reward

if TYPE_CHECKING:
    from heedful.rewards.model import ModelReward

Early = Mapping[tuple[str, int], list[float]]  # of a part's name and a member's place: its numbers
LEAST_STD = 1e-8  # a part that is constant has no scale to be divided by


@dataclass(frozen=True, slots=True)
class Group:
    """All responses to one prompt; `ended[k]` is False where response k was truncated."""

    prompt: Prompt
    responses: Sequence[str]
    ended: Sequence[bool]
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A named term of the sum. Several `members` are an ensemble: their `by` minus k standard deviations.

    mean − kσ over the members, or their minimum, is what optimisation finds harder to exploit than any
    one of them (Coste et al. 2024; METHODS row 16). σ is the members' population standard deviation.
    """

    name: str
    members: tuple[Reward, ...]
    weight: float = 1.0
    by: Literal["mean", "min"] = "mean"
    k: float = 0.0

    def combine(self, values: Sequence[float]) -> float:
        """One number from the members' numbers for a response."""
        return min(values) if self.by == "min" else _mean(values) - self.k * _std(values)


@dataclass(slots=True)
class Moments:
    """Count, mean and sum of squared deviations of all values so far (Welford 1962; Chan et al. 1983)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def update(self, values: Sequence[float]) -> None:
        if not values:
            return
        n, mean = len(values), _mean(values)
        delta, total = mean - self.mean, self.count + n
        squares = math.fsum((v - mean) ** 2 for v in values)
        self.squares += squares + delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.count = total

    @property
    def scale(self) -> float:
        """The population standard deviation; 1 as long as all values were the same."""
        std = math.sqrt(self.squares / self.count) if self.count else 0.0
        return std if std > LEAST_STD else 1.0


@dataclass(frozen=True, slots=True)
class Scores:
    """What a batch is worth, response by response in the order of its groups: the sum and the raw parts."""

    total: list[float]
    parts: dict[str, list[float]]
    metrics: Metrics


class Parts:
    """Σ weight · part over named parts. With `normalise`, each part is first divided by the standard
    deviation of all its values so far, and not shifted: its sign and its zero keep their meaning.
    """

    def __init__(self, parts: Sequence[Part], *, normalise: bool = False):
        self.parts, self.normalise = tuple(parts), normalise
        self.moments = {part.name: Moments() for part in parts}
        if len(self.moments) < len(self.parts):
            raise ValueError("the names of parts must differ")

    @classmethod
    def of(cls, reward: Reward | Parts) -> Parts:
        """A single reward as a sum of one part."""
        return reward if isinstance(reward, Parts) else cls([Part(name="own", members=(reward,))])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.moments)

    @property
    def reward_model(self) -> ModelReward | None:
        """The only reward model in here, from which a critic may start; None where there are none or several."""
        from heedful.rewards.model import ModelReward

        members = [member for part in self.parts for member in part.members]
        models = [member for member in members if isinstance(member, ModelReward)]
        return models[0] if len(models) == 1 else None

    async def early(self, group: Group) -> Early:
        """What those say of a group who need not wait for the rest of the batch; a reward model scores it as one."""
        asked = {
            (part.name, i): _ask(part, member, group)
            for part in self.parts
            for i, member in enumerate(part.members)
            if not getattr(member, "in_batches", False)
        }
        return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))

    async def score(
        self, groups: Sequence[Group], early: Sequence[Early] = (), ranks: Ranks = ALONE
    ) -> Scores:
        """The worth of all responses of a batch; moves the running scales, once.

        `early` is what `early` gave for each group: who has answered is not asked again.
        """
        known = early or [{}] * len(groups)
        every = [
            (part, i, g)
            for part in self.parts
            for g in range(len(groups))
            for i in range(len(part.members))
        ]
        missing = [(p, i, g) for p, i, g in every if (p.name, i) not in known[g]]
        late = iter(
            await ranks.share_out(missing, lambda m: _ask(m[0], m[0].members[m[1]], groups[m[2]]))
        )
        answers = (
            known[g][p.name, i] if (p.name, i) in known[g] else next(late) for p, i, g in every
        )
        total = [0.0] * sum(len(group.responses) for group in groups)
        raw: dict[str, list[float]] = {}
        metrics: Metrics = {}
        for part in self.parts:
            spread: list[float] = []
            raw[part.name] = values = []
            for _ in groups:
                of_members = [next(answers) for _ in part.members]
                for of_response in zip(*of_members, strict=True):
                    values.append(part.combine(of_response))
                    spread.append(_std(of_response))
            scale = self._scale(part.name, values)
            total = [t + part.weight * v / scale for t, v in zip(total, values, strict=True)]
            if not values:
                continue
            metrics[f"reward/{part.name}"] = _mean(values)
            metrics[f"reward/{part.name}/std"] = _std(values)
            if len(part.members) > 1:
                metrics[f"reward/{part.name}/disagreement"] = _mean(spread)
            if self.normalise:
                metrics[f"reward/{part.name}/scale"] = scale
        return Scores(total, raw, metrics)

    def state_dict(self) -> dict[str, Any]:
        """The running moments, as plain numbers."""
        return {n: [m.count, m.mean, m.squares] for n, m in self.moments.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; the parts must be the same."""
        if set(state) != set(self.moments):
            raise UserError(
                f"the checkpoint has the reward parts {', '.join(state)}, "
                f"this run has {', '.join(self.moments)}"
            )
        self.moments = {name: Moments(*state[name]) for name in self.moments}

    def _scale(self, name: str, values: Sequence[float]) -> float:
        if not self.normalise:
            return 1.0
        self.moments[name].update(values)
        return self.moments[name].scale


async def _ask(part: Part, member: Reward, group: Group) -> list[float]:
    try:
        said = await member(group.prompt, group.responses, group.ended, group.facts)
    except Exception as error:
        if not getattr(error, "__notes__", None):  # a model's error is that of all its groups
            error.add_note(f"in the reward '{part.name}', at the prompt {_start(group.prompt)!r}")
        raise
    return numbers(said, part.name, group.prompt, group.responses)


def numbers(
    values: Sequence[Any], name: str, prompt: Prompt, responses: Sequence[str]
) -> list[float]:
    """The values as floats. What is no finite number is an error that names the reward and the response."""
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise UserError(f"the reward '{name}' must return a list of numbers, not {values!r}")
    if len(values) != len(responses):
        raise UserError(
            f"the reward '{name}' returned {len(values)} numbers for {len(responses)} responses"
        )
    scores = []
    for value, response in zip(values, responses, strict=True):
        try:
            scores.append(math.nan if isinstance(value, str) else float(value))
        except (TypeError, ValueError):
            scores.append(math.nan)
        if not math.isfinite(scores[-1]):
            raise UserError(
                f"the reward '{name}' of {response[:80]!r} (prompt {_start(prompt)!r}) is {value!r}; "
                "rewards must be finite numbers"
            )
    return scores


def _start(prompt: Prompt) -> str:
    return prompt_text(prompt)[:80]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _std(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
