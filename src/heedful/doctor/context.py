"""What checks look at: the user's tokenizer, model and data, and what several checks make of them, made once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.data import templates
from heedful.data.collate import collate
from heedful.data.tokens import encode_example, encode_group, encode_prompt
from heedful.doctor.finding import NotApplicable
from heedful.doctor.material import Example, Material, spread
from heedful.engine import load_engine
from heedful.errors import UserError
from heedful.learner.local import predict
from heedful.models.limits import context_length
from heedful.rewards.model import ModelReward
from heedful.rollout import Task, response_text, rollout, tasks
from heedful.training.forwards import policy_forward
from heedful.training.rows import TooLong, sequences
from heedful.types import (
    Comparison,
    Demonstration,
    LabelledResponse,
    Message,
    Prompt,
    Sample,
    Sampling,
)

PROMPTS, SAMPLES = 4, 2  # drawn from in the checks of probabilities; responses to each
DRAWN = 32  # tokens of such a response at most
SCORED = 64  # examples whose responses the reward model scores
OWN_WORDS = (  # where there is no data
    ("What is the capital of Peru?", "Lima."),
    ("How many legs has a spider?", "Eight, and a cat has four."),
    ("Say thank you in a few languages.", "Merci, grazie, danke schön, спасибо, 谢谢!"),
    ("Why is the sky blue?", "Short waves of light are scattered more than long ones."),
)


@dataclass(frozen=True)
class Encoded:
    """A prompt with one response to it, as heedful trains on it."""

    prompt: Prompt
    response: str
    sample: Sample

    @property
    def written(self) -> list[int]:
        """The ids that the policy is trained to write."""
        return [t for t, m in zip(self.sample.tokens, self.sample.mask, strict=True) if m]


@dataclass(frozen=True, kw_only=True)
class Context:
    """The patient. `policy` or `rm` is None where there is none or where `refused` says why it would not load."""

    tokenizer: PreTrainedTokenizerBase
    policy: PreTrainedModel | None
    reference: PreTrainedModel | None = None
    rm: ModelReward | None = None
    material: Material = field(default_factory=Material)
    held_out: Material | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 48
    max_length: int | None = None
    learning_rate: float = 1e-6
    seed: int = 0
    most: int = 256  # examples that are turned into tokens
    refused: Mapping[str, str] = field(default_factory=dict)  # "model", "reference", …: why

    @property
    def model(self) -> PreTrainedModel:
        if self.policy is None:
            raise NotApplicable("the model does not load")
        return self.policy

    @property
    def reward(self) -> ModelReward:
        if self.rm is None:
            missing = "the reward model does not load"
            raise NotApplicable(missing if "reward model" in self.refused else "no --reward-model")
        return self.rm

    @property
    def comparisons(self) -> list[Comparison]:
        if not (found := self.material.comparisons):
            raise NotApplicable("no comparisons in DATA" if self.material.form else "no DATA")
        return found

    @property
    def data(self) -> list[Example]:
        """All examples of the user's own."""
        if not (found := self.material.examples):
            raise NotApplicable("no prompts in DATA" if self.material.form else "no DATA")
        return found

    @property
    def answered(self) -> list[Example]:
        """Those with responses."""
        if not (found := [e for e in self.data if e.responses]):
            raise NotApplicable("no responses in DATA")
        return found

    @property
    def template(self) -> str:
        if not self.tokenizer.chat_template:
            raise NotApplicable("the tokenizer has no chat template")
        return str(self.tokenizer.chat_template)

    @property
    def roles(self) -> list[tuple[str, ...]]:
        """Who speaks, in each conversation of the data."""
        chats = (e.prompt for e in self.material.examples if not isinstance(e.prompt, str))
        return [tuple(m.role for m in chat) for chat in chats]

    @property
    def limit(self) -> int:
        """The longest sequence that is trained on, in tokens."""
        return min(self.max_length or 1 << 30, context_length(self.model))

    @cached_property
    def examples(self) -> list[Example]:
        """Some of the user's, or ours, as the user would put them."""
        if own := spread(self.material.examples, self.most):
            return own
        chat = bool(self.tokenizer.chat_template)
        return [Example((Message("user", p),) if chat else p, (r,)) for p, r in OWN_WORDS]

    @cached_property
    def encoded(self) -> list[Encoded]:
        """Every response among the examples; what cannot be encoded at all is left to other checks."""
        self._need_eos()
        found = []
        for example in self.examples:
            for response in example.responses or ("Yes, of course.",):
                try:
                    sample = encode_example(self.tokenizer, example.prompt, response)
                except UserError:
                    continue
                found.append(Encoded(example.prompt, response, sample))
        if not found:
            raise NotApplicable("no prompt could be encoded")
        return found

    @cached_property
    def too_long(self) -> list[str]:
        """Every row of the user's own that training would stop at because of its length, and why."""
        make = sequences(self.tokenizer, self.limit)
        reasons = []
        for item, place in zip_longest(self.material.items, self.material.places, fillvalue=""):
            if isinstance(item, Comparison | Demonstration | LabelledResponse):
                try:
                    make(item)
                except TooLong as error:
                    reasons.append(f"{place}: {error}" if place else str(error))
                except UserError:  # other checks tell
                    continue
        return reasons

    def without_room(self, reason: Callable[[Prompt], str | None]) -> tuple[list[str], int]:
        """(why, and of how many): the prompts of which `reason` says that they leave no room, their lines in front."""
        places = self.material.places if self.material.examples else ()
        examples = self.material.examples or self.examples
        reasons, total = [], 0
        for example, place in zip_longest(examples, places, fillvalue=""):
            try:
                said = reason(example.prompt)  # type: ignore[union-attr]
            except UserError:  # other checks tell
                continue
            total += 1
            if said:
                reasons.append(f"{place}: {said}" if place else said)
        return reasons, total

    @cached_property
    def trainable(self) -> list[Encoded]:
        """A few of `encoded` that the model can take: within its context, and no id outside its embedding."""
        rows = self.model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
        if max(max(e.sample.tokens) for e in self.encoded) >= rows:
            raise NotApplicable("the tokenizer has ids outside the model's embedding")
        fit = [e for e in self.encoded if len(e.sample.tokens) <= self.limit]
        if not fit:
            raise NotApplicable("no example is within the model's context")
        return spread(fit, 2 * PROMPTS)

    @cached_property
    def todo(self) -> list[Task]:
        """A few prompts of mixed lengths that leave room for a response."""
        fit = {}
        for e in self.trainable:
            ids = encode_prompt(self.tokenizer, e.prompt)
            if len(ids) + self.drawn <= self.window:
                fit[tuple(ids)] = e.prompt
        if not fit:
            raise NotApplicable("no prompt leaves room for a response")
        by_length = [fit[ids] for ids in sorted(fit, key=len)]
        return tasks(self.tokenizer, spread(by_length, PROMPTS))

    @property
    def drawn(self) -> int:
        """Tokens of a sampled response."""
        return min(self.max_tokens, DRAWN, max(1, self.window // 4))

    @property
    def window(self) -> int:
        """Tokens of the model's context."""
        return context_length(self.model)

    @cached_property
    def samples(self) -> list[Sample]:
        """What the policy says to `todo` under the user's sampling, drawn in one batch."""
        return self.sampled(self.sampling, SAMPLES)

    def sampled(self, sampling: Sampling, n: int) -> list[Sample]:
        """`n` responses to each of `todo`, by the engine."""
        return asyncio.run(
            rollout(
                load_engine(self.model),
                self.todo,
                self.tokenizer,
                n=n,
                max_tokens=self.drawn,
                sampling=sampling,
                seed=self.seed,
            )
        )

    def logps(self, samples: Sequence[Sample], *, pad_id: int = 0, model=None) -> Tensor:
        """The learner's log-probs `[B, T]` under the user's sampling."""
        sampling = self.sampling
        batch = collate([replace(s, group=None) for s in samples], pad_id)
        return predict(model or self.model, policy_forward(sampling), batch, 1 << 14).logp

    @cached_property
    def rated(self) -> list[tuple[Example, list[Sample], list[float]]]:
        """Examples with their responses in the reward model's tokens, and the scores of these."""
        reward, limit = self.reward, context_length(self.reward.model)
        if any(e.responses for e in self.material.examples):
            examples = spread(self.answered, SCORED)
        else:
            said: dict[int, list[str]] = {}
            for sample in self.samples:
                said.setdefault(sample.group or 0, []).append(response_text(self.tokenizer, sample))
            examples = [Example(self.todo[g].prompt, tuple(t)) for g, t in said.items()]
        found, rows = [], reward.model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
        for example in examples:
            try:
                samples = encode_group(
                    reward.tokenizer, example.prompt, example.responses, max_length=limit
                )
            except UserError:  # told by the checks of formatting and of room
                continue
            if max(max(s.tokens) for s in samples) >= rows:
                raise NotApplicable("the reward tokenizer has ids outside its model's embedding")
            found.append((example, samples))
        if not found:
            raise NotApplicable("no example could be encoded for the reward model")
        scores = iter(reward.score([s for _, samples in found for s in samples]))
        return [(e, samples, [next(scores) for _ in samples]) for e, samples in found]

    def _need_eos(self) -> None:
        if self.tokenizer.eos_token_id is None:
            raise NotApplicable("the tokenizer has no eos token")


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    generate: bool = False,
) -> str:
    """The chat template's text; `UserError` with its own words where it refuses."""
    return templates.render(tokenizer, messages, tokenize=False, add_generation_prompt=generate)


def tolerance(model: PreTrainedModel) -> tuple[float, float]:
    """Differences of log-probs that are rounding, and those that are a mistake."""
    return (1e-4, 1e-2) if model.dtype == torch.float32 else (0.05, 0.5)
