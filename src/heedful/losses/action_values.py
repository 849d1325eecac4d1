"""Q-, Ψ- and G-learning under KL control (Jaques et al. 2017, "Sequence Tutor", section 3): values of tokens whose
exponentials are the policy. All tensors `[B, T]` in the column convention of `types`; a state is what stands before a
token, the token is the action, the next state what stands before the policy's next token, whatever was heard between.

With reward r, prior p and c = β, at γ = 1 and for one response y:

    Q(s, a) = log p + r/β + γ max Q(s′, ·)                    the best response by log p(y) + r(y)/β
    Ψ(s, a) = log p + r/β + γ log Σ exp Ψ(s′, ·)              π = softmax(Ψ) is π* ∝ p·exp(r/β)
    G(s, a) = r/β + γ log Σ exp(G(s′, ·) + log p)             π = softmax(G + log p), the same policy: G = Ψ − log p

Each is written here as a log-probability and a state's value: Ψ = log π + V, Q = log π − max log π + V and
G = log π − log p + V, whose maximum or log-sum is V by itself. G's error is then Ψ's, to the last digit but rounding.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Kind = Literal["q", "psi", "g"]


def of_action(
    kind: Kind,
    logp: Float[Tensor, "B T"],
    top: Float[Tensor, "B T"],
    value: Float[Tensor, "B T"],
    prior: Float[Tensor, "B T"],
) -> Float[Tensor, "B T"]:
    """Q, Ψ or G of the tokens that were written: from log π of them, of the likeliest ones, V, and log p."""
    return logp + value - {"q": top, "psi": torch.zeros_like(top), "g": prior}[kind]


def wanted(
    kind: Kind,
    action: Float[Tensor, "B T"],
    value: Float[Tensor, "B T"],
    rewards: Float[Tensor, "B T"],
    prior: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    gamma: float,
    lam: float,
) -> Float[Tensor, "B T"]:
    """What Q, Ψ or G of each written token is to be, 0 elsewhere; `rewards` are r/β, `action` and `value` the slow
    network's. Carries no gradient.

    r̃ + γ(V(s′) + λδ′), δ′ being what the next token's own target has above its value: λ = 0 is the paper's one step;
    with λ > 0 a reward reaches tokens far before it at once. At the solution δ is 0 whichever token was written, so
    that λ does not move it where a token leads to one next state only, nor in the mean elsewhere (Harutyunyan et al.
    2016, "Q(λ) with off-policy corrections").
    """
    gains = rewards if kind == "g" else rewards + prior
    out = torch.zeros_like(value)
    ahead, delta = torch.zeros_like(value[:, 0]), torch.zeros_like(value[:, 0])
    for t in reversed(range(value.shape[1])):
        here = mask[:, t]
        out[:, t] = torch.where(here, gains[:, t] + gamma * (ahead + lam * delta), 0.0)
        delta = torch.where(here, out[:, t] - action[:, t], delta)
        ahead = torch.where(here, value[:, t], ahead)
    return out.detach()
