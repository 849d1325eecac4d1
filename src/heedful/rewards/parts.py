"""Several rewards as one: Σ weight · part, each part logged by its name, and scaled by its running spread if asked.

The raw values of the *whole* batch are taken first; then each part's scale is brought up to date, once;
then they are summed. So the order of prompts and the size of groups change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from heedful.data.sources import prompt_text
from heedful.errors import UserError
from heedful.ranks import ALONE, Ranks
from heedful.types import Facts, Group, Metrics, Prompt, Reward
from heedful.waiting import all_of

if TYPE_CHECKING:
    from heedful.rewards.model import ModelReward

LEAST_STD = 1e-8  # a part that is constant has no scale to be divided by
Value = float | None  # None: the reward abstains


@dataclass(frozen=True, slots=True)
class Told:
    """What a reward told of a group: a value for each response, and what it logged beside."""

    values: list[Value]
    metrics: dict[str, list[float]] = field(default_factory=dict)
    extra: dict[str, list[Any]] = field(default_factory=dict)


Early = Mapping[tuple[str, int], Told]  # of a part's name and a member's place


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A named term of the sum. Several `members` are an ensemble: their `by` minus k standard deviations.

    mean − kσ over the members, or their minimum, is what optimisation finds harder to exploit than any
    one of them (Coste et al. 2024). σ is the members' population standard deviation.
    """

    name: str
    members: tuple[Reward, ...]
    weight: float = 1.0
    by: Literal["mean", "min"] = "mean"
    k: float = 0.0
    watched: bool = False  # scored and logged as watch/NAME, and no part of the sum

    def combine(self, values: Sequence[float]) -> Value:
        """One number from the numbers for a response of those members that do not abstain; None if all do."""
        if not values:
            return None
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
    """What a batch is worth, response by response in the order of its groups: the sum and the raw parts.

    A part that abstains of a response is left out of its sum; a response of which all abstain is worth None: there is
    nothing to learn from it. `extra` are the columns that rewards logged.
    """

    total: list[Value]
    parts: dict[str, list[Value]]
    metrics: Metrics
    extra: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def unscored(self) -> int:
        """Responses that no part has scored."""
        return sum(value is None for value in self.total)


@runtime_checkable
class Reader(Protocol):
    """A reward with a context of its own."""

    def room(self, prompt: Prompt, max_tokens: int) -> str | None:
        """Why it could not read so long a response to the prompt in whole, or None."""
        ...


