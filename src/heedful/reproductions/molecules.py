"""KL control: molecules that are easily made, by a model of strings, with and without something that holds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result
from heedful.reproductions.kl_control import prior_logps

LONGEST, SAMPLES, BATCH = 61, 256, 64  # characters and the end
PRIOR = {
    "hidden_size": 96,
    "layers": 2,
    "heads": 4,
    "context": 64,
    "pack_length": 256,
    "batch_size": 32,
}
DOCUMENTS, STEPS, ROUNDS = (
    20_000,
    500,
    80,
)  # molecules; steps of the prior; rounds of what is optimised
RLOO = {"group_size": 8, "learning_rate": 1e-3}
ARMS = {"β = 0": 0.0, "KL": 0.25}
FEW = ("CCO", "CC(=O)NC", "c1ccccc1O", "CCN(C)C", "CC(C)C=O", "OCC1CCCO1")  # what `quick` reads


def run(seed: int, folder: Path, quick: bool) -> Result:
    """A prior of molecules, and from it both arms; then as many samples of each. A stage that is there is not made
    again. `quick` reads a few molecules."""
    import heedful as hd

    world, few = folder / "world", 40 if quick else 1
    common = {"seed": seed, "quiet": True, "report_to": "none", "schedule": "cosine"}
    if not (world / "tokenizer").exists():
        source = Path("molsets")
        if quick:
            source = folder / "few.smi"
            source.write_text("\n".join(FEW * 20), encoding="utf-8")
        hd.run("world", name="molecules", out=world, seed=seed, source=source, documents=DOCUMENTS)
    models = {"prior": folder / "prior"}
    if not (models["prior"] / "config.json").exists():
        hd.run("train pretrain", data=str(world / "text.jsonl"), tokenizer=str(world / "tokenizer"), start_token=True,
               out=models["prior"], steps=STEPS // few, **PRIOR, **common)  # fmt: skip
    for name, beta in ARMS.items():
        models[name] = folder / name.replace(" ", "")
        if not (models[name] / "config.json").exists():
            hd.run("train rloo", model=str(models["prior"]), data=str(world / "prompts.jsonl"), out=models[name],
                   reward=("molecule_sa",), beta=beta, steps=max(1, ROUNDS // few), batch_size=BATCH,
                   max_tokens=LONGEST, **RLOO, **common)  # fmt: skip
    found: dict[str, Any] = {}
    for name, model in models.items():
        out = folder / f"{model.name}.jsonl"
        hd.run("sample", model=str(model), data=str(world / "prompts.jsonl"), n=SAMPLES // min(few, 8), out=out,
               max_tokens=LONGEST, seed=1000 + seed, quiet=True)  # fmt: skip
        rows = [json.loads(line) for line in out.open(encoding="utf-8")]
        logp = prior_logps([row["tokens"] for row in rows], models["prior"])
        kl = fmean(row["logprob"] - p for row, p in zip(rows, logp, strict=True))
        numbers = measured([row["completion"] for row in rows]) | {"KL": kl}
        found |= {f"{name}: {k}": v for k, v in numbers.items()}
    return found | {
        "KL: SA less the prior's": found["KL: SA"] - found["prior: SA"],
        "KL: valid less the prior's": found["KL: valid"] - found["prior: valid"],
        "KL: atoms / prior's": found["KL: atoms"] / max(found["prior: atoms"], 1e-9),
    }


def measured(texts: Sequence[str]) -> dict[str, float]:
    """Of texts the share that are molecules; of these the mean SA score and number of atoms, the share of different
    ones, and the mean Tanimoto distance of two of them by Morgan fingerprints of radius 2. 0 where there is none."""
    from heedful.data.molecule import molecule, package
    from heedful.rewards.molecules import accessibility

    chem, valid = package("rdkit.Chem"), [t for t in texts if molecule(t) is not None]
    if not valid:
        return dict.fromkeys(("valid", "SA", "atoms", "distinct", "diversity"), 0.0)
    generator = package("rdkit.Chem.rdFingerprintGenerator").GetMorganGenerator(
        radius=2, fpSize=1024
    )
    alike = package("rdkit.DataStructs").BulkTanimotoSimilarity
    prints = [generator.GetFingerprint(molecule(t)) for t in valid]
    distances = [1 - s for i, one in enumerate(prints) for s in alike(one, prints[:i])]
    return {
        "valid": len(valid) / len(texts),
        "SA": fmean(accessibility(t) or 0.0 for t in valid),
        "atoms": fmean(molecule(t).GetNumAtoms() for t in valid),
        "distinct": len({chem.MolToSmiles(molecule(t)) for t in valid}) / len(valid),
        "diversity": fmean(distances) if distances else 0.0,
    }


def figure(seeds: Sequence[Result]) -> Figure:
    """Where each arm is: how far from the prior, and how varied."""
    return Figure(
        title="Different molecules among the valid ones of 256, against KL to the prior",
        x="KL (nats a molecule)",
        y="share of different molecules",
        lines={
            name: [(s[f"{name}: KL"], s[f"{name}: distinct"]) for s in seeds]
            for name in ("prior", *ARMS)
        },
    )


REPRODUCTION = Reproduction(
    name="molecules",
    claim="A model of molecules that maximises how easily they are made ends in a few of the simplest; held to its "
    "prior by KL it writes more that are molecules, and easier ones, of much the same size and variety.",
    source="Jaques et al. 2017; Ertl & Schuffenhauer 2009 (the score)",
    what=f"A Llama of {PRIOR['layers']} layers and width {PRIOR['hidden_size']} learns {DOCUMENTS:,} of the SMILES "
    "of MOSES (molsets), a token a character. RLOO maximises (10 − SA)/9, 0 for what is no molecule, with β = 0 and "
    f"with KL in the reward at β = {ARMS['KL']:g}, chosen after pilots with another seed (at 0.1 most are molecules, "
    f"of .64 of the prior's atoms, .75 of them different). {SAMPLES} texts of each from nothing; SA, atoms and "
    "variety (diversity: the mean Tanimoto distance of two) are of those that are molecules.",
    frozen="2026-11-30",
    criteria=(
        Criterion("KL: SA score against the prior's", "KL: SA less the prior's", "at most", 0.0, "interval"),
        Criterion("KL: valid ones against the prior's", "KL: valid less the prior's", "at least", 0.0),
        Criterion("KL: different molecules", "KL: distinct", "at least", 0.9),
        Criterion("KL: diversity", "KL: diversity", "at least", 0.75),
        Criterion("KL: atoms against the prior's", "KL: atoms / prior's", "at least", 0.8),
        Criterion("β = 0: different molecules", "β = 0: distinct", "at most", 0.1),
    ),
    run=run,
    minutes=6,
    figure=figure,
)  # fmt: skip
