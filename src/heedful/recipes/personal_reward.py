"""`heedful train reward --personal`: a reward model that is told by a user's answers what that user wants.

In a step each user's answers are parted: from some q(z) is made, and the others, which are *other* questions, are
predicted with a z drawn from it (Poddar et al. 2024; Garnelo et al. 2018 for the random size of the context). What is
lost on them, plus a price of KL(q ‖ N(0, 1)), trains body, scalar head and the heads of `models.personal` together.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from heedful.configs.reward_model import Config
from heedful.data.files import write_json
from heedful.doctor import preflight
from heedful.learner import load_learner
from heedful.learner.local import Loss
from heedful.losses.reward import accuracy
from heedful.models.forward import scalar_head
from heedful.models.limits import context_length
from heedful.models.load import load_tokenizer, new_reward_model
from heedful.models.personal import add_personal_heads, all_states, forward
from heedful.ranks import ALONE, Ranks
from heedful.recipes.personal_users import by_user, measured, parts_of, targets, usual_size
from heedful.rewards.model import FITTED_ON, SCALE, SHIFT
from heedful.training.rankings import MEASURED, likelihood, rank_batch, refuse_strengths
from heedful.training.rows import Parts
from heedful.training.supervised import begun, epochs, fit, optim, step_count
from heedful.training.trainable import prepare
from heedful.training.trust import ALIKE
from heedful.types import Batch, Metrics, Outputs
from heedful.types.tensors import RankedOfUsers

COLLAPSED = 0.02  # z that tells no more of its user than another's does is not used
log = logging.getLogger("heedful")


def run(config: Config, ranks: Ranks = ALONE) -> Path:
    """Returns the run's folder: a reward model that plain transformers loads, and beside it its personal heads."""
    config = begun(config, "rankings", ranks)
    tokenizer = load_tokenizer(config.model)
    model = new_reward_model(
        config.model,
        seed=config.seed,
        dtype=config.dtype,
        device=config.device,
        nf4=config.lora.nf4,
    )
    prepare(model, config)
    limit = min(config.max_length or 1 << 30, context_length(model))
    rows = parts_of(config, tokenizer, limit)
    train, units = rows.train, rows.train.units()
    refuse_strengths(config, Parts(train.kept, rows.held.kept, rows.some, rows.notes))
    preflight(tokenizer, model, rows.some, max_length=limit)
    heads = add_personal_heads(model, config.seed, config.dimensions)
    # Of the model as it was loaded, so that it is the same when a run goes on.
    heads.scale.copy_(usual_size(model, train.kept[:MEASURED], config.micro_batch_tokens))
    steps = step_count(config, len(units))
    learner = load_learner(
        model,
        forward,
        optim(config, steps),
        micro_batch_tokens=config.micro_batch_tokens,
        ranks=ranks,
    )
    loss_of, form = likelihood(config, train.kept, ALIKE)

    def loss_fn(out: Outputs, batch: Batch) -> Loss:
        assert isinstance(batch, RankedOfUsers)
        users = len(batch.group.unique_consecutive())
        table, rank, strength, user = targets(batch, out.score)
        count = by_user(torch.ones_like(table[:, 0]), user, users)
        nll = by_user(loss_of(table, rank, strength), user, users) / count
        right, pairs = (by_user(x, user, users) for x in accuracy(table, rank))
        first = batch.group.diff(prepend=batch.group[:1] - 1) != 0
        kl = {f"kl/{i}": out[f"kl_{i}"][first] for i in range(heads.size)}
        total = torch.stack([*kl.values()]).sum(0)
        price = config.kl_weight * min(1.0, 2 * learner.steps / steps)  # annealed over half the run
        told_of = {"loss/answers": nll, "accuracy": right / pairs.clamp(min=1), "kl/z": total}
        return Loss(nll + price * total, {**told_of, **kl})

    def evaluate() -> Metrics:
        found = measured(model, rows.held, config.micro_batch_tokens, config.seed).as_json()
        ranks.on_first(write_json, config.out / "evaluation.json", found)
        after, others = found["answers"], found["accuracy_of_others"]
        told_all = after[max(after, key=int)]["accuracy"]
        if learner.steps == steps and others is not None and told_all - others < COLLAPSED:
            log.warning(
                "z has collapsed: with another user's answers %.3f of the pairs are ordered right, with one's own "
                "%.3f; lower --kl-weight, train longer, or these users want the same",
                *(others, told_all),
            )
        metrics = {f"eval/accuracy_{n}": at["accuracy"] for n, at in after.items()}
        metrics["eval/accuracy"] = told_all
        return metrics | ({} if others is None else {"eval/accuracy_of_others": others})

    def record_scale() -> None:
        batch = rank_batch(train.kept[:MEASURED])
        h = all_states(model, batch, config.micro_batch_tokens).to(heads.scale.device)
        with torch.no_grad():
            scores = scalar_head(model)(h.to(model.dtype)).float()
        setattr(model.config, SHIFT, float(scores.mean()))
        setattr(model.config, SCALE, float(scores.std(correction=0).clamp(min=1e-6)))
        setattr(model.config, FITTED_ON, train.kept.samples)

    def stream(start: int) -> Iterator[Batch]:
        for step, numbers in enumerate(epochs(config, len(units), steps, start), start):
            seeds = (f"{config.seed}/{step}/{place}" for place in range(len(numbers)))
            chosen = zip(numbers, seeds, strict=True)
            yield train.batch([train.turn(units[i], config.answers, seed) for i, seed in chosen])

    return fit(
        config,
        learner,
        stream,
        loss_fn,
        tokenizer,
        steps=steps,
        per="group",
        evaluate=evaluate,
        show=("loss", "accuracy", "eval/accuracy"),
        before_save=record_scale,
        notes=[*rows.notes, *form],
    )
