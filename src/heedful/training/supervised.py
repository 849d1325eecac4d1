"""What the training recipes do alike: the supervised loop, batches by epochs, saving."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heedful.configs.common import ByEpochs, Training, refuse_nonsense
from heedful.data.collate import shuffled
from heedful.data.files import write_json
from heedful.evals.alarms import Alarms
from heedful.launch import refuse_count
from heedful.learner.local import LocalLearner, Loss, LossFn, Optim
from heedful.ranks import Ranks
from heedful.run import Run, check_out, hub
from heedful.training.kept import Parts
from heedful.training.rows import ROWS
from heedful.training.saving import Save, finish, rehearse, saver
from heedful.transfer.sources import materialise
from heedful.types import Batch, Comparison, LabelledResponse, Metrics, Outputs, Stateful

log = logging.getLogger("heedful")
T = TypeVar("T", Comparison, LabelledResponse)
Begun = TypeVar("Begun", bound=Any)
Item = TypeVar("Item")
EVALUATIONS = 4  # how often a supervised run looks at its held-out part
AT_ONCE = 4096  # items of it at once


def begun(config: Begun, what: str, ranks: Ranks) -> Begun:
    """The config of a run that may take its --out; of `db:` all ranks read the same export of `what`."""

    refuse_count(config.nproc, ranks.world)

    def first() -> Begun:
        read = replace(config, data=materialise(config.data, what))
        if held := getattr(config, "eval_data", None):
            read = replace(read, eval_data=materialise(held, what, split="held_out"))
        check_out(read)
        hub.check(read.push_to_hub)
        return read

    return ranks.on_first(first)


def fit(
    config: Training,
    learner: LocalLearner,
    stream: Callable[[int], Iterable[Batch]],
    loss_fn: LossFn,
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: int,
    evaluate: Callable[[], Metrics],
    per: Literal["token", "group"] = "token",
    show: tuple[str, ...] = ("loss", "eval/loss", "tokens_per_second"),
    after_step: Callable[[], None] = lambda: None,
    before_save: Callable[[], None] = lambda: None,
    stateful: Mapping[str, Stateful] | None = None,
    notes: Sequence[Mapping[str, Any]] = (),
    beside: Mapping[str, Any] | None = None,
    rows: Parts | None = None,
) -> Path:
    """The supervised loop: step, evaluate, log, save; `after_step()` moves what the optimiser does not, `before_save()`
    may write into the model's config.

    `stream(n)` gives the batches after the first n, lazily and the same ones whenever it is asked, so the number of
    steps is all that a run need know of its data to go on. `stateful` are what else changes during training, `beside`
    are values by the names of JSON files that belong to the run. `rows` are kept until it is finished.
    """
    alarms = Alarms()
    stateful = {"learner": learner, "alarms": alarms, **(stateful or {})}
    save = saver(learner, tokenizer, config)
    with opened(config, steps, show, learner.ranks) as run:
        start = run.restore(stateful)
        keep_notes(run, start, notes)
        if rows is not None:
            learner.ranks.on_first(rows.keep, config.out / ROWS)
        for name, value in (beside or {}).items():
            learner.ranks.on_first(write_json, config.out / name, value)
        rehearse(run, learner, tokenizer, config)
        last = time.monotonic()
        for step, batch in enumerate(stream(start), start + 1):
            metrics = learner.step(loss_fn, batch, per=per)
            after_step()
            now = time.monotonic()
            metrics["tokens_per_second"] = float(batch.lengths.sum()) / (now - last)
            if evaluates_at(config, step, steps):
                metrics |= evaluate()
            if saves_at(config, step):
                before_save()
            close_step(run, config, step, metrics, alarms, save, stateful)
            last = time.monotonic()
        before_save()
        finish(run, save, config)
    return config.out


def cross_entropy(out: Outputs, batch: Batch) -> Loss:
    """−log π of every token that the mask names."""
    return Loss(-out.logp)


def opened(config: Training, steps: int, show: tuple[str, ...], ranks: Ranks) -> Run:
    """The run of a config; `show` are the metrics beside its progress bar."""
    return Run(
        config.out,
        config,
        total_steps=steps,
        quiet=config.quiet,
        report_to=config.report_to,
        show=show,
        ranks=ranks,
    )


def keep_notes(run: Run, start: int, notes: Sequence[Mapping[str, Any]]) -> None:
    """What `training.rows` has dropped or cut, in the run's record."""
    for note in notes:
        run.record(step=start, **note)


