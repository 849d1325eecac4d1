"""The engine that a policy in training is sampled by, and whether it samples from that policy.

What has a copy of the weights elsewhere may have another one: an update that was lost in part, another dtype, another
definition of the log-probs. So after each update, before anything is sampled, what each server draws is compared with
the learner's log-probs of the same tokens, and so is each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from shutil import rmtree
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from heedful.configs.common import Training
from heedful.configs.engines import Engined, has_own_weights
from heedful.data.collate import collate
from heedful.engine import load_engine
from heedful.errors import UserError
from heedful.learner.local import LocalLearner
from heedful.losses.kl import k3
from heedful.losses.policy import engine_weights, ratio
from heedful.models.sampling import derive_seed
from heedful.ranks import Ranks
from heedful.types import Batch, Completion, Engine, Metrics, Sample, Sampling

# Mean |Δ log-prob| a token that rounding explains: float32 with other kernels is off by 1e-6 to 1e-4, bfloat16 by .01
# to .05. An output layer of one step before is off by more as soon as the step has changed anything that matters.
BOUNDS = {"float32": 1e-3, "bfloat16": 0.1}
PROBES, HEARD, DRAWN = 2, 24, 16  # so many prompts of so many tokens, and new ones to each
FOLDER = "engine"  # of a run's folder: what servers read


@runtime_checkable
class Elsewhere(Protocol):
    """An engine of several that each have a copy of the weights."""

    async def of_each(self, tokens: Sequence[int], **how: Any) -> list[tuple[str, Completion]]:
        """A completion by each of them, as `Engine.generate` is asked for one, and which of them it is by."""
        ...


def engine_of(config: Training, policy: LocalLearner, ranks: Ranks) -> Engine:
    """The engine that a config asks for: the embedded one, or `--engine`."""
    if not isinstance(config, Engined) or config.engine is None:
        return load_engine(policy.sampler)
    if has_own_weights(config.engine):
        return load_engine(policy.model, config.engine, folder=config.out / FOLDER, ranks=ranks)
    return load_engine(policy.sampler, config.engine)


def served(config: object) -> bool:
    """Whether what is sampled comes from elsewhere."""
    return isinstance(config, Engined) and config.engine not in (None, "local")


@runtime_checkable
class Sleeps(Protocol):
    """An engine on the learner's own device."""

    async def sleep(self) -> None:
        """Leave the memory to the learner until `load`."""
        ...


async def left_alone(engine: Engine) -> None:
    """The learner is about to work, and the engine is not needed."""
    if isinstance(engine, Sleeps):
        await engine.sleep()


async def loaded(engine: Engine, policy: LocalLearner, config: Training, version: int) -> Metrics:
    """The policy's weights into the engine and, of one on servers, how far these are then from the policy. UserError
    where that is further than rounding explains."""
    await engine.load(policy.weights(), version=version)
    if not isinstance(config, Engined) or not isinstance(engine, Elsewhere):
        return {}
    text: Any = policy.model.config.get_text_config()
    size, room = text.vocab_size // 2, engine.window  # rows at the end may be padding

    async def by_each(number: int) -> list[tuple[str, Sample]]:
        return await _drawn(engine, config.sampling, number, size, room)

    (drawn_by_each,) = await policy.ranks.share_out([version], by_each)
    urls, batch = [url for url, _ in drawn_by_each], collate([s for _, s in drawn_by_each])
    own = policy.outputs(batch).logp
    for url in dict.fromkeys(urls):
        rows = torch.tensor([i for i, other in enumerate(urls) if other == url])
        refuse_another(url, own[rows], batch.old_logp[rows], batch.mask[rows], config.dtype)
    return distance(own, batch)


async def _drawn(
    engine: Elsewhere, sampling: Sampling, version: int, size: int, room: int
) -> list[tuple[str, Sample]]:
    """What each server says behind some made-up prompts of tokens below `size`."""
    heard = max(1, min(HEARD, room - DRAWN))
    found = []
    for number in range(PROBES):
        seed = derive_seed(version, number)
        prompt = tuple(derive_seed(seed, i) % size for i in range(heard))
        how = {"max_tokens": min(DRAWN, room - heard), "sampling": sampling, "stop": ()}
        for url, c in await engine.of_each(prompt, seed=seed, **how):
            mask = (False,) * heard + (True,) * len(c.tokens)
            found.append((url, Sample(prompt + c.tokens, mask, (0.0,) * heard + c.logprobs)))
    if not found:
        raise UserError("--engine: all servers died as soon as they had the weights")
    return found


def refuse_another(who: str, own: Tensor, drawn: Tensor, mask: Tensor, dtype: str) -> None:
    """UserError where log-probs `[B, T]` of the same tokens are further apart than the dtype explains."""
    apart = float(((own - drawn).abs() * mask).sum() / mask.sum().clamp(min=1))
    if not apart <= BOUNDS[dtype]:
        raise UserError(
            f"--engine: {who} does not sample from the policy: its log-probs are {apart:.2g} nats off the learner's on "
            f"average, and {dtype} explains {BOUNDS[dtype]:g}. Its weights are not those it was sent, or its --dtype "
            "is another one, or it was started without --logprobs-mode processed_logprobs"
        )


def distance(own: Tensor, batch: Batch) -> Metrics:
    """How far an engine's log-probs, those of the batch, are from the learner's `[B, T]`: `engine/kl` in nats a token
    by k3, and the largest ratio of a token's probabilities."""
    log_ratio = (own - batch.old_logp)[batch.mask]
    if not len(log_ratio):
        return {}
    kl = k3(batch.old_logp, own)[batch.mask].mean()
    return {"engine/kl": float(kl), "engine/ratio_max": float(ratio(log_ratio).max())}


def drawn(config: Any, policy: LocalLearner, batch: Batch) -> tuple[Batch, Tensor | float, Metrics]:
    """A batch as a learner is to read it, the weights `[B, T]` of its advantages, and how far its engine is off.

    What servers drew gets the learner's own log-probs: ratios of the policy to itself then begin at 1, and what the
    engine is off is in the weights alone. Of the embedded engine, which is exact, all is as it is.
    """
    if not served(config):
        return batch, 1.0, {}
    own = policy.outputs(batch).logp
    refuse_another("the engine", own, batch.old_logp, batch.mask, config.dtype)
    how = {"correct": config.correct, "cap": config.correct_cap}
    weights = engine_weights(own, batch.old_logp, batch.mask, **how)
    return replace(batch, old_logp=own * batch.mask), weights, distance(own, batch)


def forget(config: Training) -> None:
    """Remove what servers have read."""
    rmtree(config.out / FOLDER, ignore_errors=True)
