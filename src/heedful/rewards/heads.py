"""One reward of several outputs of one model: named attributes, an ensemble on one trunk, or a distribution of worth.

`attributes`    a head for each axis of ratings (its output: standardised ratings) and each rule (the log-odds that it
                is kept): Σ weight · (value − mean)/std, each normalised over what it was fitted on, as rule and
                preference rewards are in Sparrow (Glaese et al. 2022, §2.4) before they are added
`ensemble`      K heads, each fitted to a bootstrap of its own: their mean less k of their standard deviations
`mean_variance` a mean and a log-deviation: the mean less k deviations (Siththaranjan et al. 2024)
`categorical`   the logits of grades 0, 1, … of a response: the mean grade less k deviations

What a model is stands in its config.json under `heedful_heads`; plain transformers loads it as a classifier with as
many labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.errors import UserError, did_you_mean
from heedful.losses.reward import log_preferred
from heedful.models.forward import HEADS
from heedful.models.scores import sequence_scores
from heedful.types import Batch, Outputs

LEAST_STD = 1e-6  # a head that says the same of everything


@dataclass(frozen=True)
class Attributes:
    """Heads by name. `rules[k]` says that head k is of a rule; `label_mean` and `label_std` turn an output into a
    rating on the raters' own scale; `mean` and `std` are those of the predictions on the training part."""

    names: tuple[str, ...]
    rules: tuple[bool, ...]
    label_mean: tuple[float, ...]
    label_std: tuple[float, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    form: Literal["attributes"] = "attributes"

    @property
    def outputs(self) -> int:
        return len(self.names)

    def values(self, logits: Tensor) -> Tensor:
        """`[B, K]` → `[B, K]`: ratings on their scales, and the chance that a rule is kept."""
        ratings = logits * logits.new_tensor(self.label_std) + logits.new_tensor(self.label_mean)
        return torch.where(torch.tensor(self.rules), logits.sigmoid(), ratings)

    def reward(self, logits: Tensor) -> Tensor:
        """`[B, K]` → `[B]`."""
        scaled = (self.values(logits) - logits.new_tensor(self.mean)) / logits.new_tensor(self.std)
        return scaled @ logits.new_tensor(self.weights)

    def columns(self, logits: Tensor) -> dict[str, list[float]]:
        """What stands beside the reward of each response."""
        return dict(zip(self.names, self.values(logits).T.tolist(), strict=True))

    def fitted(self, logits: Tensor) -> Attributes:
        """With the mean and the deviation of what it says of some responses."""
        values = self.values(logits)
        std = values.std(0, correction=0).clamp(min=LEAST_STD)
        return replace(self, mean=tuple(values.mean(0).tolist()), std=tuple(std.tolist()))

    def given(self, where: str, options: Mapping[str, float]) -> Attributes:
        """With other weights: of those named, 0 of all others."""
        if unknown := next((n for n in options if n not in self.names), None):
            raise UserError(
                f"{where}: there is no head '{unknown}'{did_you_mean(unknown, self.names)}; there are "
                f"{', '.join(self.names)}"
            )
        return (
            replace(self, weights=tuple(options.get(n, 0.0) for n in self.names))
            if options
            else self
        )


@dataclass(frozen=True)
class Cautious:
    """A reward that is less where it is not sure: (centre − shift)/scale − k·(spread/scale). `shift` and `scale` are
    mean and standard deviation of the centre on the training part."""

    form: Literal["ensemble", "mean_variance", "categorical"]
    outputs: int
    k: float = 0.0
    shift: float = 0.0
    scale: float = 1.0

    def parts(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and spread, both `[B]`: mean and population deviation of the heads or of the grades, or
        the two outputs."""
        if self.form == "categorical":
            grade = torch.arange(self.outputs, dtype=logits.dtype, device=logits.device)
            chance = logits.softmax(1)
            mean = chance @ grade
            return mean, (chance * (grade - mean[:, None]) ** 2).sum(1).sqrt()
        if self.form == "ensemble":
            return logits.mean(1), logits.std(1, correction=0)
        return logits[:, 0], logits[:, 1].exp()

    def preferred(self, first: Tensor, second: Tensor) -> Tensor:
        """P(the first is preferred to the second), `[B, K]` each → `[B]`, as the loss has it; an ensemble says the mean
        of what its heads say."""
        if self.form == "ensemble":
            return (first - second).sigmoid().mean(1)
        if self.form == "categorical":
            return log_preferred(first, second).exp()
        (mean, std), (other, others) = self.parts(first), self.parts(second)
        return torch.special.ndtr((mean - other) / (std**2 + others**2).sqrt())

    def reward(self, logits: Tensor) -> Tensor:
        """`[B, K]` → `[B]`."""
        centre, spread = self.parts(logits)
        return (centre - self.shift - self.k * spread) / self.scale

    def columns(self, logits: Tensor) -> dict[str, list[float]]:
        """What stands beside the reward of each response."""
        return {"uncertainty": (self.parts(logits)[1] / self.scale).tolist()}

    def fitted(self, logits: Tensor) -> Cautious:
        """With mean and deviation of what it says of some responses."""
        centre, _ = self.parts(logits)
        scale = max(float(centre.std(correction=0)), LEAST_STD)
        return replace(self, shift=float(centre.mean()), scale=scale)

    def given(self, where: str, options: Mapping[str, float]) -> Cautious:
        """With another k."""
        if unknown := next((n for n in options if n != "k"), None):
            raise UserError(f"{where}: this reward model has the option k, not {unknown}")
        return replace(self, **options)  # type: ignore[arg-type]


Heads = Attributes | Cautious


def heads_of(model: PreTrainedModel) -> Heads | None:
    """What a model's outputs are, by its config; None where there is a single one."""
    told = getattr(model.config, HEADS, None)
    if told is None:
        return None
    try:
        told = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
        if told["form"] == "attributes":
            told.pop("outputs")
            return Attributes(**told)
        return Cautious(**told)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{model.name_or_path}: {HEADS} in its config.json is none of heedful's"
        ) from error


def record(model: PreTrainedModel, heads: Heads) -> None:
    """Write into a model's config what its outputs are."""
    setattr(model.config, HEADS, {**asdict(heads), "outputs": heads.outputs})
    if isinstance(heads, Attributes):
        model.config.id2label = dict(enumerate(heads.names))
        model.config.label2id = {name: k for k, name in enumerate(heads.names)}


def heads_forward(model: PreTrainedModel, batch: Batch) -> Outputs:
    """`learner.Forward` of a model with several outputs, or one that has a name, `[B]` each, under their numbers."""
    scores = sequence_scores(model, batch.tokens, batch.lengths).view(len(batch.lengths), -1)
    return Outputs((str(k), column) for k, column in enumerate(scores.unbind(1)))


def logits_of(out: Outputs) -> Tensor:
    """`[B, K]` of the outputs of `heads_forward`."""
    return torch.stack([out[str(k)] for k in range(len(out))], 1)


def standardised(values: Sequence[float]) -> tuple[float, float]:
    """Mean and population standard deviation, 1 of numbers that are all the same."""
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
    return mean, std if std > LEAST_STD else 1.0