def evaluates_at(config: Training, step: int, steps: int) -> bool:
    """Whether the held-out part is looked at after this step: a few times a run, and where the best is to be kept."""
    due = step == steps or step % max(1, -(-steps // EVALUATIONS)) == 0
    return due or (saves_at(config, step) and bool(config.keep_best))


def saves_at(config: Training, step: int) -> bool:
    """Whether a checkpoint is due after this step."""
    return bool(config.save_every) and step % config.save_every == 0


def close_step(
    run: Run,
    config: Training,
    step: int,
    metrics: Metrics,
    alarms: Alarms,
    save: Save,
    stateful: Mapping[str, Stateful],
) -> None:
    """What follows each step of any training: its line, advice, a checkpoint and the state to go on from."""
    if step % config.log_every == 0 or step == run.total_steps:
        run.log(step, metrics)
    run.advise(step, alarms.look(step, metrics))
    if saves_at(config, step):
        run.checkpoint(step, save(), metrics)
    run.keep(step, stateful)


def batches(
    items: int, size: int, steps: int, seed: int, start: int = 0, *, rows: int | None = None
) -> Iterator[list[int]]:
    """Batches `start` … `steps` − 1 of `size` indices: one shuffled pass over the items after the other.

    A batch at the end of a pass is filled from the next one, so that every step means the same; where no pass
    follows, after `rows` rows in all, the last one is smaller and its mean one over fewer.
    """
    return (rows_at(items, size, number, seed, rows) for number in range(start, steps))


def rows_at(items: int, size: int, number: int, seed: int, rows: int | None = None) -> list[int]:
    """Batch 0, 1, … of the stream, which ends after so many rows if at all: a pure function, so that there is no
    cursor to save or to lose."""
    end = (number + 1) * size
    places = range(number * size, end if rows is None else min(end, rows))
    return [_pass(items, seed, place // items)[place % items] for place in places]


@functools.lru_cache(maxsize=2)
def _pass(items: int, seed: int, epoch: int) -> Sequence[int]:
    return shuffled(items, seed, epoch)


def epochs(config: ByEpochs, items: int, steps: int, start: int) -> Iterator[list[int]]:
    """`batches` of a config's epochs after the first `start` ones: every item once an epoch."""
    rows = row_count(config, items)
    return batches(items, config.batch_size, steps, config.seed, start, rows=rows)


def drawn(config: ByEpochs, items: int, steps: int) -> Sequence[int] | None:
    """The items that so many steps draw, in order; None where they draw them all."""
    if steps * config.batch_size >= items:
        return None
    return sorted({i for rows in epochs(config, items, steps, 0) for i in rows})


def evaluated(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """What is held out, in parts that fit into memory: in one, unless it is much."""
    return (items[i : i + AT_ONCE] for i in range(0, len(items), AT_ONCE))


def token_mean(
    learner: LocalLearner, batches: Iterable[Batch], value: Callable[[Outputs], Tensor]
) -> float:
    """The mean of a value `[B, T]`, which is 0 where the mask is False, over the tokens of held-out batches."""
    total = count = 0.0
    for batch in batches:
        total += float(value(learner.outputs(batch)).sum())
        count += float(batch.mask.sum())
    return total / count


def row_count(config: ByEpochs, items: int) -> int:
    """Rows in the epochs over so many items: each item once an epoch."""
    return max(1, round(items * config.epochs))


def step_count(config: ByEpochs, items: int) -> int:
    """Optimiser steps in the epochs over so many items, or --steps if that is less."""
    refuse_nonsense(config)
    held = -(-row_count(config, items) // config.batch_size)
    if config.steps is not None and config.steps > held:
        log.warning(
            "--steps %d: %g epochs hold %d steps and end first; raise --epochs for more",
            config.steps,
            config.epochs,
            held,
        )
    return min(held, config.steps or held)


def optim(config: Training, total_steps: int, **other: float) -> Optim:
    """The optimiser that a config describes; `other` fields of `Optim` take precedence."""
    described = Optim(
        learning_rate=config.learning_rate,
        total_steps=total_steps,
        schedule=config.schedule,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
    )
    return replace(described, **other)  # type: ignore[arg-type]
