"""Rewards for molecules as SMILES or SELFIES, by RDKit (extra `molecules`); what is no molecule is worth 0."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heedful.data.molecule import molecule, package
from heedful.registry import register
from heedful.types import Prompt

Score = Callable[[Prompt, str], float]


@register("reward", "molecule_valid", help="1 for a molecule, by RDKit")
def molecule_valid() -> Score:
    """1 where RDKit reads the response and its valences are right."""
    molecule("C")  # is it installed?
    return lambda prompt, response: float(molecule(response) is not None)


@register("reward", "molecule_sa", help="how easily a molecule is made, 0 to 1")
def molecule_sa() -> Score:
    """(10 − SA)/9 of the synthetic-accessibility score, 1 (easy) to 10 (Ertl & Schuffenhauer 2009), 0 for none."""
    accessibility("C")
    return lambda prompt, response: 0.0 if (s := accessibility(response)) is None else (10 - s) / 9


@register("reward", "molecule_qed", help="how drug-like a molecule is, 0 to 1")
def molecule_qed() -> Score:
    """QED, the quantitative estimate of drug-likeness, 0 to 1 (Bickerton et al. 2012), 0 for none."""
    package("rdkit.Chem.QED")
    return lambda prompt, response: drug_likeness(response) or 0.0


def accessibility(text: str) -> float | None:
    """SA score from 1, easy to make, to 10; None for no molecule."""
    found = molecule(text)
    return None if found is None else float(_sascorer().calculateScore(found))


def drug_likeness(text: str) -> float | None:
    """QED; None for no molecule."""
    found = molecule(text)
    return None if found is None else float(package("rdkit.Chem.QED").qed(found))


@functools.cache
def _sascorer() -> Any:
    """RDKit ships it as a script beside its modules."""
    folder = Path(package("rdkit.RDConfig").RDContribDir) / "SA_Score"
    sys.path.append(str(folder))
    try:
        return package("sascorer")
    finally:
        sys.path.remove(str(folder))
