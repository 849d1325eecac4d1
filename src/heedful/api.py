"""What `import heedful` offers, each imported when it is asked for: docs/library.md.

The names are those of `__init__.pyi`, which type checkers read. Here are the functions that join pieces of several
rooms, so that a training loop of one's own reads as one thinks it.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heedful.errors import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from heedful.envs import Env, Limits
    from heedful.learner.local import LocalLearner
    from heedful.models.reference import Reference
    from heedful.rewards import Parts
    from heedful.types import Batch, Engine, Episode, Facts, Prompt, Sample, Sampling, Scored, Task


def _names() -> dict[str, str]:
    """Name → where it is, as `module:attribute`."""
    stub = ast.parse(Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8"))
    lines = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {a.asname or a.name: f"{node.module}:{a.name}" for node in lines for a in node.names}


NAMES = _names()


def get(name: str) -> Any:
    """What one of `NAMES` means; imports what it needs. AttributeError with the nearest name where there is none."""
    if name not in NAMES:
        raise AttributeError(
            f"module 'heedful' has no attribute '{name}'{did_you_mean(name, NAMES)}"
        )
    module, _, attribute = NAMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def run(name: str, /, **fields: Any) -> Any:
    """A whole command from Python: `run("train dpo", model="runs/sft", data="pairs.jsonl", out="runs/dpo", beta=0.2)`.

    Fields are the command's flags with underscores; what it returns is the recipe's, a folder mostly. UserError for
    what the command line would refuse.
    """
    from heedful.configs.commands import command, named, refuse
    from heedful.configs.typed import made
    from heedful.store.database.privacy import private_files

    found = command(name)
    config = named(found, made(found.flags.Config, {**found.sets, **fields}, name))
    refuse(found, config)
    recipe = importlib.import_module(f"heedful.{found.module}")
    with _outside_of_the_loop(), private_files() if found.private else nullcontext():
        return recipe.run(config)


@contextmanager
def _outside_of_the_loop() -> Iterator[None]:
    """A notebook's cells run inside an event loop, and a command has one of its own. Not in another thread, where an
    interrupt would not reach it: what runs here is set aside until the block ends."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio.set_event_loop(loop)  # a command's loop has taken its place
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


def load_learner(
    model: PreTrainedModel,
    *,
    lr: float,
    steps: int | None = None,
    sampling: Sampling | None = None,
    micro_batch_tokens: int = 8192,
    **options: Any,
) -> LocalLearner:
    """A learner of a policy by AdamW, at the rate `lr`, or with `steps` warmed up to it and falling linearly to 0.

    Loss functions read `out.logp` `[B, T]`, the log-probs under `sampling`, by default at temperature 1. Options are
    those of `learner.local.Optim`: `schedule`, `warmup`, `weight_decay`, `max_grad_norm`, …
    """
    from heedful.learner import load_learner as load
    from heedful.learner.local import Optim
    from heedful.training.forwards import policy_forward

    usual = {"schedule": "constant", "warmup": 0.0} if steps is None else {}
    optim = Optim(lr, steps or 1, **usual | options)
    return load(model, policy_forward(sampling), optim, micro_batch_tokens=micro_batch_tokens)


def logprobs(
    model: PreTrainedModel | Reference,
    batch: Batch,
    *,
    sampling: Sampling | None = None,
    micro_batch_tokens: int = 8192,
) -> Tensor:
    """Log-probs `[B, T]` of a batch's tokens under a model or a reference, without gradients."""
    from heedful.learner.local import predict
    from heedful.models.reference import Reference
    from heedful.training.forwards import policy_forward

    if isinstance(model, Reference):
        with model.active() as frozen:
            return predict(frozen, policy_forward(sampling), batch, micro_batch_tokens).logp
    return predict(model, policy_forward(sampling), batch, micro_batch_tokens).logp


def tasks(
    tokenizer: PreTrainedTokenizerBase,
    prompts: str | Path | Sequence[Prompt],
    facts: Sequence[Facts] | None = None,
) -> list[Task]:
    """What episodes begin with: prompts, encoded once, with the other columns of their rows. A string or a path is
    where to read both from."""
    from heedful.data.sources import read_questions
    from heedful.rollout import tasks as encoded

    if isinstance(prompts, str | Path):
        rows = read_questions(prompts)
        prompts, facts = [prompt for prompt, _ in rows], [other for _, other in rows]
    return encoded(tokenizer, prompts, facts)


