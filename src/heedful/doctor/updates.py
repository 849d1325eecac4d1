"""Checks of what the first update starts from: its loss, its gradient, its reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from heedful.data.collate import collate, microbatches, take, to_device
from heedful.doctor.context import Context, tolerance
from heedful.doctor.finding import Finding, NotApplicable, failed, graded, passed, warned
from heedful.losses.preference import dpo
from heedful.models.forward import token_logps
from heedful.types import PairLogps, Sample

LARGEST = 500_000_000  # parameters of a model whose gradient the doctor takes
BETA = 0.1


def dpo_starts_at_ln2(context: Context) -> Finding:
    """With the policy as its own reference the first loss is ln 2, however the reference was batched."""
    chosen, rejected = _sides(context)
    reference = context.reference or context.model

    def sums(model, rows: list[Sample], together: bool) -> Tensor:
        parts = [rows] if together else [[row] for row in rows]
        return torch.cat([context.logps(part, model=model).sum(1) for part in parts])

    lengths = torch.ones(len(chosen))
    x = PairLogps(
        sums(context.model, chosen, True),
        sums(context.model, rejected, True),
        sums(reference, chosen, False),
        sums(reference, rejected, False),
        lengths,
        lengths,
    )
    losses = dpo(x, torch.ones(len(chosen)), BETA)
    off = float((losses - math.log(2)).abs().max())
    says = f"DPO starts at {float(losses.mean()):.5f}, ln 2 is {math.log(2):.5f}"
    if context.reference is not None and off > tolerance(context.model)[0]:
        return warned(
            f"{says}: --reference is another model than the policy",
            "mean it, or start the policy from the reference",
            off,
        )
    low, high = tolerance(context.model)
    return graded(
        f"{says} ({len(chosen)} pairs)",
        off,
        warn=low,
        fail=high,
        remedy="the model's log-probs depend on batch mates or on chance: see probabilities",
    )


def reference_fits(context: Context) -> Finding:
    """The reference is one that training takes, which reads the same ids as the policy, and is near it."""
    if why := context.refused.get("reference"):
        return failed(why, "training would refuse it, too")
    if context.reference is None:
        raise NotApplicable("no --reference: the policy as it starts is the reference")
    if context.sampling.temperature == 0:
        raise NotApplicable("greedy decoding has no KL; set --temperature above 0")
    batch = collate(context.samples)
    gap = (batch.old_logp - context.logps(context.samples, model=context.reference)) * batch.mask
    kl = float(gap.sum(1).mean())
    return graded(
        f"KL to the reference is {kl:.3g} nats a response ({len(gap)} samples)",
        kl,
        warn=10.0,
        fail=10.0 * context.drawn,
        remedy="the policy has gone far already: is it the model this policy was trained from?",
    )


def gradient(context: Context) -> Finding:
    """The gradient of the fine-tuning loss is finite and reaches every weight."""
    grads = _gradients(context, 1 << 14)
    frozen = sum(not p.requires_grad for p in context.model.parameters())
    norm = math.sqrt(sum(float(g.float().pow(2).sum()) for g in grads.values()))
    if not grads or not math.isfinite(norm) or norm == 0:
        return failed(
            f"the gradient's norm is {norm:g} over {len(grads)} tensors, {frozen} are frozen",
            "unfreeze the weights (requires_grad), or train with --dtype float32",
            norm,
        )
    learning = [n for n, p in context.model.named_parameters() if p.requires_grad]
    unmoved = [n for n in learning if n not in grads or not grads[n].any()]
    if unmoved:
        return warned(
            f"{len(unmoved)} of {len(learning)} tensors get no gradient, such as {unmoved[0]}",
            "these weights are not used; does the model's code fit its config?",
            float(len(unmoved)),
        )
    return passed(f"the gradient has norm {norm:.3g} and reaches all {len(grads)} tensors", norm)


def micro_batches(context: Context) -> Finding:
    """The gradient of a batch does not depend on how it is cut into micro-batches."""
    whole, cut = _gradients(context, 1 << 14), _gradients(context, 1)
    scale = max((float(g.abs().max()) for g in whole.values()), default=0.0)
    off = max((float((whole[n] - cut[n]).abs().max()) for n in whole), default=0.0)
    # 3e-4 is rounding: SmolLM2-135M has it, whose activations go to 25,000
    low, high = (3e-3, 3e-2) if context.model.dtype == torch.float32 else (0.1, 1.0)
    return graded(
        f"cut into single sequences, the gradient changes by {off / (scale or 1):.1g} of its largest entry",
        off / (scale or 1),
        warn=low,
        fail=high,
        remedy="the model mixes the rows of a batch: it cannot be trained so",
    )


def _gradients(context: Context, size: int) -> dict[str, Tensor]:
    """The gradient of the mean −log π over all response tokens, in micro-batches of `size` tokens."""
    model = context.model
    count = sum(p.numel() for p in model.parameters())
    if count > LARGEST:
        raise NotApplicable(f"{count:,} parameters are too many for a quick gradient")
    batch = collate([e.sample for e in context.trainable])
    total = batch.mask.sum()
    before = {n: p.grad for n, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    try:
        for rows in microbatches(batch, size):
            part = to_device(take(batch, rows), model.device)
            loss = -token_logps(model, part.tokens, part.mask).sum() / total
            if loss.requires_grad:
                loss.backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    finally:
        for name, p in model.named_parameters():
            p.grad = before[name]
    return grads


def _sides(context: Context) -> tuple[list[Sample], list[Sample]]:
    """A few pairs: responses next to each other. Which is the better does not matter here."""
    rows = [e.sample for e in context.trainable]
    if len(rows) < 2:
        rows = rows * 2
    half = len(rows) // 2
    return rows[0 : 2 * half : 2], rows[1 : 2 * half : 2]
