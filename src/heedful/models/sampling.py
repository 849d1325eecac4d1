"""The one definition of π: logits → log-probs after temperature, top-k and top-p.

The engine samples from it, and the learner takes the same tokens' log-probs from it again. Two
definitions would make the first PPO ratio differ from 1, silently.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heedful.fast import kernels
from heedful.fast.kernels import sample
from heedful.types import Sampling

_BLOCK = 64  # tokens of the vocabulary whose mass is summed first
_LIKELY = 256  # tokens among which a nucleus is looked for first
_LEAST = 2.0**-50  # of a mass of one: subtracted from a number below four, it leaves a smaller one


def log_policy(logits: Tensor, sampling: Sampling, keep: Tensor | None = None) -> Tensor:
    """log π `[N, V]` from logits `[N, V]`, in float32; −inf outside the top-k and top-p masks.

    `keep` `[N]` are token ids that always stay inside the masks: when log-probs of sampled tokens are
    taken again after an update, a token may just have left the nucleus, and log 0 would break the ratio.
    `temperature=0` (greedy) reports the log-probs of the unmodified model.
    """
    return torch.log_softmax(_shaped(logits.float(), sampling, keep), dim=-1)


def choose(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """One token a row and its log π: logits `[N, V]`, uniforms `[N]` in [0, 1), float64 → ids `[N]`, log-probs `[N]`.

    The first token whose distribution function exceeds u, up to the last bits of float32, found in two steps: over
    blocks of the vocabulary, then inside one of them. With the uniforms made from (seed, sample, position) a
    sequence does not depend on its batch mates.
    """
    logits = _shaped(logits.float(), sampling, None)
    if sampling.temperature == 0:
        ids = logits.argmax(dim=-1, keepdim=True)
        return ids.squeeze(1), logits.log_softmax(dim=-1).gather(1, ids).squeeze(1)
    if kernels.serves(logits):
        return sample.choose(logits, uniforms)
    mass = logits.softmax(dim=-1)
    odd = -mass.shape[-1] % _BLOCK
    blocks = (nn.functional.pad(mass, (0, odd)) if odd else mass).unflatten(1, (-1, _BLOCK))
    cdf = blocks.sum(dim=-1).cumsum(dim=-1, dtype=torch.double)
    # Below the whole mass and above what stands before the block, whatever the rounding: what is found has mass.
    wanted = uniforms[:, None] * cdf[:, -1:]
    block = torch.searchsorted(cdf, wanted, right=True).clamp_(max=cdf.shape[-1] - 1)
    behind = (cdf.gather(1, block) - wanted).clamp_(min=_LEAST)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, _BLOCK)).squeeze(1)
    inner = inside.cumsum(dim=-1, dtype=torch.double)
    at = torch.searchsorted(inner, (inner[:, -1:] - behind).clamp_(min=0), right=True)
    at.clamp_(max=_BLOCK - 1)
    return at.add(block, alpha=_BLOCK).squeeze(1), inside.gather(1, at).squeeze(1).log()


def _shaped(logits: Tensor, sampling: Sampling, keep: Tensor | None) -> Tensor:
    """Logits `[N, V]` after temperature and masks, −inf outside them; see `log_policy`."""
    if sampling.temperature == 0:
        return logits
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    dropped = None
    if 0 < sampling.top_k < logits.shape[-1]:
        kth = logits.detach().topk(sampling.top_k, dim=-1).values[:, -1:]
        dropped = logits < kth
    if sampling.top_p < 1:
        left = logits.detach()
        left = left if dropped is None else left.masked_fill(dropped, float("-inf"))
        outside = ~_nucleus(left, sampling.top_p)
        dropped = outside if dropped is None else dropped | outside
    if dropped is None:
        return logits
    if keep is not None:
        dropped = dropped.scatter(1, keep[:, None], False)
    return logits.masked_fill(dropped, float("-inf"))


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """The smallest set of tokens whose mass reaches top_p `[N, V]`; of equal tokens the first are taken.

    A few hundred likely tokens mostly hold that mass; only rows in which they do not are sorted whole.
    """
    inside = torch.zeros_like(logits, dtype=torch.bool)
    total = logits.logsumexp(dim=-1, keepdim=True)
    unsettled = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    # Even if all of these were as likely as the likeliest, would they reach top_p?
    hopeful = _LIKELY * (logits.amax(dim=-1) - total.squeeze(1)).exp() >= top_p
    if logits.shape[-1] > _LIKELY and len(rows := hopeful.nonzero().squeeze(1)):
        order = logits[rows].topk(_LIKELY, dim=-1, sorted=False).indices.sort(dim=-1).values
        values, by_value = logits[rows].gather(1, order).sort(dim=-1, descending=True, stable=True)
        within = _before(values, total[rows]) < top_p
        inside[rows] = inside[rows].scatter(1, order.gather(1, by_value), within)
        # Settled is a row whose last token inside is likelier than the last of these: then no token
        # that is missing here, equal to it, has a better claim.
        last = values.gather(1, within.sum(dim=-1, keepdim=True) - 1)
        unsettled[rows] = (values[:, -1:] >= last).squeeze(1)
    if len(rows := unsettled.nonzero().squeeze(1)):
        values, order = logits[rows].sort(dim=-1, descending=True, stable=True)
        inside[rows] = inside[rows].scatter(1, order, _before(values, total[rows]) < top_p)
    return inside


def _before(values: Tensor, total: Tensor) -> Tensor:
    """The mass that stands before each of these sorted logits, of which all have log-mass `total`."""
    probs = (values - total).exp()
    return probs.cumsum(dim=-1) - probs


def uniforms(seeds: Tensor, positions: Tensor) -> Tensor:
    """Counter-based random numbers in [0, 1): int64 seeds and positions of one shape → float64 of that shape.

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
