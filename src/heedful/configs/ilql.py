"""What `heedful train ilql` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import ByEpochs, Reading, refuse_nonsense
from heedful.fields import AT_LEAST_0, DATA, HIDDEN, SHARE, Data, Range, alias

__all__ = ["Config", "FromEpisodes", "refuse_nonsense"]


@dataclass(frozen=True, kw_only=True)
class FromEpisodes(Reading, ByEpochs):
    """What training on logged episodes takes besides."""

    model: Annotated[str, alias("--model-name-or-path")]
    """The language model to start from."""
    data: Annotated[Data, DATA]
    """Logged episodes: transcripts with messages and rewards, of any quality."""
    batch_size: int = 16
    """Episodes in an optimiser step."""
    max_length: Annotated[int | None, alias("--max-seq-length"), Range(2)] = None
    """Longest episode in tokens; of longer ones --on-bad-row decides. Default: the model's context."""


@dataclass(frozen=True, kw_only=True)
class Config(FromEpisodes):
    """Learn from logged episodes what each token is worth, and a policy that is steered by it (ILQL)."""

    beta: Annotated[float, AT_LEAST_0] = 4.0
    """β of decoding: logits + β(Q − V). Nothing learned depends on it; --value-weight of `sample` sets another."""
    expectile: Annotated[float, Range(0, 1, above=True, below=True)] = 0.7
    """V is this expectile of Q over what was logged: ½ is the mean, near 1 the best that was tried."""
    gamma: Annotated[float, SHARE] = 0.99
    """Discount of a token of the policy's."""
    polyak: Annotated[float, Range(0, 1, above=True)] = 0.005
    """Share of the way to the Qs that the target Qs move in a step."""
    bc_weight: Annotated[float, AT_LEAST_0] = 1.0
    """Weight of the likelihood of what was logged (behaviour cloning), which the policy's logits come from."""
    q_weight: Annotated[float, AT_LEAST_0] = 1.0
    """Weight of the loss of both Qs."""
    v_weight: Annotated[float, AT_LEAST_0] = 1.0
    """Weight of the loss of V."""
    cql_weight: Annotated[float, AT_LEAST_0] = 1e-4
    """Weight of the conservative term, which holds down the Qs of tokens that nobody wrote."""
    learning_rate: float = 1e-5
    command: Annotated[str, HIDDEN] = "train ilql"
