"""The nouns of heedful. This file imports nothing of ours, and torch only for type checkers.

Shapes: B sequences in a batch, T predicted positions. In a `Sample`, which is one sequence, entry t of `mask` and
`logprobs` is about token t itself. In a `Batch`, which is what models see, column t of a mask or log-prob is about
*predicting* token t+1: `tokens` is `[B, T+1]`, everything else `[B, T]`. `data.collate` makes the shift, once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from heedful.types.messages import Message, Prompt
from heedful.types.tensors import (
    Batch,
    Labelled,
    LabelledLogps,
    Outputs,
    Packed,
    Paired,
    PairLogps,
    Ranked,
    RankedLogps,
    RankedWithReference,
    Rewarded,
    Scored,
    ScoredWithValues,
    Wanted,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "NO_FACTS",
    "Batch",
    "Branch",
    "Comparison",
    "Completion",
    "Demonstration",
    "Engine",
    "Episode",
    "Facts",
    "Group",
    "Labelled",
    "LabelledLogps",
    "LabelledResponse",
    "Learner",
    "Message",
    "Metrics",
    "Outputs",
    "Packed",
    "PairLogps",
    "Paired",
    "Prompt",
    "Ranked",
    "RankedLogps",
    "RankedWithReference",
    "Rated",
    "Rater",
    "Reward",
    "Rewarded",
    "Sample",
    "Sampling",
    "Scored",
    "ScoredWithValues",
    "Scorer",
    "Segment",
    "Stateful",
    "Step",
    "StopReason",
    "Task",
    "Wanted",
]

# "stop": the model ended by itself; "length": it was truncated
StopReason = Literal["stop", "length"]
Metrics = dict[str, float]

# What else the row of a prompt says, such as the right `answer`: for rewards, never for the policy.
Facts = Mapping[str, Any]
NO_FACTS: Facts = MappingProxyType({})


@dataclass(frozen=True)
class Task:
    """What an episode begins with: a prompt and its tokens, encoded once; `facts` are for environment and reward."""

    prompt: Prompt
    tokens: tuple[int, ...]
    stop: tuple[int, ...]
    facts: Facts = field(default_factory=lambda: NO_FACTS, hash=False)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A response worth imitating; one that was truncated (`ended` False) does not teach where to stop.

    `tool_calls` are what it asks for besides, as in a `Message`; the chat template writes them.
    """

    prompt: Prompt
    completion: str
    ended: bool = True
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one rater said about K responses to one prompt.

    `ranking[k]` is the rank of `responses[k]`: 1 is best, equal ranks are ties, and None is worse than all that have
    a rank, but in no order with others of None. `strength` is how much
    better the best one is (0 to 1) where the rater was asked. `order_shown` lists response indices in
    the order in which the rater saw them; labels never depend on it.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    ranking: tuple[int | None, ...]
    strength: float | None = None
    rater: str | None = None
    order_shown: tuple[int, ...] | None = None
    seconds: float | None = None
    policy_version: str | None = None
    created_at: str | None = None
    explanation: str | None = None  # why, in the words of who knows: of gold questions; a principle
    weight: float | None = None  # how much it counts, where the row says so

    @property
    def places(self) -> list[int]:
        """The ranks, None as one behind the last: of two the lower is the better; equal ones tie or have no order."""
        return places(self.ranking)


def places(ranking: Sequence[int | None]) -> list[int]:
    """`Comparison.places`."""
    last = 1 + max((rank for rank in ranking if rank is not None), default=0)
    return [last if rank is None else rank for rank in ranking]


def without_gaps(ranking: Sequence[int | None]) -> list[int | None]:
    """The same order in the ranks 1, 2, …: 1, 3, 3 says the same as 1, 2, 2. None stays None."""
    levels = sorted({rank for rank in ranking if rank is not None})
    return [None if rank is None else levels.index(rank) + 1 for rank in ranking]


@dataclass(frozen=True, slots=True)
class LabelledResponse:
    """One response, and whether it was liked: a thumb, or a rule that was kept or not."""

    prompt: Prompt
    response: str
    desirable: bool
    rater: str | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """One response, and what one rater said of it: ratings by axis, and 1 or 0 for a rule that it keeps or breaks."""

    prompt: Prompt
    response: str
    values: Mapping[str, float] = field(hash=False)
    rater: str | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: π = softmax(logits / temperature) after the top-k, then the top-p mask.

    The same transformation must be applied wherever the log-probs of those tokens are taken again.
    `temperature=0` is greedy decoding. `top_k=0` and `top_p=1` switch the masks off. ValueError for what is no
    distribution.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < float("inf") and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise ValueError(
                f"{self}: temperature and top_k are at least 0, top_p above 0 and at most 1"
            )


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine returns: the sampled ids (stop token included) and their log-probs under `Sampling`."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: StopReason


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of an episode that one party wrote, one after another.

    Of the policy's: log-probs under the distribution they were drawn from, the version of the weights, how the
    turn stopped, and the reward that was given for this turn, which falls on its last token.
    """

    tokens: tuple[int, ...]
    author: Literal["policy", "environment"]
    logprobs: tuple[float, ...] = ()
    policy_version: int = 0
    stop_reason: StopReason | None = None
    reward: float = 0.0


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of tokens of an episode. The first `context` segments are another branch's, from which it left.

    `continued`: the conversation went on in another branch, since the template wrote these turns anew there.
    """

    messages: tuple[Message, ...]
    segments: tuple[Segment, ...]
    context: int = 0
    continued: bool = False


