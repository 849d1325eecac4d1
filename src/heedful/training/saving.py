"""How a run saves its model: with a card, rehearsed at each start, and sent to the hub at the end if asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from heedful.configs.common import Training
from heedful.disk import scratch
from heedful.errors import UserError
from heedful.learner.local import LocalLearner
from heedful.models.adapter_files import adapter_base
from heedful.models.rehearsal import SMALL, check_saved, size
from heedful.models.sharded import is_sharded
from heedful.run import Run, hub
from heedful.training.card import card

Save = Callable[[], Callable[[Path], None]]


def saver(learner: LocalLearner, tokenizer: PreTrainedTokenizerBase, config: Training) -> Save:
    """A function that all ranks call, and that gives what writes the model as it is then, with a model card, into a
    folder.

    With LoRA that is the adapter alone, or with --lora.merge a whole model.
    """

    def write(folder: Path) -> None:
        learner.save(folder, tokenizer, merge=config.lora.merge)
        (folder / "README.md").write_text(card(config, folder, learner.model), encoding="utf-8")

    def save() -> Callable[[Path], None]:
        learner.gather()
        return write

    return save


def rehearse(
    run: Run, learner: LocalLearner, tokenizer: PreTrainedTokenizerBase, config: Training
) -> None:
    """Save into a scratch folder as the end will, and compare; of a large model everything but its weights. Also when a
    run goes on, perhaps with another library or disk.

    Whatever is raised is a UserError, since it would have been raised when everything was spent.
    """
    model = learner.model
    large = size(model) > SMALL or is_sharded(model)
    base = None if config.lora.merge else adapter_base(model)
    if config.push_to_hub and base and Path(base).is_dir():
        raise UserError(
            f"--push-to-hub: the adapter stands on {base}, which nobody else has; add --lora.merge, or train on a "
            "model of the hub"
        )

    if large and (free := shutil.disk_usage(config.out).free) < size(model):
        raise UserError(
            f"the disk of {config.out} has {free / 2**30:.3g} GiB left, and the model needs "
            f"{size(model) / 2**30:.3g} GiB"
        )

    def first() -> None:
        with scratch(config.out) as folder:
            try:
                learner.save(folder, tokenizer, merge=config.lora.merge, weights=not large)
                card(config, folder, model)
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                raise UserError(f"{config.out}: the model could not be saved: {reason}") from error
            check_saved(folder, model, tokenizer, weights=not large)

    run.ranks.on_first(first)


def finish(run: Run, save: Save, config: Training) -> None:
    """The last save, and the run's folder to the hub where --push-to-hub names a place."""
    run.finish(save())
    if config.push_to_hub:
        run.ranks.on_first(hub.push, config.out, config.push_to_hub)
