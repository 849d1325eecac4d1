"""Rows of Hugging Face datasets: `hf:NAME[:CONFIGURATION][:SPLIT]`, the split also cut: `train[:1000]`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from heedful.errors import UserError, did_you_mean

FIRST = re.compile(r"(.+)\[:(\d+)\]")  # the first N rows of a split


def hub_rows(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place. Of `SPLIT[:N]` no more than the first N rows are downloaded."""
    try:
        import datasets
    except ImportError:
        raise UserError(f"{source} needs datasets: pip install 'heedful[hub]'") from None
    name, config, split = _parts(source, datasets)
    first = FIRST.fullmatch(split)
    try:
        if first:
            rows: Any = datasets.load_dataset(name, config, split=first[1], streaming=True)
            rows = islice(rows, int(first[2]))
        else:
            rows = datasets.load_dataset(name, config, split=split)
        for number, row in enumerate(rows, start=1):
            yield f"{source} row {number}", dict(row)
    except Exception as error:  # offline, unknown name or split: the library has many types for it
        raise _refusal(source, datasets, name, config, split, error) from error


def _parts(source: str, datasets: Any) -> tuple[str, str | None, str]:
    """Name, configuration and split; a single word behind the name is a configuration if there is one of this name."""
    name, *rest = source.removeprefix("hf:").split(":")
    if not name:
        raise UserError(f"{source} names no data set; expected hf:NAME, such as hf:org/name:train")
    # Within brackets a colon belongs to a slice.
    words = re.findall(r"[^:\[]+(?:\[[^\]]*\])?", ":".join(rest))
    if len(words) > 2:
        raise UserError(f"{source}: expected hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIGURATION:SPLIT")
    if len(words) == 2:
        return name, words[0], words[1]
    usual = not words or words[0].split("[")[0] in ("train", "test", "validation")
    if not usual and words[0] in _configurations(datasets, name):
        return name, words[0], "train"
    return name, None, words[0] if words else "train"


def _configurations(datasets: Any, name: str) -> list[str]:
    try:
        return list(datasets.get_dataset_config_names(name))
    except Exception:  # what is wrong will be told by the loading itself
        return []


def _refusal(
    source: str, datasets: Any, name: str, config: str | None, split: str, error: Exception
) -> UserError:
    """One sentence, with the configurations or splits to choose from where that is what is missing."""
    reason = " ".join(str(error).split())
    configs = _configurations(datasets, name)
    if len(configs) > 1 and config not in configs:
        guess = did_you_mean(config, configs) if config else ""
        return UserError(
            f"{source}: name one of its configurations, {', '.join(configs)}{guess}, such as "
            f"hf:{name}:{configs[0]} or hf:{name}:{configs[0]}:train"
        )
    if "split" in reason.lower():
        try:
            splits = list(datasets.get_dataset_split_names(name, config))
        except Exception:  # then the library's own words must do
            splits = []
        if splits:
            which = ":".join(["hf", name, *([config] if config else []), splits[0]])
            return UserError(
                f"{source}: there is no split {split}; it has {', '.join(splits)}, such as {which}"
            )
    return UserError(f"{source} cannot be loaded: {reason[:160]}")
