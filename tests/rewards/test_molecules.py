"""Molecules: what RDKit reads, what it is worth, SMILES and SELFIES alike; and the world that is made of a file."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

from heedful.cli import main
from heedful.errors import UserError

ASPIRIN, STEREO = "CC(=O)Oc1ccccc1C(=O)O", "C[C@@H](N)C(=O)O"


@pytest.fixture
def rdkit():
    pytest.importorskip("rdkit")
    pytest.importorskip("selfies")
    from heedful.rewards import molecules

    return molecules


def test_what_is_a_molecule(rdkit):
    """Mutation caught: five bonds at a carbon, an open ring, nothing, a name behind a space, SMILES of brackets alone
    taken for SELFIES, and SELFIES that nobody decodes."""
    valid = rdkit.molecule_valid()
    good = (ASPIRIN, STEREO, " C", "[Na+].[Cl-]", "[CH4]", "[C][C][=O]")
    bad = ("", " ", "C(C)(C)(C)(C)C", "c1ccccc", "C1CC", "C C", "hello", "[C][Nothing]")
    assert [valid("", m) for m in (*good, *bad)] == [1] * len(good) + [0] * len(bad)


def test_worth(rdkit):
    """Aspirin's SA score is 1.58 and its QED .55 by RDKit's own pages. Mutation caught: 10 the easy end, no molecule
    worth more than a bad one, SELFIES scored as another molecule."""
    from heedful.data.molecule import encoded

    sa, qed = rdkit.molecule_sa(), rdkit.molecule_qed()
    assert abs(sa("", ASPIRIN) - (10 - 1.58) / 9) < 1e-3 and abs(qed("", ASPIRIN) - 0.55) < 0.01
    assert sa("", "C1CC") == qed("", "C1CC") == 0
    for score in (sa, qed):
        assert score("", encoded(ASPIRIN) or "") == score("", ASPIRIN)


def test_without_the_package(monkeypatch, tmp_path):
    """Mutation caught: a traceback where an extra is missing."""
    from heedful.data import molecule

    molecule.package.cache_clear()
    molecule.molecule.cache_clear()
    monkeypatch.setitem(sys.modules, "rdkit.Chem", None)
    with pytest.raises(
        UserError, match=r"molecules need rdkit: pip install 'heedful\[molecules\]'"
    ):
        molecule.molecule("C")
    molecule.package.cache_clear()


def test_a_world_of_a_file(tmp_path, capsys):
    """A column of a .csv.gz, or a molecule on each line; double ones once; the tokenizer gives each back. Mutation
    caught: another column, the head as a molecule, a name behind the SMILES."""
    source = tmp_path / "m.csv.gz"
    with gzip.open(source, "wt") as file:
        file.write(f'name,SMILES\n"x, y",{ASPIRIN}\nb,{STEREO}\nc,{STEREO}\n')
    plain = tmp_path / "m.smi"
    plain.write_text(f"{ASPIRIN} aspirin\n{STEREO}\tala\n\n{'C' * 80}\n")
    for path in (source, plain):
        out = tmp_path / f"{path.name}.world"
        assert main(["world", "molecules", "--source", str(path), "--out", str(out)]) == 0
        rows = [
            json.loads(line)["text"]
            for name in ("text", "held_out")
            for line in (out / f"{name}.jsonl").open()
        ]
        assert sorted(rows) == sorted([ASPIRIN, STEREO])
    from heedful.models.load import load_tokenizer

    tok = load_tokenizer(out / "tokenizer")
    assert len(tok(ASPIRIN)["input_ids"]) == len(ASPIRIN)
    assert main(["world", "molecules", "--out", str(tmp_path / "w")]) == 2
    assert "needs --source" in capsys.readouterr().err


def test_a_world_of_selfies(rdkit, tmp_path):
    """A token a symbol. Mutation caught: symbols that fall into bytes."""
    source, out = tmp_path / "m.smi", tmp_path / "w"
    source.write_text(f"{ASPIRIN}\n")
    words = ["world", "molecules", "--source", str(source), "--out", str(out), "--selfies"]
    assert main(words) == 0
    from heedful.data.molecule import symbols
    from heedful.models.load import load_tokenizer

    [text] = [
        json.loads(line)["text"]
        for name in ("text", "held_out")
        for line in (out / f"{name}.jsonl").open()
    ]
    assert rdkit.molecule_valid()("", text) == 1
    assert len(load_tokenizer(out / "tokenizer")(text)["input_ids"]) == len(symbols(text))
