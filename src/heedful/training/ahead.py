"""The engines of an on-policy run, those of a cluster among them, which may work ahead of the learner.

With `--staleness s` the samples of step t are drawn with the weights of update t − 1 − s, always: while the learner is
at step t, those of the steps up to t + s are being drawn. So what is sampled does not depend on who was fast, a run
that was killed goes on with the same samples, and a slow prompt delays its own step and is never left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from heedful.configs.cluster import behind
from heedful.configs.common import Training
from heedful.engine.background import Background
from heedful.engine.pool import Pool
from heedful.learner.local import LocalLearner
from heedful.models.load import device_of
from heedful.training.engines import engine_of
from heedful.types import Completion, Engine

Result = TypeVar("Result")
Begins = Callable[[Engine, int], Coroutine[Any, Any, Any]]


class Engines:
    """One engine, of each step and of the newest weights."""

    staleness = 0

    def __init__(self, engine: Engine):
        self.newest = engine

    def of(self, step: int) -> Engine:
        """By whom the samples of a step are drawn."""
        return self.newest

    def begin(self, step: int, work: Begins, asking: AbstractContextManager) -> None:
        """Begin what can be drawn of a later step, without waiting for it."""

    def stateful(self) -> dict[str, Any]:
        """What a run must keep of it to go on."""
        return {}


class Ahead(Engines):
    """Engines of a pool, with weights that are `staleness` updates behind, and so many steps ahead; itself the
    `types.Engine` of the newest."""

    def __init__(self, pool: Pool, staleness: int):
        super().__init__(self)
        self.window = pool.window
        self._pool, self.staleness = pool, staleness
        self._weights: dict[int, dict[str, Tensor]] = {}  # those that steps to come are drawn with
        self._steps: dict[int, Early] = {}
        self._background = Background("ahead")

    def of(self, step: int) -> Engine:
        return self._early(step)

    def _early(self, step: int) -> Early:
        if step not in self._steps:
            engine = self._pool.at(behind(step, self.staleness))
            self._steps[step] = Early(engine, self._background)
        return self._steps[step]

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        for older in [v for v in sorted(self._weights) if self._pool.version < v < version]:
            await self._pool.load(self._weights[older], older)
        await self._pool.load(weights, version)
        own = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        kept = range(version - self.staleness, version)
        self._weights = {v: w for v, w in self._weights.items() if v in kept} | {version: own}
        self._steps = {step: early for step, early in self._steps.items() if step > version}

    async def generate(self, tokens: Sequence[int], **how: Any) -> list[Completion]:
        """See `types.Engine.generate`."""
        return await self._pool.generate(tokens, **how)

    def begin(self, step: int, work: Begins, asking: AbstractContextManager) -> None:
        early = self._early(step)
        if not early.begun:
            early.begun = True
            with asking:
                self._background.begin(work(early, step))

    def stateful(self) -> dict[str, Any]:
        return {"engines": self}

    def state_dict(self) -> dict[str, Any]:
        """The weights of earlier updates, which those of the next steps are drawn with."""
        return {"weights": [[version, weights] for version, weights in self._weights.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._weights = {version: dict(weights) for version, weights in state["weights"]}

    def close(self) -> None:
        self._background.close()


@dataclass
class Early:
    """`types.Engine` of one step. Groups of episodes that were begun before their time are not drawn again."""

    engine: Engine
    background: Background
    begun: bool = False
    groups: dict[Hashable, Future] = field(default_factory=dict)

    @property
    def window(self) -> int:
        return self.engine.window

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        await self.engine.load(weights, version)

    async def generate(self, tokens: Sequence[int], **how: Any) -> list[Completion]:
        return await self.engine.generate(tokens, **how)

    async def once(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """What the work returns, which is done once for a key."""
        if key not in self.groups:
            self.groups[key] = self.background.begin(work())
        return await asyncio.wrap_future(self.groups[key])


@contextmanager
def engines_of(config: Training, policy: LocalLearner) -> Iterator[Engines]:
    """The engines that the config asks for, while the run is open."""
    spec: str | None = getattr(config, "cluster", None)
    if spec is None:
        yield Engines(engine_of(config, policy, policy.ranks))
        return
    from heedful.engine.cluster import cluster_engines

    staleness: int = getattr(config, "staleness", 0)
    pool = cluster_engines(
        spec,
        policy.sampler,
        device=device_of(config.device).type,
        versions=staleness + 2,
        ranks=policy.ranks,
    )
    ahead = Ahead(pool, staleness) if staleness else None
    try:
        yield ahead or Engines(pool)
    finally:
        if ahead:
            ahead.close()
        pool.close()
