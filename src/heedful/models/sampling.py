"""The one definition of π: logits → log-probs after temperature, top-k and top-p.

The engine samples from it, and the learner takes the same tokens' log-probs from it again. Two
definitions would make the first PPO ratio differ from 1, silently.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.types import Sampling


def log_policy(logits: Tensor, sampling: Sampling, keep: Tensor | None = None) -> Tensor:
    """log π `[N, V]` from logits `[N, V]`, in float32; −inf outside the top-k and top-p masks.

    `keep` `[N]` are token ids that always stay inside the masks: when log-probs of sampled tokens are
    taken again after an update, a token may just have left the nucleus, and log 0 would break the ratio.
    `temperature=0` (greedy) reports the log-probs of the unmodified model.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        return torch.log_softmax(logits, dim=-1)
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    dropped = None
    if 0 < sampling.top_k < logits.shape[-1]:
        kth = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        dropped = logits < kth
    if sampling.top_p < 1:
        logits_left = logits if dropped is None else logits.masked_fill(dropped, float("-inf"))
        sorted_logits, order = logits_left.sort(dim=-1, descending=True, stable=True)
        probs = sorted_logits.softmax(dim=-1)
        # The smallest set whose mass reaches top_p: drop what has top_p mass *before* it.
        outside = probs.cumsum(dim=-1) - probs >= sampling.top_p
        nucleus = torch.zeros_like(outside).scatter(1, order, outside)
        dropped = nucleus if dropped is None else dropped | nucleus
    if dropped is not None:
        if keep is not None:
            dropped = dropped.scatter(1, keep[:, None], False)
        logits = logits.masked_fill(dropped, float("-inf"))
    return torch.log_softmax(logits, dim=-1)


def draw(logp: Tensor, uniforms: Tensor) -> Tensor:
    """One token a row by inverting the distribution function: logp `[N, V]`, uniforms `[N]` in [0, 1) → ids `[N]`.

    With the uniforms made from (seed, sample, position) a sequence does not depend on its batch mates.
    """
    cdf = logp.double().exp().cumsum(dim=-1)
    # The first index whose cdf exceeds u·total has positive mass, whatever the rounding.
    ids = torch.searchsorted(cdf, uniforms.double()[:, None] * cdf[:, -1:], right=True)
    return ids.squeeze(1).clamp_(max=logp.shape[-1] - 1)


def uniforms(seeds: Tensor, positions: Tensor) -> Tensor:
    """Counter-based random numbers in [0, 1): int64 seeds `[N]` and positions `[N]` → float64 `[N]`.

    splitmix64 (Steele et al. 2014) of seed and position: no generator state to save or to share.
    """
    x = _mix(seeds + _mix(positions * _GOLDEN + _GOLDEN))
    return ((x >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def derive_seed(*parts: int) -> int:
    """A 63-bit seed from integers, e.g. (run seed, step, prompt, sample)."""
    h = 0
    for part in parts:
        h = _mix_int((h ^ (part & _MASK)) + _GOLDEN_U)
    return h >> 1


_MASK = (1 << 64) - 1
_GOLDEN_U = 0x9E3779B97F4A7C15
_GOLDEN = _GOLDEN_U - (1 << 64)  # the same bits as a signed 64-bit number


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


def _mix_int(x: int) -> int:
    x &= _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _mix(x: Tensor) -> Tensor:
    # int64 arithmetic wraps; >> is arithmetic on signed numbers, hence the masks.
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & ((1 << 33) - 1))
