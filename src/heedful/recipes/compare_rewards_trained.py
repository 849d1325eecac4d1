"""The reward models of `heedful compare rewards`: trained by the commands themselves, asked, and removed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs import attributes as of_attributes
from heedful.configs import reward_model as of_rewards
from heedful.configs.compare_rewards import Config
from heedful.data.collate import collate
from heedful.data.columns import comparison_columns
from heedful.data.files import read_rows
from heedful.data.sources import prompt_columns, write_rows
from heedful.errors import UserError
from heedful.evals.preferences import ordered
from heedful.learner.local import predict
from heedful.models.limits import context_length
from heedful.models.load import load_reward_model, load_tokenizer
from heedful.recipes import attributes, reward_model
from heedful.rewards.heads import Attributes, Cautious, heads_forward, heads_of, logits_of
from heedful.rewards.model import score_forward
from heedful.training.rows import TooLong, encoded, sequences, trimmed
from heedful.types import Comparison, Sample

LOOKED_AT = 64  # held-out comparisons that training itself evaluates on
MEASURED = 512  # comparisons by which a regression knows how far it is off
Chance = Callable[[Tensor, Tensor], Tensor]  # logits of two responses, `[N, C]` each → `[N]`


def trained(
    config: Config,
    name: str,
    sets: dict[str, Any],
    folder: Path,
    train: Sequence[Comparison],
    held: Sequence[Comparison],
) -> list[list[float]]:
    """P(i ≻ j) of the held-out comparisons by a reward model of `heedful train reward`."""
    best_only = name == "top_1"
    data = written(folder, "train", [top_1(c) if best_only else c for c in train])
    seen = written(folder, "held", held[:LOOKED_AT])
    reward_model.run(of_rewards.Config(**_common(config, folder, data, seen), **sets))
    model = load_reward_model(str(folder), several=True, device=config.device)
    heads = heads_of(model)
    if isinstance(heads, Cautious):
        chance: Chance = heads.preferred
    elif name == "rao_kupper":
        ((_, note), *_) = read_rows(folder / "record.jsonl")
        chance = without_ties(math.log((1 + note["ties"]) / (1 - note["ties"])))
    else:
        chance = lambda a, b: (a - b).squeeze(1).sigmoid()  # noqa: E731
    return _removed(folder, asked(config, model, folder, held, chance))


def regression(
    config: Config, folder: Path, train: Sequence[Comparison], held: Sequence[Comparison]
) -> list[list[float]]:
    """P(i ≻ j) by a regression on places as if they were ratings, with errors that are normal and alike: Φ(d/(s√2))."""
    files = [
        write_ratings(folder, "train", train),
        write_ratings(folder, "held", held[:LOOKED_AT]),
    ]
    attributes.run(of_attributes.Config(**_common(config, folder, *files)))
    model = load_reward_model(str(folder), several=True, device=config.device)
    heads = heads_of(model)
    assert isinstance(heads, Attributes)
    some = train[:MEASURED]
    places = torch.tensor([-float(p) for c in some for p in c.places])
    target = (places - heads.label_mean[0]) / heads.label_std[0]
    spread = float((torch.cat(logits(config, model, folder, some))[:, 0] - target).std())

    def chance(first: Tensor, second: Tensor) -> Tensor:
        return torch.special.ndtr((first - second)[:, 0] / (spread * math.sqrt(2)))

    return _removed(folder, asked(config, model, folder, held, chance))


def _common(config: Config, folder: Path, data: Path, held: Path) -> dict[str, Any]:
    names = (
        "model",
        "epochs",
        "batch_size",
        "learning_rate",
        "max_length",
        "seed",
        "device",
        "quiet",
    )
    return {name: getattr(config, name) for name in names} | {
        "data": str(data),
        "eval_data": str(held),
        "out": folder,
        "report_to": "none",
        "on_bad_row": config.on_bad_row,
    }  # fmt: skip


def without_ties(threshold: float) -> Chance:
    """Rao and Kupper's P(i ≻ j) where they do not tie."""

    def chance(first: Tensor, second: Tensor) -> Tensor:
        d = (first - second).squeeze(1)
        win, lose = (d - threshold).sigmoid(), (-d - threshold).sigmoid()
        return win / (win + lose)

    return chance


def asked(
    config: Config,
    model: PreTrainedModel,
    folder: Path,
    comparisons: Sequence[Comparison],
    chance: Chance,
) -> list[list[float]]:
    """P(i ≻ j) of every ordered pair of each comparison."""
    told = []
    for c, out in zip(comparisons, logits(config, model, folder, comparisons), strict=True):
        pairs = ordered(c)
        first, second = out[[i for i, _ in pairs]], out[[j for _, j in pairs]]
        told.append(chance(first, second).tolist() if pairs else [])
    return told


def logits(
    config: Config, model: PreTrainedModel, folder: Path, comparisons: Sequence[Comparison]
) -> list[Tensor]:
    """What a model puts out for the responses of each comparison, `[K, C]`."""
    tokenizer, heads = load_tokenizer(str(folder)), heads_of(model)
    limit = min(config.max_length or 1 << 30, context_length(model))
    groups = [_sequences(tokenizer, c, limit) for c in comparisons]
    batch = collate([sample for group in groups for sample in group])
    out = predict(model, heads_forward if heads else score_forward, batch, 8192)
    table = logits_of(out) if heads else out.score[:, None]
    return list(table.double().cpu().split([len(group) for group in groups]))


def _sequences(tokenizer: PreTrainedTokenizerBase, c: Comparison, limit: int) -> list[Sample]:
    """A comparison's responses, cut as rows of training are; every one is asked about, also where a cut leaves the same
    of all, of which each is then as good as the other."""
    try:
        return sequences(tokenizer, limit)(c)[1]
    except TooLong as error:
        if (cut := error.shorter()) is not None:
            return cut[1]
    except UserError:  # the same tokens
        pass
    return [trimmed(sample, limit) for sample in encoded(tokenizer, c)]


def top_1(c: Comparison) -> Comparison:
    """Of a ranking only which is best; the others are in no order."""
    best = min(c.places)
    return Comparison(
        c.prompt, c.responses, tuple(1 if place == best else None for place in c.places)
    )


def written(folder: Path, name: str, comparisons: Sequence[Comparison]) -> Path:
    """A file of comparisons beside a run's folder."""
    return _file(
        folder, name, [comparison_columns(c) | {"strength": c.strength} for c in comparisons]
    )


def write_ratings(folder: Path, name: str, comparisons: Sequence[Comparison]) -> Path:
    """Each response with its place, less than 0, so that more is better."""
    return _file(
        folder,
        name,
        [
            prompt_columns(c.prompt) | {"completion": text, "axis": "place", "value": -place}
            for c in comparisons
            for text, place in zip(c.responses, c.places, strict=True)
        ],
    )


def _file(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    file = folder.with_name(f"{folder.name}.{name}.jsonl")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_rows(file, rows)
    return file


def _removed(folder: Path, told: list[list[float]]) -> list[list[float]]:
    """What was asked for, once the model that said so is gone: there are forms × folds of them."""
    shutil.rmtree(folder)
    for name in ("train", "held"):
        folder.with_name(f"{folder.name}.{name}.jsonl").unlink()
    return told
