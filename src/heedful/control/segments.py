"""Control from comparisons of clips (Christiano et al. 2017): a reward of each move, fitted so that its sums over two
segments predict which people prefer, and PPO that maximises it.

What a move is worth and how likely it is are both read from its features (`games.Game.choices`), so that the same two
networks serve keys and places. Where people err, they are taken to answer a tenth of the questions by chance, as there
(section 2.2.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from heedful.control.games import Game
from heedful.losses.advantages import gae, whiten
from heedful.losses.policy import ppo_clip

HIDDEN, MEMBERS = 64, 3
BY_CHANCE = 0.1  # of people's answers
FIT_STEPS, FIT_RATE = 300, 3e-3
# The ℓ2 coefficient that fitting begins with, by how much it moves, after how many steps; and between which multiples
# of the training loss the validation loss is to stay (section 2.2.3).
DECAY, MOVED, AFTER, LOW, HIGH = 1e-3, 1.5, 10, 1.1, 1.5
GAMMA, LAMBDA, EPOCHS, MINIBATCH, RATE, ENTROPY = 0.99, 0.95, 4, 512, 3e-3, 0.01


def network(features: int, generator: torch.Generator) -> nn.Sequential:
    """Two hidden layers, one number; what is drawn depends on the generator alone."""
    net = nn.Sequential(
        nn.Linear(features, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)
    )  # fmt: skip
    with torch.no_grad():
        for layer in (net[0], net[2], net[4]):
            assert isinstance(layer, nn.Linear)
            scale = (0.1 if layer is net[4] else 1.0) / layer.in_features**0.5
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * scale)
            layer.bias.zero_()
    return net


class Learned:
    """A policy over the moves of a game, its critic, and the rewards that it was trained on."""

    def __init__(self, features: int, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.policy, self.critic, *rewards = (
            network(features, generator) for _ in range(2 + MEMBERS)
        )
        self.rewards, self.features = rewards, features

    def logits(
        self, choices: Float[Tensor, "N A F"], real: Bool[Tensor, "N A"]
    ) -> Float[Tensor, "N A"]:
        """Of each move; −∞ where there is none."""
        return self.policy(choices)[..., 0].masked_fill(~real, -torch.inf)

    def value(
        self, choices: Float[Tensor, "N A F"], real: Bool[Tensor, "N A"]
    ) -> Float[Tensor, " N"]:
        """Of a state, which the mean of its moves' features tells."""
        count = real.sum(1, keepdim=True)
        return self.critic((choices * real[..., None]).sum(1) / count)[:, 0]

    def worth(self, moves: Float[Tensor, "N F"]) -> Float[Tensor, "M N"]:
        """What each member thinks a move is worth."""
        return torch.stack([net(moves)[:, 0] for net in self.rewards])

    @torch.no_grad()
    def __call__(self, game: Game, rng: np.random.Generator) -> int:
        """The likeliest move."""
        return int(self.policy(torch.tensor(game.choices(), dtype=torch.float32))[:, 0].argmax())

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All that there is to go on from: numbers, and arrays."""
        return {"features": self.features}, {
            f"{part}.{name}": tensor.numpy()
            for part, net in self.parts().items()
            for name, tensor in net.state_dict().items()
        }

    @classmethod
    def of(cls, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Learned:
        """The inverse of `state`."""
        known = cls(int(about["features"]))
        for part, net in known.parts().items():
            net.load_state_dict(
                {n: torch.from_numpy(arrays[f"{part}.{n}"]) for n in net.state_dict()}
            )
        return known

    def parts(self) -> dict[str, nn.Sequential]:
        """All that is learned, by name."""
        rewards = {f"reward{i}": net for i, net in enumerate(self.rewards)}
        return {"policy": self.policy, "critic": self.critic, **rewards}


@dataclass(frozen=True)
class Compared:
    """Two segments by the features of their moves, `[T, F]` each, and the share of people who prefer the first."""

    first: Float[np.ndarray, "T1 F"]
    second: Float[np.ndarray, "T2 F"]
    preferred: float


def preference_loss(
    difference: Float[Tensor, " N"], preferred: Float[Tensor, " N"], by_chance: float = BY_CHANCE
) -> Float[Tensor, " N"]:
    """−p·log P − (1 − p)·log(1 − P), P = (1 − ε)·σ(Σ r̂(first) − Σ r̂(second)) + ε/2 (equation 1, section 2.2.3)."""
    keep, half = torch.tensor(1 - by_chance).log(), torch.tensor(max(by_chance, 1e-12) / 2).log()
    first = torch.logaddexp(keep + logsigmoid(difference), half)
    second = torch.logaddexp(keep + logsigmoid(-difference), half)
    return -preferred * first - (1 - preferred) * second


def fit(player: Learned, compared: Sequence[Compared], seed: int) -> float:
    """Each member anew, to comparisons drawn with replacement; by those that were not drawn, about a third, its ℓ2
    coefficient is set while it is fitted (section 2.2.3). Returns the share of comparisons that are no ties which the
    mean of all members gets right."""
    generator = torch.Generator().manual_seed(seed)
    moves = np.concatenate([part for c in compared for part in (c.first, c.second)])
    flat = torch.tensor(moves, dtype=torch.float32)
    lengths = torch.tensor([len(part) for c in compared for part in (c.first, c.second)])
    owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    wanted = torch.tensor([c.preferred for c in compared])

    def differences(net: nn.Sequential) -> Tensor:
        sums = torch.zeros(len(lengths)).index_add(0, owner, net(flat)[:, 0]).view(-1, 2)
        return sums[:, 0] - sums[:, 1]

    for net in player.rewards:
        net.load_state_dict(network(player.features, generator).state_dict())
    for net in player.rewards:
        drawn = torch.randint(len(compared), (len(compared),), generator=generator)
        left = torch.ones(len(compared), dtype=torch.bool)
        left[drawn] = False
        adam, decay = torch.optim.Adam(net.parameters(), lr=FIT_RATE), DECAY
        for step in range(1, FIT_STEPS + 1):
            told = preference_loss(differences(net), wanted)
            seen = told.detach()
            size = torch.stack([weight.square().sum() for weight in net.parameters()]).sum()
            adam.zero_grad()
            (told[drawn].mean() + decay * size).backward()
            adam.step()
            if step % AFTER == 0 and left.any():
                more = float(seen[left].mean() / seen[drawn].mean())
                decay *= MOVED if more > HIGH else 1 / MOVED if more < LOW else 1
    with torch.no_grad():
        mean = torch.stack([differences(net) for net in player.rewards]).mean(0)
    clear = wanted != 0.5
    right = (mean > 0) == (wanted > 0.5)
    return float(right[clear].float().mean()) if clear.any() else float("nan")


@torch.no_grad()
def disagreement(
    player: Learned, first: Float[np.ndarray, "T1 F"], second: Float[np.ndarray, "T2 F"]
) -> float:
    """The variance, over the members, of the chance that the first segment is preferred (section 2.2.4)."""
    sums = [
        player.worth(torch.tensor(moves, dtype=torch.float32)).sum(1) for moves in (first, second)
    ]
    return float((sums[0] - sums[1]).sigmoid().var(correction=0))


@dataclass(frozen=True)
class Played:
    """Games side by side, padded to the longest: rows are games, columns steps."""

    choices: Float[Tensor, "G T A F"]
    real: Bool[Tensor, "G T A"]
    move: Int[Tensor, "G T"]
    logp: Float[Tensor, "G T"]
    mask: Bool[Tensor, "G T"]
    reward: Float[Tensor, "G T"]  # the game's own, for whoever trains on it or measures
    last: Float[Tensor, " G"]  # V of the state at which a game was truncated, else 0
    features: Float[Tensor, "G T F"]  # of the moves that were made


@torch.no_grad()
def play(
    player: Learned, games: Sequence[Game], seeds: Sequence[int], rng: np.random.Generator
) -> Played:
    """A game each, to its end, with moves drawn from the policy."""
    for game, seed in zip(games, seeds, strict=True):
        game.reset(seed)
    steps: list[tuple[list[int], Tensor, Tensor, Tensor, Tensor, list[float]]] = []
    live = list(range(len(games)))
    while live:
        choices, real = _stacked([games[g].choices() for g in live])
        logp = player.logits(choices, real).log_softmax(1)
        drawn = (logp.exp().cumsum(1) < torch.tensor(rng.random((len(live), 1)))).sum(1)
        move = drawn.clamp(max=real.sum(1) - 1)
        rewards = [games[g].step(int(m)) for g, m in zip(live, move, strict=True)]
        steps.append((live, choices, real, move, logp.gather(1, move[:, None])[:, 0], rewards))
        live = [g for g in live if not games[g].over]
    return _padded(player, games, steps)


def _padded(player: Learned, games: Sequence[Game], steps: Sequence[Any]) -> Played:
    shape = (len(games), len(steps))
    most = max(choices.shape[1] for _, choices, *_ in steps)
    choices, real = (
        torch.zeros(*shape, most, player.features),
        torch.zeros(*shape, most, dtype=torch.bool),
    )
    real[..., 0] = True  # padding has a move, too, so that its softmax is one
    move, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    logp, reward = torch.zeros(shape), torch.zeros(shape)
    for t, (live, some, there, chosen, likely, rewards) in enumerate(steps):
        choices[live, t, : some.shape[1]] = some
        real[live, t, : some.shape[1]] = there
        move[live, t], logp[live, t], mask[live, t] = chosen, likely, True
        reward[live, t] = torch.tensor(rewards, dtype=torch.float32)
    cut = torch.tensor([game.over == "truncated" for game in games])
    last = player.value(*_stacked([game.choices() for game in games])) * cut
    made = choices.gather(2, move[..., None, None].expand(-1, -1, 1, player.features))[:, :, 0]
    return Played(choices, real, move, logp, mask, reward, last, made)


def _stacked(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    most = max(len(row) for row in rows)
    choices = torch.zeros(len(rows), most, rows[0].shape[1])
    for i, row in enumerate(rows):
        choices[i, : len(row)] = torch.as_tensor(row, dtype=torch.float32)
    return choices, torch.arange(most)[None] < torch.tensor([len(row) for row in rows])[:, None]


class Optimiser:
    """PPO with a critic, on games of `play`."""

    def __init__(self, player: Learned, rate: float = RATE):
        self.player = player
        both = [*player.policy.parameters(), *player.critic.parameters()]
        self.adam = torch.optim.Adam(both, lr=rate)

    def step(self, played: Played, rng: np.random.Generator, *, learned: bool) -> dict[str, float]:
        """One update by the learned rewards, or by the game's own; what both were in the mean, a game."""
        with torch.no_grad():
            reward = self._learned(played) if learned else played.reward
            values = self.player.value(played.choices.flatten(0, 1), played.real.flatten(0, 1))
            values = values.view_as(played.logp) * played.mask
            adv = gae(reward * played.mask, values, played.mask, played.last, GAMMA, LAMBDA)
            returns, adv = adv + values, whiten(adv, played.mask)
        rows = np.flatnonzero(played.mask.flatten().numpy())
        flat = [
            t.flatten(0, 1)
            for t in (played.choices, played.real, played.move, played.logp, adv, returns)
        ]
        for _ in range(EPOCHS):
            rng.shuffle(rows)
            for start in range(0, len(rows), MINIBATCH):
                self._update(*(t[torch.from_numpy(rows[start : start + MINIBATCH])] for t in flat))
        games = len(played.reward)
        learned_sum = float((reward * played.mask).sum()) / games
        return {"return": float(played.reward.sum()) / games, "reward": learned_sum}

    def _learned(self, played: Played) -> Tensor:
        """The mean of the members, each of root mean square 1 over these moves. Its own mean is kept: segments of
        different lengths were compared, so that it says whether to go on is good. A standard deviation of 1 would make
        a member endless that calls all moves of a good player alike."""
        worth = self.player.worth(played.features.flatten(0, 1))
        size = worth[:, played.mask.flatten()].square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
        return (worth / size).mean(0).view_as(played.logp)

    def _update(
        self, choices: Tensor, real: Tensor, move: Tensor, old: Tensor, adv: Tensor, returns: Tensor
    ) -> None:
        logp = self.player.logits(choices, real).log_softmax(1)
        entropy = -(logp.exp() * logp.masked_fill(~real, 0.0)).sum(1)
        chosen = logp.gather(1, move[:, None])[:, 0]
        critic = (self.player.value(choices, real) - returns).square() / 2
        # So that the critic's share does not grow with the rewards; of a single row, too, a number.
        scale = returns.var(correction=0).clamp(min=1.0)
        loss = ppo_clip(chosen, old, adv) + critic / scale - ENTROPY * entropy
        self.adam.zero_grad()
        loss.mean().backward()
        nn.utils.clip_grad_norm_([p for g in self.adam.param_groups for p in g["params"]], 0.5)
        self.adam.step()
