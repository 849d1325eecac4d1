"""Texts as molecules, by RDKit: SMILES, or SELFIES, in which nothing stands but symbols in brackets.

RDKit and selfies are the extra `molecules`, and are imported when they are needed.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from heedful.errors import of_extra

SELFIES = re.compile(r"(\[[^\[\]\s]+\]|\.)+")


@functools.cache
def package(name: str) -> Any:
    """A module of the extra; UserError where it is missing."""
    return of_extra(name, "molecules", "molecules need")


@functools.lru_cache(maxsize=1 << 14)
def molecule(text: str) -> Any:
    """RDKit's molecule of a text, None where it is none: it cannot be read, its valences are wrong, or it is empty."""
    chem = package("rdkit.Chem")
    package("rdkit.RDLogger").DisableLog("rdApp.*")  # which explains each mistake on stderr
    text = text.strip()
    if SELFIES.fullmatch(text) and (decoded := _decoded(text)) is not None:
        text = decoded
    if not text or " " in text or "\0" in text:  # what stands behind a space is a name to RDKit
        return None
    found = chem.MolFromSmiles(text)
    return found if found is not None and found.GetNumAtoms() else None


def _decoded(text: str) -> str | None:
    """SMILES of SELFIES; None where a symbol is unknown, as those of SMILES like [nH][CH3] are."""
    selfies = package("selfies")
    try:
        return selfies.decoder(text) or None
    except selfies.DecoderError:
        return None


def encoded(smiles: str) -> str | None:
    """SELFIES of SMILES, None where there is none."""
    selfies = package("selfies")
    try:
        return selfies.encoder(smiles)
    except selfies.EncoderError:
        return None


def symbols(text: str) -> list[str]:
    """The symbols of SELFIES."""
    return list(package("selfies").split_selfies(text))
