"""Where everything can be summed: DPO and PPO's policy gradient end on the exact reward–KL frontier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

if TYPE_CHECKING:
    from torch import Tensor

BETAS = (0.1, 0.2, 0.5, 1.0, 2.0)
STEPS, PAIRS, PROMPT = 1500, 4096, 0


def run(seed: int, folder: Path, quick: bool) -> Result:
    """Every response has a logit of its own (no network stands between the loss and its optimum), all started at the
    reference. DPO sees the probability with which a Bradley–Terry rater prefers; the policy gradient the reward."""
    import torch

    from heedful.evals.statistics import rank_correlation
    from heedful.worlds import enumerable as world

    with torch.no_grad():
        ref = world.log_probs(world.tiny_model(seed), PROMPT)
    rewards = world.rewards(seed)
    steps = 30 if quick else STEPS
    arms: dict[str, Callable[[float], Tensor]] = {
        "DPO": lambda beta: dpo(ref, rewards, beta, seed, steps),
        "policy gradient": lambda beta: policy_gradient(ref, rewards, beta, steps),
    }
    found: dict[str, Any] = {"frontier": frontier(ref, rewards)}
    above = []
    for name, arm in arms.items():
        points, regrets, distances = [], [], []
        for beta in BETAS:
            logp = arm(beta)
            best = world.optimal(ref, rewards, beta)
            points.append((float(world.kl(logp, ref)), float((logp.exp() * rewards).sum())))
            start, reached, most = (
                world.objective(p, ref, rewards, beta) for p in (ref, logp, best)
            )
            regrets.append(float((most - reached) / (most - start)))
            distances.append(float(world.total_variation(logp, best)))
            above.append(points[-1][1] - most_reward(ref, rewards, points[-1][0]))
        kls = [kl for kl, _ in points]
        found |= {
            name: points,
            f"{name}: regret": max(regrets),
            f"{name}: total variation to π*": max(distances),
            f"{name}: Spearman(β, KL)": rank_correlation(BETAS, kls),
        }
    return {**found, "above the frontier": max(above)}


def dpo(ref: Tensor, rewards: Tensor, beta: float, seed: int, steps: int) -> Tensor:
    """log π of all responses after DPO on pairs of responses drawn evenly, `PAIRS` new ones a step."""
    import torch

    from heedful.losses import preference
    from heedful.types import PairLogps

    draw = torch.Generator().manual_seed(seed)
    ones = torch.ones(PAIRS, dtype=torch.long)

    def loss(logp: Tensor) -> Tensor:
        a, b = torch.randint(len(ref), (2, PAIRS), generator=draw)
        pairs = PairLogps(logp[a], logp[b], ref[a], ref[b], ones, ones)
        return preference.dpo(pairs, (rewards[a] - rewards[b]).sigmoid(), beta).mean()

    return optimised(ref, loss, steps)


def policy_gradient(ref: Tensor, rewards: Tensor, beta: float, steps: int) -> Tensor:
    """log π after PPO's first, unclipped step again and again: every response counts by its probability, its
    advantage is r − β log(π/π_ref) less the mean."""
    from heedful.losses import policy

    def loss(logp: Tensor) -> Tensor:
        old = logp.detach()
        score = rewards - beta * (old - ref)
        adv = score - (old.exp() * score).sum()
        return (old.exp() * policy.ppo_clip(logp, old, adv)).sum()

    return optimised(ref, loss, steps)


def optimised(ref: Tensor, loss: Callable[[Tensor], Tensor], steps: int) -> Tensor:
    """log π after Adam with a rate that falls to 0."""
    import torch

    logits = ref.clone().requires_grad_(True)
    adam = torch.optim.Adam([logits], lr=0.1)
    for step in range(steps):
        adam.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        adam.zero_grad()
        loss(logits.log_softmax(-1)).backward()
        adam.step()
    return logits.detach().log_softmax(-1)


def frontier(ref: Tensor, rewards: Tensor) -> list[tuple[float, float]]:
    """(KL, reward) of the best policies: those of the closed form, one for each β."""
    import torch

    from heedful.worlds import enumerable as world

    curve = [world.optimal(ref, rewards, float(b)) for b in torch.logspace(1.5, -1.2, 40)]
    return [(float(world.kl(p, ref)), float((p.exp() * rewards).sum())) for p in curve]


def most_reward(ref: Tensor, rewards: Tensor, kl: float) -> float:
    """The most reward of any policy with this KL: the closed form at the β, by bisection, that has it."""
    from heedful.worlds import enumerable as world

    low, high = 1e-3, 1e3  # β; the KL falls as it grows
    for _ in range(100):
        beta = (low * high) ** 0.5
        low, high = (
            (beta, high) if world.kl(world.optimal(ref, rewards, beta), ref) > kl else (low, beta)
        )
    return float((world.optimal(ref, rewards, low).exp() * rewards).sum())


def figure(seeds: Sequence[Result]) -> Figure:
    """The first seed's frontier and where the methods end."""
    first = seeds[0]
    return Figure(
        title="Reward against KL where all 4,096 responses can be summed, seed 0",
        x="KL to the reference, nats per response",
        y="mean reward",
        lines={
            "exact frontier": first["frontier"],
            "DPO": first["DPO"],
            "policy gradient": first["policy gradient"],
        },
    )


REPRODUCTION = Reproduction(
    name="frontier-exact",
    claim="DPO and PPO maximise the same objective, reward less β times KL, whose optimum has a closed form: no method "
    "gets more reward at its KL, and β alone sets how much KL is spent.",
    source="Rafailov et al. 2023, eq. 4 and figure 2",
    what="4,096 responses of 4 tokens, the reference a random tiny Llama, heedful's own losses on a policy with a "
    f"logit for each response, β of {', '.join(map(str, BETAS))}; rewards and reference by the seed.",
    frozen="2026-11-29",
    criteria=(
        Criterion("reward above the exact frontier", "above the frontier", "at most", 1e-6, "every seed"),
        Criterion("DPO's regret, as a share of the gain", "DPO: regret", "at most", 0.05, "every seed"),
        Criterion("the policy gradient's", "policy gradient: regret", "at most", 0.05, "every seed"),
        Criterion("Spearman of β and DPO's KL", "DPO: Spearman(β, KL)", "at most", -0.9, "every seed"),
    ),
    run=run,
    minutes=1,
    figure=figure,
)  # fmt: skip