class Parts:
    """Σ weight · part over named parts. With `normalise`, each part is first divided by the standard
    deviation of all its values so far, and not shifted: its sign and its zero keep their meaning.
    """

    def __init__(self, parts: Sequence[Part], *, normalise: bool = False):
        self.parts, self.normalise = tuple(parts), normalise
        self.moments = {part.name: Moments() for part in parts}
        # Rounds done, of how many, and passes over the prompts, as trainers tell before each round.
        self.progress: tuple[int, int, float] = (0, 0, 0.0)
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
    def members(self) -> list[Reward]:
        """Every reward in here, those of ensembles too."""
        return [member for part in self.parts for member in part.members]

    @property
    def reward_model(self) -> ModelReward | None:
        """The only reward model in here, from which a critic may start; None where there are none or several."""
        from heedful.rewards.model import ModelReward

        optimised = (part for part in self.parts if not part.watched)
        members = [member for part in optimised for member in part.members]
        models = [m for m in members if isinstance(m, ModelReward) and m.heads is None]
        return models[0] if len(models) == 1 else None

    @property
    def models(self) -> list[ModelReward]:
        """Every reward model in here, also under what takes something from its reward."""
        from heedful.rewards.model import ModelReward

        inner = [getattr(member, "reward", member) for member in self.members]
        return [member for member in inner if isinstance(member, ModelReward)]

    @property
    def fitted_on(self) -> int:
        """Responses that the reward models in the sum were fitted on, of the one with the fewest; 0: not known."""
        members = (m for part in self.parts if not part.watched for m in part.members)
        known = [n for m in members if (n := getattr(m, "fitted_on", 0))]
        return min(known, default=0)

    def check(self, prompt: Prompt, facts: Facts) -> None:
        """Raises what scoring any response to this prompt would: a missing column, a right answer that is none."""
        for member in self.members:
            getattr(member, "check", lambda prompt, facts: None)(prompt, facts)

    def room(self, prompt: Prompt, max_tokens: int) -> str | None:
        """Why a reward model could not read so long a response to the prompt in whole; None where all could."""
        asked = (m.room(prompt, max_tokens) for m in self.members if isinstance(m, Reader))
        return next(filter(None, asked), None)

    async def early(self, group: Group, *, every: bool = False) -> Early:
        """What those say of a group who need not wait for the rest of the batch, which a reward model scores as one;
        with `every` the reward models, too, asked for other groups at the same time."""
        asked = {
            (part.name, i): _ask(part, member, self._now(group))
            for part in self.parts
            for i, member in enumerate(part.members)
            if every or not getattr(member, "in_batches", False)
        }
        return dict(zip(asked, await all_of(asked.values()), strict=True))

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

        def asked(one: tuple[Part, int, int]) -> Coroutine[Any, Any, Told]:
            part, i, g = one
            return _ask(part, part.members[i], self._now(groups[g]))

        def in_step(one: tuple[Part, int, int]) -> bool:
            return getattr(one[0].members[one[1]], "in_step", False)

        by_all, by_one = [m for m in missing if in_step(m)], [m for m in missing if not in_step(m)]
        told = [*await ranks.share_out(by_one, asked), *await all_of(map(asked, by_all))]
        answers = {
            (p.name, i, g): known[g][p.name, i] for p, i, g in every if (p.name, i) in known[g]
        }
        answers |= {(p.name, i, g): t for (p, i, g), t in zip(by_one + by_all, told, strict=True)}
        raw, metrics = {}, {}
        for part in self.parts:
            raw[part.name] = values = []
            spread: list[float] = []
            by_member: list[list[Value]] = [[] for _ in part.members]
            for g in range(len(groups)):
                of_members = [answers[part.name, i, g].values for i in range(len(part.members))]
                for known_of, told_of in zip(by_member, of_members, strict=True):
                    known_of += told_of
                for of_response in zip(*of_members, strict=True):
                    heard = [v for v in of_response if v is not None]
                    values.append(part.combine(heard))
                    spread += [_std(heard)] if heard else []
            if part.watched:
                # What is charged for the spread of an ensemble is no error besides.
                apart = by_member if part.by == "mean" and part.k == 0 else ()
                metrics |= _watched(part.name, values, apart, groups)
            else:
                metrics |= self._metrics(part, values, spread)
        total = self._total(raw, sum(len(group.responses) for group in groups))
        if abstained := sum(value is None for value in total):
            metrics["reward/unscored"] = abstained / len(total)
        logged, extra = _logged(groups, answers)
        return Scores(total, raw, metrics | logged, extra)

    def _metrics(self, part: Part, values: Sequence[Value], spread: Sequence[float]) -> Metrics:
        """Of a part over a batch, which also moves its scale; nothing where it has scored nothing."""
        scored = [v for v in values if v is not None]
        if self.normalise:
            self.moments[part.name].update(scored)
        name = f"reward/{part.name}"
        metrics = (
            {f"{name}/abstained": 1 - len(scored) / len(values)}
            if len(scored) < len(values)
            else {}
        )
        if not scored:
            return metrics
        metrics |= {name: _mean(scored), f"{name}/std": _std(scored)}
        if len(part.members) > 1:
            metrics[f"{name}/disagreement"] = _mean(spread)
        if self.normalise:
            metrics[f"{name}/scale"] = self.moments[part.name].scale
        return metrics

    def _total(self, raw: Mapping[str, Sequence[Value]], count: int) -> list[Value]:
        scales = {n: self.moments[n].scale if self.normalise else 1.0 for n in raw}
        total: list[Value] = []
        for k in range(count):
            optimised = [part for part in self.parts if not part.watched]
            worth: Value = None if optimised else 0.0
            for part in optimised:
                if (v := raw[part.name][k]) is not None:
                    worth = (worth or 0.0) + part.weight * v / scales[part.name]
            total.append(worth)
        return total

    def _now(self, group: Group) -> Group:
        return replace(group, progress=self.progress)

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


