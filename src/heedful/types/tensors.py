"""The nouns that are made of tensors: batches, what models give for them, and what losses read.

Shapes: B sequences in a batch, T predicted positions. Column t of a mask or log-prob is about *predicting* token
t+1: `tokens` is `[B, T+1]`, everything else `[B, T]`. `data.collate` makes the shift, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Outputs(dict[str, "Tensor"]):
    """What a model's pass over a batch gives, by name: logp and kl `[B, T]`, value `[B, T+1]`, score `[B]`.

    kl is that of the next token to the reference's, value the critic's after every token, score a sequence's reward.
    """

    def __getattr__(self, name: str) -> Tensor:
        if name not in self:
            raise AttributeError(f"this pass gives {', '.join(self)}, not {name}")
        return self[name]


@dataclass(frozen=True, slots=True)
class PairLogps:
    """Response log-probs of B pairs under the policy and the reference: sums over tokens, all `[B]`."""

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor


@dataclass(frozen=True, slots=True)
class LabelledLogps:
    """Log-probs of B single responses, sums over tokens, all `[B]`; desirable is True where a response was liked."""

    logp: Tensor
    ref_logp: Tensor
    lengths: Tensor
    desirable: Tensor


@dataclass(frozen=True, slots=True)
class RankedLogps:
    """Log-probs of K responses to each of G prompts, sums over tokens; rank 1 = best, 0 = not there. All `[G, K]`."""

    logp: Tensor
    ref_logp: Tensor
    lengths: Tensor
    rank: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded sequences: tokens `[B, T+1]`, mask and old_logp `[B, T]`, group, reward, truncated and lengths
    `[B]`.

    Rows of one group (the pair of a comparison, the samples of a prompt) are neighbours. `lengths`
    counts real tokens; `truncated`: a limit stopped the response or the episode. `reward` is given at the end,
    `step_rewards` `[B, T]` at the last tokens of single turns; rows with the same `episode` `[B]` are its branches.
    """

    tokens: Tensor
    mask: Tensor
    lengths: Tensor
    old_logp: Tensor
    group: Tensor
    reward: Tensor
    truncated: Tensor
    step_rewards: Tensor
    episode: Tensor


@dataclass(frozen=True, slots=True)
class Packed(Batch):
    """Rows that hold several documents: position_ids `[B, T+1]` start again at 0 in each of them."""

    position_ids: Tensor


@dataclass(frozen=True, slots=True)
class Paired(Batch):
    """Pairs as rows 2i (chosen) and 2i+1 (rejected): adds the reference's sum of log-probs, `p` and how much the pair
    counts, all `[B]`."""

    ref_sum: Tensor
    p: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Ranked(Batch):
    """The responses of a comparison as one group of rows: adds rank (1 = best), strength (0 to 1) and how much the
    comparison counts, all `[B]`."""

    rank: Tensor
    strength: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class RankedOfUsers(Ranked):
    """Comparisons of several users; a group is a user. `comparison` numbers them in the batch, `context` is True where
    one only tells who the user is and False where it is to be predicted; `seed` is that of the user's noise. All
    `[B]`."""

    comparison: Tensor
    context: Tensor
    seed: Tensor


@dataclass(frozen=True, slots=True)
class Bootstrapped(Ranked):
    """Adds draw `[B, K, 1]`: how much the comparison counts for each of K heads."""

    draw: Tensor


@dataclass(frozen=True, slots=True)
class Attributed(Batch):
    """Single responses with what was said of them, every row a group of its own: target `[B, K, 2]`, of each head the
    value and whether it was said; weight `[B]`, how much the row counts."""

    target: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class RankedWithReference(Ranked):
    """Adds the reference's sum of log-probs `[B]`."""

    ref_sum: Tensor


@dataclass(frozen=True, slots=True)
class Labelled(Batch):
    """Single responses with a label; every row is a group of its own. All `[B]`.

    ref_sum: the reference's sum of log-probs; desirable: liked or not; weight: how much it counts. What follows is
    said of the whole batch and stays true in its parts: kl and delta (what KTO and BCO compare with, the same in
    every row, 0 until known) and share, the part of the batch that has the row's label.
    """

    ref_sum: Tensor
    desirable: Tensor
    weight: Tensor
    kl: Tensor
    delta: Tensor
    share: Tensor


@dataclass(frozen=True, slots=True)
class Scored(Batch):
    """A batch that a policy-gradient loss can read: adds ref_logp and adv `[B, T]`.

    weight `[B, T]` says how much each token counts in the minibatch's mean: 1 everywhere is the mean over tokens.
    """

    ref_logp: Tensor
    adv: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class ScoredWithValues(Scored):
    """Adds what a critic is trained on: values and returns `[B, T]`."""

    values: Tensor
    returns: Tensor


@dataclass(frozen=True, slots=True)
class Wanted(Batch):
    """A batch whose tokens' values are to become `target` `[B, T]`."""

    target: Tensor


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What an advantage reads: rewards, values and mask `[B, T]`, bootstrap, group and episode `[B]`.

    rewards hold the score at each response's last token, what was given for single turns and, with KL in the reward,
    its price at every token; values are 0 where no critic was asked for.
    """

    rewards: Tensor
    values: Tensor
    mask: Tensor
    bootstrap: Tensor
    group: Tensor
    episode: Tensor
