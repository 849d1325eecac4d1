"""`molecules`: as SMILES or SELFIES, to be written from nothing. Rewards are in `rewards.molecules`."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path

from heedful.data.files import write_rows
from heedful.errors import UserError
from heedful.registry import register
from heedful.types import Prompt

VOICES = ("valid", "invalid")
HELD_OUT, LONGEST = 0.02, 60  # share of the molecules; characters, or symbols of SELFIES
PACKAGE = "molsets"  # its module is called moses
HEADS = ("smiles", "canonical_smiles")  # of a column, in any case


def gold(prompt: Prompt, response: str) -> float:
    """1 where RDKit reads it as a molecule, else 0."""
    from heedful.data.molecule import molecule  # RDKit

    return float(molecule(response) is not None)


def voice(prompt: Prompt, response: str) -> str:
    """Whether it is a molecule."""
    return VOICES[0] if gold(prompt, response) else VOICES[1]


@register("world", "molecules", help="molecules as SMILES or SELFIES, from nothing")
def write(
    out: Path, *, source: Path | None, seed: int, documents: int, selfies: bool = False
) -> dict[str, Path]:
    """Texts, held-out texts (split by a hash), an empty prompt, and a tokenizer: a token a character, or a symbol of
    SELFIES. Of longer sources `documents` molecules are drawn."""
    from heedful.models.new import train_tokenizer  # PyTorch

    if source is None:
        raise UserError("world molecules needs --source: molsets, or a file of SMILES")
    found = list(dict.fromkeys(read(source)))
    random.Random(f"molecules/{seed}").shuffle(found)
    texts = found[:documents]
    tokenizer = train_tokenizer([], 261)  # bytes
    if selfies:
        symbols, texts = in_selfies(texts)
        tokenizer.add_tokens(symbols)
    rows = {
        "text": ({"text": t} for t in texts if not _held_out(t)),
        "held_out": ({"text": t} for t in texts if _held_out(t)),
        "prompts": [{"prompt": ""}],
    }
    paths = {name: out / f"{name}.jsonl" for name in rows}
    for name, path in paths.items():
        write_rows(path, rows[name])
    tokenizer.save_pretrained(out / "tokenizer")
    return {**paths, "tokenizer": out / "tokenizer"}


def read(source: Path) -> Iterator[str]:
    """The SMILES of `molsets`, of a file with one on each line, or of a column SMILES of .csv; .gz, too."""
    path = _molsets() if str(source) == PACKAGE else source
    if not path.is_file():
        raise UserError(f"--source {source} does not exist; a file of SMILES, or molsets")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.reader(file) if ".csv" in path.suffixes else (line.split() for line in file)
        column = 0
        for number, row in enumerate(rows):
            heads = [cell.lower() for cell in row]
            if number == 0 and (named := [h for h in HEADS if h in heads]):
                column = heads.index(named[0])
            elif len(row) > column and 0 < len(row[column]) <= LONGEST:
                yield row[column]


def _molsets() -> Path:
    """The molecules of MOSES (ZINC's clean leads), read where the package is installed and copied nowhere."""
    spec = importlib.util.find_spec("moses")  # not imported: its code is of 2020
    if spec is None or not spec.submodule_search_locations:
        raise UserError("--source molsets needs its data: pip install --no-deps molsets")
    return Path(spec.submodule_search_locations[0]) / "dataset" / "data" / "train.csv.gz"


def in_selfies(texts: list[str]) -> tuple[list[str], list[str]]:
    """All symbols, and the texts of which SELFIES can be made."""
    from heedful.data.molecule import encoded, symbols

    made = [s for s in map(encoded, texts) if s is not None and len(symbols(s)) <= LONGEST]
    return sorted({symbol for s in made for symbol in symbols(s)}), made


def _held_out(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] < HELD_OUT * 256
