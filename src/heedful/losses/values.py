"""Values of tokens from logged episodes: implicit language Q-learning (ILQL, Snell et al. 2022), after IQL (Kostrikov
et al. 2021). All tensors `[B, T]` in the column convention of `types`; a state is what stands before a token, the token
is the action, the next state is what stands before the policy's next token, whatever was heard in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenValues:
    """What the heads say, all `[B, T]`: both Qs of the tokens that were written, the smaller one of the target Qs, V of
    the state, and log softmax(Q)(token) of both Qs."""

    q1: Tensor
    q2: Tensor
    target: Tensor
    v: Tensor
    chosen1: Tensor
    chosen2: Tensor


@dataclass(frozen=True, slots=True)
class ValueLosses:
    """Unreduced `[B, T]`: of V, of both Qs, and the conservative term."""

    v: Tensor
    q: Tensor
    cql: Tensor


def expectile(error: Float[Tensor, "*n"], tau: float) -> Float[Tensor, "*n"]:
    """|τ − 1(u < 0)|·u²: its minimiser is the τ-expectile, at τ = ½ the mean, as τ → 1 the largest (IQL, eq. 3)."""
    return torch.where(error < 0, 1 - tau, tau) * error.square()


def next_values(
    v: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """V of the state before the policy's next token, 0 behind its last one, and which token is the last."""
    following = torch.zeros_like(v)
    last = torch.zeros_like(mask)
    carried, ahead = torch.zeros_like(v[:, 0]), torch.zeros_like(mask[:, 0])
    for t in reversed(range(v.shape[1])):
        here = mask[:, t]
        following[:, t] = torch.where(here, carried, 0.0)
        last[:, t] = here & ~ahead
        carried, ahead = torch.where(here, v[:, t], carried), ahead | here
    return following, last


def ilql(
    values: TokenValues,
    rewards: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    truncated: Bool[Tensor, " B"],
    *,
    gamma: float,
    tau: float,
) -> ValueLosses:
    """L_V = expectile_τ(min Q̂ − V); L_Q = Σ_i (r + γV(s′) − Q_i)²; L_CQL = −Σ_i log softmax(Q_i)(a) (ILQL, section 4).

    Targets carry no gradient. V(s′) is 0 behind the end of an episode; behind a *truncated* one it is not known, so
    that its last token has no L_Q. γ counts the policy's own tokens.
    """
    following, last = next_values(values.v.detach(), mask)
    wanted = rewards + gamma * following
    known = mask & ~(last & truncated[:, None])
    q = (wanted - values.q1).square() + (wanted - values.q2).square()
    return ValueLosses(
        v=expectile(values.target.detach() - values.v, tau) * mask,
        q=q * known,
        cql=-(values.chosen1 + values.chosen2) * mask,
    )
