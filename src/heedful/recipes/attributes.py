"""Reward models with a head for each axis that people rate and each rule that they judge by.

One body, one linear head of K outputs at the last token of prompt + response: an axis is regressed on its standardised
ratings (Wang et al. 2023), a rule is the log-odds that it is kept (Glaese et al. 2022). As a reward each head is
normalised over what it was fitted on and weighted, see `rewards.heads`; the weights can be changed afterwards.
"""

from __future__ import annotations

import functools
import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heedful.configs.attributes import Config, refuse_nonsense, weights_of
from heedful.data.collate import collate
from heedful.data.files import write_json
from heedful.data.ratings import ratings_of, stream_ratings
from heedful.data.reading import named, read_table
from heedful.data.sources import is_held_out
from heedful.doctor import preflight
from heedful.errors import UserError
from heedful.evals import calibration
from heedful.learner import load_learner
from heedful.learner.local import Loss
from heedful.losses.attributes import attributes
from heedful.models.limits import context_length
from heedful.models.load import load_tokenizer, new_reward_model
from heedful.ranks import ALONE, Ranks
from heedful.rewards.heads import Attributes, heads_forward, logits_of, record, standardised
from heedful.rewards.model import FITTED_ON
from heedful.training.kept import Judgment
from heedful.training.rows import parts_of, read
from heedful.training.supervised import begun, epochs, evaluated, fit, optim, step_count
from heedful.training.trainable import prepare
from heedful.training.trust import ALIKE, Raters, Trust
from heedful.types import Batch, Metrics, Outputs, Rated, Sample
from heedful.types.tensors import Attributed

