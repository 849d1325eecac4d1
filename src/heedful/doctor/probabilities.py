"""Checks of the model's log-probs: that sampling, training and transformers mean the same distribution."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from heedful.data.collate import collate
from heedful.data.tokens import decode_response
from heedful.doctor.context import Context, tolerance
from heedful.doctor.finding import (
    Finding,
    NotApplicable,
    failed,
    graded,
    passed,
    share,
    warned,
)
from heedful.engine import load_engine
from heedful.models.forward import hidden_states, lm_head
from heedful.models.limits import NO_LIMIT
from heedful.models.sampling import log_policy
from heedful.trial import body
from heedful.types import Sampling

GREEDY = 12  # tokens of a greedy response
FLOAT16 = 65504.0


def loads(context: Context) -> Finding:
    """The model is a whole causal language model, with no weight invented on loading."""
    if reason := context.refused.get("model"):
        return failed(reason, "name a folder that holds a whole causal language model")
    kinds = context.model.config.architectures or []
    if any("ForSequenceClassification" in kind for kind in kinds):
        return failed(
            f"the folder holds a reward model ({kinds[0]}): what it would say is left over",
            "name the language model, and the reward model with --reward-model",
        )
    count = sum(p.numel() for p in context.model.parameters())
    return passed(f"all weights are there: {count:,} parameters, {_dtype(context.model)}", count)


@torch.no_grad()
def finite(context: Context) -> Finding:
    """No weight and no logit is NaN or infinite, and activations are within what the type can hold."""
    model = context.model
    bad = [n for n, p in model.named_parameters() if not torch.isfinite(p).all()]
    remedy = "start from an earlier checkpoint, or load with --dtype float32"
    if bad:
        return failed(
            f"{len(bad)} weights hold NaN or infinity, such as {bad[0]}", remedy, len(bad)
        )
    batch = collate([e.sample for e in context.trainable])
    real = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
    tokens, real = batch.tokens.to(model.device), real.to(model.device)
    logits = lm_head(model)(hidden_states(model, tokens, real).at(real))
    size = float(logits.abs().max())
    if not math.isfinite(size):
        return failed("logits are NaN or infinite", remedy, size)
    inside = _largest_inside(model, tokens)
    if inside > FLOAT16 / 2:
        return warned(
            f"activations reach {inside:,.0f}; float16 ends at {FLOAT16:,.0f}",
            "keep to --dtype float32 or bfloat16",
            inside,
        )
    return passed(f"logits up to {size:.3g}, activations up to {inside:.3g}", size)


@torch.no_grad()
def as_transformers(context: Context) -> Finding:
    """heedful's log-probs equal a log-softmax over the whole model's own logits."""
    model, samples = context.model, [e.sample for e in context.trainable]
    batch = collate(samples)
    tokens = batch.tokens.to(model.device)
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    theirs = _own(logits, batch.tokens, batch.mask, context.sampling)
    gap = _gap(context.logps(samples), theirs, batch.mask)
    low, high = tolerance(model)
    return graded(
        f"log-probs are within {gap:.1g} of transformers' own",
        gap,
        warn=low,
        fail=high,
        remedy="please report the architecture: its output layer is unknown to heedful",
    )


def first_ratio(context: Context) -> Finding:
    """Before the first update, π/π_old of what was sampled is 1, at this temperature and these masks."""
    s, samples = context.sampling, context.samples
    if s.temperature == 0:
        raise NotApplicable("greedy decoding has no ratio; set --temperature above 0")
    batch = collate(samples)
    ratio = torch.exp(context.logps(samples) - batch.old_logp)[batch.mask]
    off = float((ratio - 1).abs().max())
    low, high = tolerance(context.model)
    return graded(
        f"the first PPO ratio is off 1 by {off:.1g} at temperature {s.temperature:g}, top-p {s.top_p:g}, "
        f"top-k {s.top_k} ({int(batch.mask.sum())} tokens)",
        off,
        warn=low,
        fail=high,
        remedy="use --dtype float32; if it is, please report the architecture",
    )


def padding_changes_nothing(context: Context) -> Finding:
    """A sequence alone, among longer ones, and padded with another id has the same log-probs."""
    samples = [e.sample for e in context.trainable]
    mask = collate(samples).mask
    together = context.logps(samples)
    alone = torch.zeros_like(together)
    for i, sample in enumerate(samples):
        row = context.logps([sample])[0]
        alone[i, : len(row)] = row
    other = context.logps(samples, pad_id=max(max(s.tokens) for s in samples))
    gap = max(_gap(together, alone, mask), _gap(together, other, mask))
    low, high = tolerance(context.model)
    return graded(
        f"padding and batch mates move log-probs by {gap:.1g} ({len(samples)} sequences)",
        gap,
        warn=low,
        fail=high,
        remedy="the model's attention looks at what comes later, or at padding: it cannot be trained so",
    )


def repeatable(context: Context) -> Finding:
    """The same input twice gives the same log-probs, so that a ratio and a margin mean something."""
    samples = [e.sample for e in context.trainable]
    gap = _gap(context.logps(samples), context.logps(samples), collate(samples).mask)
    return graded(
        f"two passes over the same tokens differ by {gap:.1g}",
        gap,
        warn=0.0,
        fail=tolerance(context.model)[0],
        remedy="switch off what is random in the model's forward pass (dropout, noise, routing)",
    )


def dropout(context: Context) -> Finding:
    """Dropout is off, in sampling and in updates alike."""
    model = context.model
    rates = {n: m.p for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout) and m.p}
    config = model.config.get_text_config().to_dict()
    rates |= {k: v for k, v in config.items() if "drop" in k and isinstance(v, float) and v > 0}
    if on := [n or "the model" for n, m in model.named_modules() if m.training]:
        return failed(
            f"{len(on)} modules are in training mode, such as {on[0]}",
            "call model.eval(); heedful trains in that mode too",
            float(len(on)),
        )
    if not rates:
        return passed("the model has no dropout", 0.0)
    samples = [e.sample for e in context.trainable]
    quiet = context.logps(samples)
    model.train()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            moved = _gap(quiet, context.logps(samples), collate(samples).mask)
    finally:
        model.eval()
    return passed(
        f"dropout is off; the model's {max(rates.values()):g} would move log-probs by {moved:.2g}",
        moved,
    )


def greedy(context: Context) -> Finding:
    """The engine's greedy responses are those of transformers' `generate`."""
    model, todo = context.model, context.todo[:3]
    most = min(GREEDY, context.drawn)

    async def ours() -> list[list[int]]:
        engine, how = load_engine(model), Sampling(temperature=0.0)
        asked = (
            engine.generate(t.tokens, n=1, max_tokens=most, sampling=how, stop=t.stop, seed=0)
            for t in todo
        )
        return [list(c.tokens) for (c,) in await asyncio.gather(*asked)]

    same, gap = 0, 0.0
    for task, mine in zip(todo, asyncio.run(ours()), strict=True):
        prompt = torch.tensor([task.tokens], device=model.device)
        with _neutral(model):
            out: Any = model.generate(  # type: ignore[operator]
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=list(task.stop),
                pad_token_id=task.stop[0],
            )
        theirs = out[0, len(task.tokens) :].tolist()
        if mine == theirs:
            same += 1
            continue
        at = next(i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b)
        gap = max(gap, _lead(model, [*task.tokens, *mine[:at]], mine[at], theirs[at]))
    says = f"{same} of {len(todo)} greedy responses are those of transformers"
    if same < len(todo) and gap <= tolerance(model)[0]:
        return passed(f"{says}, the others differ by a tie", gap)
    return graded(
        says,
        float(len(todo) - same),
        warn=0.0,
        fail=0.0,
        remedy="please report the architecture: the engine's cache does not suit it",
    )


def end_is_likely(context: Context) -> Finding:
    """The model ends its responses: the end token is not rarer than chance where a response ends."""
    samples = [e.sample for e in context.trainable]
    if context.sampling.temperature == 0:
        raise NotApplicable("greedy decoding has no probabilities; set --temperature above 0")
    logps = context.logps(samples)
    ends = [len(s.tokens) - 2 for s in samples]
    p = float(logps[torch.arange(len(samples)), torch.tensor(ends)].exp().mean())
    ended = sum(s.stop_reason == "stop" for s in context.samples)
    rows = context.model.config.get_text_config().vocab_size
    says = (
        f"the end token has probability {p:.2g} where responses end; "
        f"{share(ended, len(context.samples))} samples ended within {context.drawn} tokens"
    )
    if p < 0.1 / rows and not ended:
        return warned(
            says, "fine-tune on demonstrations first, so that the model learns to stop", p
        )
    return passed(says, p)


def samples_differ(context: Context) -> Finding:
    """Several samples of a prompt are not all the same, or nothing could be compared."""
    if context.sampling.temperature == 0:
        raise NotApplicable("greedy decoding has one response only")
    groups: dict[int | None, set[tuple[int, ...]]] = {}
    for sample in context.samples:
        groups.setdefault(sample.group, set()).add(sample.tokens)
    same = sum(len(texts) == 1 for texts in groups.values())
    batch = collate(context.samples)
    entropy = float(-(batch.old_logp * batch.mask).sum() / batch.mask.sum())
    says = f"{share(same, len(groups))} prompts gave one response only; {entropy:.2f} nats a token"
    if same == len(groups):
        return warned(
            says, "raise --temperature or --top-p: equal responses teach nothing", entropy
        )
    return passed(says, entropy)


def reencoding(context: Context) -> Finding:
    """How often decoding and encoding again would change what was sampled; heedful keeps the ids."""
    tok, changed = context.tokenizer, 0
    for sample in context.samples:
        ids = [t for t, m in zip(sample.tokens, sample.mask, strict=True) if m]
        ids = [t for t in ids if t not in tok.all_special_ids]
        again = tok(decode_response(tok, ids), add_special_tokens=False)["input_ids"]
        changed += list(again) != ids
    total = len(context.samples)
    return passed(
        f"{share(changed, total)} samples would get other ids if re-encoded; heedful keeps them",
        changed / total,
    )


@torch.no_grad()
def beyond_the_tokenizer(context: Context) -> Finding:
    """Rows of the embedding without a token are never sampled."""
    model, tok = context.model, context.tokenizer
    known = max(tok.get_vocab().values()) + 1
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
    if rows <= known:
        raise NotApplicable("every row of the embedding has a token")
    samples = [e.sample for e in context.trainable]
    batch = collate(samples)
    mask = batch.mask.to(model.device)
    hidden = hidden_states(model, batch.tokens[:, :-1].to(model.device), mask).at(mask)
    mass = float(lm_head(model)(hidden).float().softmax(-1)[:, known:].sum(-1).max())
    return graded(
        f"{rows - known:,} ids without a token have a probability of {mass:.1g} at most",
        mass,
        warn=1e-3,
        fail=0.5,
        remedy="they decode to nothing: is it the tokenizer of this model?",
    )


def generation_settings(context: Context) -> Finding:
    """What other programs sample with by default is what is trained with here."""
    config: Any = getattr(context.model, "generation_config", None) or GenerationConfig()
    s = context.sampling
    samples = bool(config.do_sample)
    wanted = {
        "temperature": s.temperature if samples else None,
        "top_p": s.top_p if samples else None,
        "top_k": s.top_k if samples else None,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "min_p": 0.0,
    }
    neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    odd = {}
    for name, ours in wanted.items():
        theirs = getattr(config, name, None)
        theirs = neutral.get(name, ours) if theirs is None else theirs
        if ours is not None and theirs != ours:
            odd[name] = theirs
    if odd:
        said = ", ".join(f"{k} {v:g}" for k, v in odd.items())
        return warned(
            f"generation_config.json says {said}; this is about other settings",
            "evaluate with the settings you train with: --temperature, --top-p, --top-k",
            float(len(odd)),
        )
    return passed("generation_config.json samples as here", 0.0)


def context_window(context: Context) -> Finding:
    """Prompt and response stay within the context that the model has."""
    most, stated = context.window, context.tokenizer.model_max_length
    says = "no limit of positions" if most == NO_LIMIT else f"{most:,} positions"
    longest = max(len(e.sample.tokens) for e in context.encoded)
    if longest > most:
        return warned(
            f"{says}; your longest sequence has {longest:,} tokens, which training refuses",
            "train with --on-bad-row drop or cut, or choose a model with a longer context",
            float(longest - most),
        )
    if most < stated < 1 << 24:
        return warned(
            f"{says}, but the tokenizer says {stated:,}",
            "set model_max_length in tokenizer_config.json to what the model has",
            float(most),
        )
    return passed(f"{says}; your longest sequence has {longest:,} tokens", float(longest))


@contextmanager
def _neutral(model: PreTrainedModel) -> Iterator[None]:
    """`generate` without the settings that the model's folder brings, such as a penalty on repetition."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