async def rollout(
    engine: Engine,
    tasks: Sequence[Task],
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    n: int = 1,
    max_tokens: int = 48,
    sampling: Sampling | None = None,
    env: Env | str = "ask",
    limits: Limits | None = None,
    on_error: Literal["stop", "drop"] = "stop",
) -> list[list[Episode]]:
    """`n` episodes of each task, with at most `max_tokens` a turn. The same seed samples the same tokens again.

    `env` is a coroutine of (task, chat) or a registered name; by default the policy answers once.
    """
    from heedful.envs import Limits, load_env
    from heedful.rollout import episodes
    from heedful.types import Sampling

    return await episodes(
        engine,
        tasks,
        tokenizer,
        n=n,
        max_tokens=max_tokens,
        sampling=sampling or Sampling(),
        seed=seed,
        version=getattr(engine, "version", 0),
        env=load_env(env) if isinstance(env, str) else env,
        limits=limits or Limits(),
        on_error=on_error,
    )


def load_reward(
    specs: str | Path | Sequence[str],
    *,
    weights: Sequence[float] = (),
    normalise: bool = False,
    device: str = "cpu",
) -> Parts:
    """A reward as `--reward`, `--reward-weights` and `--normalise-rewards` have it: a model's folder, `numeric`,
    `package.module:function`, or the weighted sum of several."""
    from heedful.rewards import load_rewards

    given = str(specs) if isinstance(specs, Path) else specs
    return load_rewards(given, weights=weights, normalise=normalise, device=device)


async def score(
    reward: Parts | Callable[..., Any],
    episodes: Sequence[Sequence[Episode]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[list[Episode]]:
    """The episodes with what a reward says of their last turns on top of what they have; its parts are in `parts`.

    The reward is what `load_reward` gives, or a function such as `polite(prompt, response)`: docs/rewards.md.
    """
    from heedful.rewards import Part, Parts
    from heedful.rewards.functions import as_reward
    from heedful.rollout import score_episodes

    if not isinstance(reward, Parts):
        name = getattr(reward, "__name__", type(reward).__name__)
        reward = Parts([Part(name=name, members=(as_reward(reward, name),))])
    return await score_episodes(reward, episodes, tokenizer)


def collate(rows: Sequence[Sequence[Episode]] | Sequence[Sample]) -> Batch:
    """A right-padded batch of groups of episodes, as `rollout` gives them, or of samples."""
    from heedful.data.collate import collate as padded
    from heedful.rollout import as_samples
    from heedful.types import Sample

    samples: list[Sample] = []
    number = 0
    for group, row in enumerate(rows):
        if isinstance(row, Sample):
            samples.append(row)
            continue
        for episode in row:
            samples += as_samples(episode, group=group, number=number)
            number += 1
    return padded(samples)


def leave_one_out(batch: Batch) -> Tensor:
    """Advantages `[B]`: the rewards of each episode minus the mean of the others in its group (RLOO)."""
    from heedful.losses.advantages import by_episode
    from heedful.losses.advantages import leave_one_out as of_scores

    total = batch.reward + batch.step_rewards.sum(1)
    return by_episode(of_scores, total, batch.group, batch.episode)


def scored(batch: Batch, *, adv: Tensor, ref_logp: Tensor | None = None) -> Scored:
    """The batch with advantages, `[B]` of whole responses or `[B, T]`, and the reference's log-probs, by default the
    policy's own: what losses of policy gradients read."""
    from dataclasses import fields

    from heedful.types import Batch, Scored

    own: Mapping[str, Any] = {f.name: getattr(batch, f.name) for f in fields(Batch)}
    return Scored(
        **own,
        ref_logp=batch.old_logp if ref_logp is None else ref_logp,
        adv=(adv[:, None] if adv.ndim == 1 else adv) * batch.mask,
        weight=batch.mask.float(),
    )