MEASURED = 512  # responses by which heads get mean 0 and std 1 in the reward
log = logging.getLogger("heedful")


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder, which then holds a sequence-classification model with a label a head."""
    refuse_nonsense(config)
    raters = Raters(config.weights, reads_comparisons=False)
    config = begun(config, "scores", ranks)
    reader = functools.partial(stream_ratings, axes=tuple(weights_of(config)))
    data = read(config, reader)
    heads = survey(config)
    tokenizer = load_tokenizer(config.model)
    model = new_reward_model(
        config.model,
        seed=config.seed,
        outputs=heads.outputs,
        dtype=config.dtype,
        device=config.device,
        nf4=config.lora.nf4,
    )
    record(model, heads)
    prepare(model, config)
    limit = min(config.max_length or 1 << 30, context_length(model))

    def said(item: Rated, samples: list[Sample]) -> list[Judgment]:
        values = tuple(item.values.get(name, float("nan")) for name in heads.names)
        return [Judgment(tuple(samples), values)] if set(item.values) & set(heads.names) else []

    rows = parts_of(config, data, reader, tokenizer, limit, said, raters)
    trust = raters.settled(config.out, ranks)
    preflight(tokenizer, model, rows.some, max_length=limit)
    steps = step_count(config, len(rows.train))
    learner = load_learner(
        model,
        heads_forward,
        optim(config, steps),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )

    def loss_fn(out: Outputs, batch: Batch) -> Loss:
        assert isinstance(batch, Attributed)
        rules = torch.tensor(heads.rules, device=batch.target.device)
        return Loss(batch.weight * attributes(logits_of(out), batch.target, rules))

    def evaluate() -> Metrics:
        logits, targets, losses = [], [], []
        for part in evaluated(rows.held):
            batch = rated_batch(part, heads, trust)
            out = learner.outputs(batch)
            logits.append(logits_of(out))
            targets.append(batch.target)
            losses.append(loss_fn(out, batch).value)
        measured = of_heads(heads, torch.cat(logits), torch.cat(targets))
        result = {"loss": float(torch.cat(losses).mean()), "heads": measured}
        ranks.on_first(write_json, config.out / "evaluation.json", result)
        shown = {f"eval/{name}": told["accuracy" if "accuracy" in told else "correlation"]
                 for name, told in measured.items()}  # fmt: skip
        return {"eval/loss": result["loss"]} | {k: v for k, v in shown.items() if v is not None}

    def record_scale() -> None:
        logits = logits_of(learner.outputs(rated_batch(rows.train[:MEASURED], heads)))
        record(model, heads.fitted(logits))
        setattr(model.config, FITTED_ON, rows.train.samples)

    def stream(start: int) -> Iterator[Batch]:
        for batch in epochs(config, len(rows.train), steps, start):
            yield rated_batch([rows.train[i] for i in batch], heads, trust)

    return fit(
        config,
        learner,
        stream,
        loss_fn,
        tokenizer,
        steps=steps,
        per="group",
        evaluate=evaluate,
        show=("loss", "eval/loss"),
        before_save=record_scale,
        notes=[*rows.notes, *trust.notes],
        beside=trust.files,
    )


def survey(config: Config) -> Attributes:
    """The heads that the training part of the data has something to say of, in one look at all of it."""
    wanted, names = weights_of(config), tuple(weights_of(config))
    found: dict[str, array[float]] = {}
    for where, row in read_table(config.data, config.columns, broken=True):
        with suppress(UserError):  # whoever reads it for training says what is wrong
            for item in ratings_of(where, row, names):
                if config.eval_data is None and is_held_out(item.prompt, config.held_out):
                    continue
                for axis, value in item.values.items():
                    found.setdefault(axis, array("d")).append(value)
    if missing := [name for name in names if name not in found]:
        raise UserError(
            f"--axes {missing[0]}: nobody has said anything of it in {named(config.data)}"
        )
    constant = {name for name, values in found.items() if len(set(values)) == 1}
    if constant:
        log.warning("of %s always the same is said: no head learns it", ", ".join(sorted(constant)))
    order = [name for name in names or sorted(found) if name not in constant]
    if not order:
        raise UserError(f"{named(config.data)}: nothing is said of any axis or rule that differs")
    rules = tuple(set(found[name]) <= {0.0, 1.0} for name in order)
    scales = [
        (0.0, 1.0) if rule else standardised(found[name])
        for name, rule in zip(order, rules, strict=True)
    ]
    mean, std = zip(*scales, strict=True)
    weights = tuple(wanted.get(name, 1.0) for name in order)
    return Attributes(tuple(order), rules, mean, std, weights=weights)


def rated_batch(items: Sequence[Judgment], heads: Attributes, trust: Trust = ALIKE) -> Attributed:
    """Rated responses as one batch."""
    base = collate([replace(item.samples[0], group=g) for g, item in enumerate(items)])
    values = torch.tensor([item.labels for item in items], dtype=torch.float64)
    scaled = (values - torch.tensor(heads.label_mean)) / torch.tensor(heads.label_std)
    target = torch.stack([scaled.nan_to_num(0.0), (~values.isnan()).double()], 2).float()
    given: dict[str, Any] = {f.name: getattr(base, f.name) for f in fields(base)}
    return Attributed(**given, target=target, weight=trust(items))


def of_heads(heads: Attributes, logits: Tensor, target: Tensor) -> dict[str, Mapping[str, Any]]:
    """How well each head says what people said of held-out responses; nothing of one of whom nothing is held out."""
    values = heads.values(logits).double().numpy()
    told: dict[str, Mapping[str, Any]] = {}
    for k, (name, rule) in enumerate(zip(heads.names, heads.rules, strict=True)):
        said = target[:, k, 1] > 0
        if not said.any():
            continue
        right = target[said, k, 0].double().numpy() * heads.label_std[k] + heads.label_mean[k]
        told[name] = (_of_rule if rule else _of_axis)(values[said.numpy(), k], right)
    return told


def _of_axis(predicted: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """In the raters' own units; `rmse_mean` is what always saying their mean would reach."""
    varied = min(predicted.std(), right.std()) > 0
    return {
        "responses": len(right),
        "rmse": float(np.sqrt(np.mean((predicted - right) ** 2))),
        "rmse_mean": float(right.std()),
        "correlation": float(np.corrcoef(predicted, right)[0, 1]) if varied else None,
    }


def _of_rule(kept: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    both = 0 < right.mean() < 1
    return {
        "responses": len(right),
        "broken": float(1 - right.mean()),
        "accuracy": float(np.mean((kept >= 0.5) == (right >= 0.5))),
        "auroc": float(calibration.auroc(kept, right)) if both else None,
    }
