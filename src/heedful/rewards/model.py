"""A reward model as a reward. It reads text with its *own* tokenizer, so it may be any family's model."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data.collate import collate
from heedful.data.sources import read_comparisons
from heedful.data.tokens import encode_example, encode_group, encode_prompt, excerpt, no_room
from heedful.learner.local import predict
from heedful.models.forward import scalar_head
from heedful.models.limits import context_length
from heedful.models.load import load_reward_model, load_tokenizer
from heedful.models.personal import fold_user, load_personal_heads
from heedful.models.scores import sequence_scores
from heedful.models.sharded import is_sharded
from heedful.ranks import ALONE
from heedful.rewards.heads import heads_forward, heads_of, logits_of
from heedful.rewards.personal import known_by
from heedful.types import Batch, Group, Outputs, Prompt, Sample

AT_ONCE = (
    1024  # responses, behind which others have a turn: a bar that moves, an answer of a server
)
log = logging.getLogger("heedful")
# In config.json: a reward is (score − shift) / scale, the score being what the weights, and so plain transformers, say.
SHIFT, SCALE = "heedful_reward_shift", "heedful_reward_scale"
FITTED_ON = "heedful_reward_responses"  # how many responses it was fitted on


def score_forward(model: PreTrainedModel, batch: Batch) -> Outputs:
    """`learner.Forward` of a reward model: scores `[B]`."""
    return Outputs(score=sequence_scores(model, batch.tokens, batch.lengths))


def fold_scale(model: PreTrainedModel) -> PreTrainedModel:
    """Divide the scalar head, and the shift, by the recorded scale, in place: a reward is then score − shift."""
    head, scale = scalar_head(model), float(getattr(model.config, SCALE, 1.0))
    with torch.no_grad():
        head.weight.div_(scale)
        if head.bias is not None:
            head.bias.div_(scale)
    setattr(model.config, SHIFT, float(getattr(model.config, SHIFT, 0.0)) / scale)
    setattr(model.config, SCALE, 1.0)
    return model


def fold_shift(model: PreTrainedModel) -> PreTrainedModel:
    """Move scale and shift into the scalar head and its bias, in place: the head alone then gives rewards.

    For a critic, which is read at every token by its head and trained: the bias learns with it.
    """
    head, shift = scalar_head(model), float(getattr(fold_scale(model).config, SHIFT, 0.0))
    if head.bias is None:
        head.bias = torch.nn.Parameter(head.weight.new_zeros(1))
    with torch.no_grad():
        head.bias.sub_(shift)
    setattr(model.config, SHIFT, 0.0)
    return model


class ModelReward:
    """`types.Reward`. Calls in flight at the same time are scored in batches of about `AT_ONCE` responses."""

    in_batches = True  # asked when all responses of a round are there, see `parts.Parts.early`

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        micro_batch_tokens: int = 16384,
    ):
        self.heads = heads_of(model)
        if self.heads is None and SCALE in vars(model.config):
            fold_scale(model)
        self.model, self.tokenizer = model, tokenizer
        self.micro_batch_tokens = micro_batch_tokens
        self.shift = float(getattr(model.config, SHIFT, 0.0))
        self.ranks = ALONE  # who must all ask at the same time, where the model is shared out
        self.fitted_on = int(getattr(model.config, FITTED_ON, 0))
        self.cut = 0  # responses that were longer than what it reads
        self._waiting: list[tuple[list[Sample], asyncio.Future]] = []

    @property
    def in_step(self) -> bool:
        """Whether all ranks must ask for the same groups in the same order, each of which has a part of the model."""
        return is_sharded(self.model)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        micro_batch_tokens: int = 16384,
        user: Path | None = None,
    ) -> ModelReward:
        """From a folder or hub name; refuses one whose head is missing. `user`: a file of comparisons by one
        person, whose reward it is to be."""
        model, tokenizer = (
            load_reward_model(name, several=True, dtype=dtype, device=device),
            load_tokenizer(name),
        )
        if user is not None:
            load_personal_heads(model, name)
            answers = read_comparisons(str(user))
            fold_user(model, known_by(model, tokenizer, answers).mean[0])
        return cls(model, tokenizer, micro_batch_tokens=micro_batch_tokens)

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """Rewards of sequences in this model's own tokens."""
        return self.judged(samples)[0]

    def judged(self, samples: Sequence[Sample]) -> tuple[list[float], dict[str, list[float]]]:
        """Rewards, and what each of several heads says (`Heads.columns`)."""
        batch, most = collate(samples), self.micro_batch_tokens
        if self.heads is None:
            scores = predict(self.model, score_forward, batch, most, self.ranks).score
            return (scores - self.shift).tolist(), {}
        out = predict(self.model, heads_forward, batch, most, self.ranks)
        logits = logits_of(out)
        return self.heads.reward(logits).tolist(), self.heads.columns(logits)

    @cached_property
    def context(self) -> int:
        """The most tokens that it reads."""
        return context_length(self.model)

    def room(self, prompt: Prompt, max_tokens: int) -> str | None:
        """Why a response of so many tokens to the prompt would not be read in whole; None where it would."""
        length = len(encode_prompt(self.tokenizer, prompt))
        return no_room(prompt, length, max_tokens, self.context, " of the reward model")

    async def __call__(self, group: Group) -> list[float]:
        samples = self._encoded(group)
        whole = group.ended or [True] * len(samples)
        if cut := sum(
            s.stop_reason == "length" and end for s, end in zip(samples, whole, strict=True)
        ):
            self._tell(group.prompt, cut)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((samples, done))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._flush)
        scores, columns = await done
        for name, values in columns.items():
            group.log_extra(name, values)
        return scores

    def _encoded(self, group: Group) -> list[Sample]:
        """The responses behind the prompt, or each behind the conversation that it ends."""
        if group.conversations is None:
            return encode_group(
                self.tokenizer, group.prompt, group.responses, ended=group.ended, max_length=self.context
            )  # fmt: skip
        ended = group.ended or [True] * len(group.responses)
        rows = zip(group.conversations, group.responses, ended, strict=True)
        return [
            encode_example(self.tokenizer, before, text, ended=end, max_length=self.context)
            for before, text, end in rows
        ]

    def _tell(self, prompt: Prompt, cut: int) -> None:
        """Say that the ends of responses are not read: the first time, and whenever there are twice as many."""
        before, self.cut = self.cut, self.cut + cut
        if before.bit_length() < self.cut.bit_length():
            log.warning(
                "the reward model reads %d tokens: of %d response(s) so far it does not see the end, such as one to %r",
                self.context,
                self.cut,
                excerpt(prompt),
            )

    def _flush(self) -> None:
        first = 1 + bisect_left([*accumulate(len(s) for s, _ in self._waiting)], AT_ONCE)
        waiting, self._waiting = self._waiting[:first], self._waiting[first:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        try:
            scores, columns = self.judged([s for samples, _ in waiting for s in samples])
        except Exception as error:
            for _, done in waiting:
                done.set_exception(error)
            return
        start = 0
        for samples, done in waiting:
            own = slice(start, start := start + len(samples))
            done.set_result((scores[own], {name: v[own] for name, v in columns.items()}))