def _watched(
    name: str,
    values: Sequence[Value],
    by_member: Sequence[Sequence[Value]],
    groups: Sequence[Group],
) -> Metrics:
    """The mean and its standard error; responses to one prompt are not independent, so groups are. Of an ensemble also
    the mean of each member: how far they are apart is an error that no number of responses makes smaller."""
    means = _means(values, groups)
    if not means:
        return {}
    se = _std(means) / math.sqrt(len(means) - 1) if len(means) > 1 else math.inf
    metrics = {f"watch/{name}": _mean(means), f"watch/{name}_se": se}
    if len(by_member) > 1:
        for k, of_member in enumerate(by_member, start=1):
            if alone := _means(of_member, groups):
                metrics[f"watch/{name}/{k}"] = _mean(alone)
    return metrics


def _means(values: Sequence[Value], groups: Sequence[Group]) -> list[float]:
    """Of each group, of those responses that have a value; groups without any are left out."""
    rows = iter(values)
    of_groups = [[v for _ in group.responses if (v := next(rows)) is not None] for group in groups]
    return [_mean(scores) for scores in of_groups if scores]


def _logged(
    groups: Sequence[Group], answers: Mapping[tuple[str, int, int], Told]
) -> tuple[Metrics, dict[str, list[Any]]]:
    """What rewards logged: metrics as means over their calls, columns with a place for every response."""
    metrics: dict[str, list[float]] = {}
    extra: dict[str, list[Any]] = {}
    starts = [0]
    for group in groups:
        starts.append(starts[-1] + len(group.responses))
    for (_, _, g), told in answers.items():
        for name, values in told.metrics.items():
            metrics.setdefault(name, []).extend(values)
        for column, values in told.extra.items():
            row = extra.setdefault(column, [None] * starts[-1])
            row[starts[g] : starts[g + 1]] = values
    return {name: _mean(values) for name, values in metrics.items()}, extra


async def _ask(part: Part, member: Reward, group: Group) -> Told:
    told = Told([])

    def log_metric(name: str, value: float) -> None:
        told.metrics.setdefault(name, []).append(float(value))

    def log_extra(column: str, values: Sequence[Any]) -> None:
        if len(values) != len(group.responses):
            raise UserError(
                f"the reward '{part.name}' logged {len(values)} values of '{column}' "
                f"for {len(group.responses)} responses"
            )
        told.extra[column] = list(values)

    try:
        said = await member(replace(group, log_metric=log_metric, log_extra=log_extra))
    except Exception as error:
        if not getattr(error, "__notes__", None):  # a model's error is that of all its groups
            error.add_note(f"in the reward '{part.name}', at the prompt {_start(group.prompt)!r}")
        raise
    told.values.extend(numbers(said, part.name, group.prompt, group.responses))
    return told


def numbers(
    values: Sequence[Any], name: str, prompt: Prompt, responses: Sequence[str]
) -> list[Value]:
    """The values as floats, None as it is. What else is no finite number is an error that names reward and response."""
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise UserError(f"the reward '{name}' must return a list of numbers, not {values!r}")
    if len(values) != len(responses):
        raise UserError(
            f"the reward '{name}' returned {len(values)} numbers for {len(responses)} responses"
        )
    scores: list[Value] = []
    for value, response in zip(values, responses, strict=True):
        if value is None:
            scores.append(None)
            continue
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"the reward '{name}' of {response[:80]!r} (prompt {_start(prompt)!r}) is {value!r}; "
                "rewards must be finite numbers, or None to abstain"
            )
        scores.append(number)
    return scores


def _start(prompt: Prompt) -> str:
    return prompt_text(prompt)[:80]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _std(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