@torch.no_grad()
def _largest_inside(model: PreTrainedModel, tokens: Tensor) -> float:
    """The largest activation between layers."""
    out: Any = body(model)(input_ids=tokens, use_cache=False, output_hidden_states=True)
    return max(float(h.float().abs().max()) for h in out.hidden_states or [out.last_hidden_state])


@torch.no_grad()
def _lead(model: PreTrainedModel, tokens: list[int], a: int, b: int) -> float:
    """How much likelier one of two next tokens is than the other, in nats."""
    ids = torch.tensor([tokens], device=model.device)
    real = torch.ones_like(ids, dtype=torch.bool)
    logits = lm_head(model)(hidden_states(model, ids, real).at(real)[-1:])[0].float()
    return abs(float(logits[a] - logits[b]))


def _own(logits: Tensor, tokens: Tensor, mask: Tensor, sampling: Sampling) -> Tensor:
    """Log-probs `[B, T]` from logits `[B, T, V]`, 0 outside the mask."""
    targets = tokens[:, 1:].to(logits.device)
    where = mask.to(logits.device)
    y = targets[where]
    picked = log_policy(logits[where], sampling, keep=y).gather(1, y[:, None]).squeeze(1)
    return torch.zeros(mask.shape).masked_scatter(mask, picked.cpu())


def _gap(a: Tensor, b: Tensor, mask: Tensor) -> float:
    """The largest difference inside the mask; NaN where either is."""
    return float((a - b)[mask].abs().max())


def _dtype(model: PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")