@dataclass(frozen=True, slots=True)
class Episode:
    """A conversation of the policy with an environment, with its tokens. One turn is the simplest.

    `branches[0]` is the conversation, or its end where the template made several branches of it; the others are
    forks. `reward` was given at the end, beside those of the turns; `parts` are the sums of all rewards by name.
    `counts` are what the environment counts besides, `tools` the schemas of those that it offered. `shown` is what
    raters and rewards see in place of the last turn, where the environment says so.
    *terminated*: the environment ended it; *truncated*: a limit did, so that its future is unknown and not worth 0.
    """

    prompt: Prompt
    branches: tuple[Branch, ...]
    ended: Literal["terminated", "truncated"]
    cause: Literal["turns", "tokens", "time"] | None = None
    reward: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    shown: str | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation."""
        return self.branches[0].messages

    @property
    def turns(self) -> tuple[Segment, ...]:
        """What the policy wrote, in all branches, each once."""
        own = (s for b in self.branches for s in b.segments[b.context :])
        return tuple(s for s in own if s.author == "policy")

    @property
    def score(self) -> float:
        """The sum of all rewards."""
        return self.reward + sum(turn.reward for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the policy in a `Sample`: tokens `start` to `stop` − 1, and the reward at the last of them."""

    start: int
    stop: int
    reward: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """How an episode looks to a learner: one token sequence and who wrote it. Several turns: a mask with several runs.

    tokens `[T]` ids; mask `[T]` True where the policy wrote the token; logprobs `[T]` from the engine
    at the sampling temperature, 0 where mask is False. `reward` is given at the end, `steps` have those of single
    turns. stop_reason "length": it was truncated, the last response or the episode. The branches of an
    episode are several samples with its number. `extra` is what rewards logged of the response, as JSON has it.
    """

    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    logprobs: tuple[float, ...]
    reward: float = 0.0
    group: int | None = None  # samples with the same number belong together; None: with nobody
    policy_version: int = 0
    stop_reason: StopReason = "stop"
    steps: tuple[Step, ...] = ()
    episode: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


class Engine(Protocol):
    """Prompts to completions. Requests in flight at the same time are batched together."""

    @property
    def window(self) -> int:
        """So many tokens, prompt and completion together, it can take."""
        ...

    async def generate(
        self,
        tokens: Sequence[int],
        *,
        n: int,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[int],
        seed: int,
        first: int = 0,
        keep: bool = False,
    ) -> list[Completion]:
        """`n` completions of the prompt `tokens`; the same seed gives the same tokens, whoever else is in the batch.

        They are the completions `first`, `first + 1`, … of this seed: what is number 3 among four is so alone, too.
        `keep`: the caller will go on from prompt and completion, so that keys and values are worth keeping.
        """
        ...

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Take new weights; later requests sample from them, and what was kept of earlier ones is forgotten."""
        ...


class Stateful(Protocol):
    """Something that a run changes: what `state_dict` tells, `load_state_dict` brings back, bit for bit.

    Told in tensors, numbers, strings, None, and dicts, lists and tuples of them. What follows from the
    config, the data and the step alone (schedules, orders, seeds) is no state.
    """

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class Learner(Stateful, Protocol):
    """Owns a model and its optimiser; divides once by the global count, so that micro-batches change nothing."""

    def step(self, loss_fn: Callable, batch: Batch) -> Metrics: ...

    def outputs(self, batch: Batch) -> Outputs: ...

    def weights(self) -> Mapping[str, Tensor]: ...


def _unheard(name: str, value: Any) -> None:
    """Where nobody listens to what a reward logs."""


@dataclass(frozen=True, slots=True)
class Group:
    """All responses to one prompt, as a reward sees them.

    `ended[k]` is False where response k was truncated by the length limit: it must not be scored as if it had ended
    there. `facts` are the other columns of the prompt's row, not to be changed. `tokens[k]` are the ids that were
    sampled, None where they are not known. `conversations[k]` is what stood before response k, where that is more than
    the prompt: an episode. `prefilled` is what the prompt has written of the response already: a
    template's `<think>`. `progress` counts training: rounds done, of how many, and passes over the prompts.
    `log_metric(name, number)` and `log_extra(column, values)` keep what a reward says beside its scores.
    """

    prompt: Prompt
    responses: Sequence[str]
    ended: Sequence[bool]
    facts: Facts
    tokens: Sequence[Sequence[int]] | None = None
    conversations: Sequence[Prompt] | None = None
    prefilled: str = ""
    progress: tuple[int, int, float] = (0, 0, 0.0)
    log_metric: Callable[[str, float], None] = _unheard
    log_extra: Callable[[str, Sequence[Any]], None] = _unheard


class Reward(Protocol):
    """Scores all responses to one prompt at once, so that comparisons and judges fit; see `rewards.functions`.

    None of a response: the reward abstains, this response is none of its affair.
    """

    async def __call__(self, group: Group, /) -> Sequence[float | None]: ...


class Rater(Protocol):
    """Somebody who compares responses: a person, a simulation, a judge model; one over the network is awaited."""

    def judge(
        self, prompt: Prompt, responses: Sequence[str]
    ) -> Comparison | Awaitable[Comparison]: ...


# A scorer of single responses: the gold score of a world, a classifier, a rule.
Scorer = Callable[[Prompt, str], float]
