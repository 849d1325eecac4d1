"""What a small model can judge of real comparisons, and what it cannot: the forms of `--judge llm:` on HH-RLHF.

    python docs/results/hh_judges.py COMPARISONS.jsonl.gz [SEED …]   # some 2 minutes of one core a seed

COMPARISONS holds {"chosen", "rejected"} transcripts, e.g. Anthropic's harmless-base (hf:Anthropic/hh-rlhf). The model,
of two layers, 64 wide, is made on the spot from one third of the prompts: pre-trained on their text and fine-tuned on
the conversations, both responses of each pair, so that nobody's labels are in it. It is asked about the pairs of the
other prompts, as it is and after it was taught each form's answers with the labels of its third: which letter is the
better one's, whether Yes or No, what a good and a bad assistant says. N-grams learn from that third, too. Only pairs of
at most 1,300 characters are used, and 300 are asked about, since every question is read by the model several times.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from heedful.data.context import in_context
from heedful.data.sources import (
    prompt_columns,
    prompt_text,
    read_comparisons,
    split_by_prompt,
    write_rows,
)
from heedful.evals.statistics import crossed_ci
from heedful.models.load import load_tokenizer
from heedful.raters.asking import ONE, Letters, agreements
from heedful.raters.model import QUESTION, ModelJudge, Options
from heedful.recipes import baselines, pretrain, sft
from heedful.recipes.demo import machine
from heedful.remote.endpoint import fill
from heedful.types import Comparison, Message, Prompt

OUT = Path(__file__).with_name("hh_judges.json")
WORTH = {"0": 0.0, "h": 0.5, "1": 1.0}
FORMS, ARMS = ("ab", "yesno", "contrast"), ("as it is", "taught")
LONGEST, ASKED = 1300, 300  # characters of a comparison; pairs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("comparisons")
    parser.add_argument("seeds", nargs="*", type=int, default=range(4))
    asked = parser.parse_args()
    read = read_comparisons(asked.comparisons, skip_bad=True)
    short = [c for c in read if len(prompt_text(c.prompt)) + sum(map(len, c.responses)) <= LONGEST]
    others, own = split_by_prompt(short, lambda c: c.prompt, 1 / 3)
    others = others[:ASKED]
    done = json.loads(OUT.read_text()) if OUT.exists() else {"seeds": {}}
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as folder:
            done["seeds"][str(seed)] = judged(Path(folder), seed, own, others)
        done |= {"beside": beside(own, others), "pairs": len(others), "labels": len(own)}
        done["means"] = means(done["seeds"])
        done["machine"] = {**machine(), "threads": torch.get_num_threads()}
        OUT.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")
        print(json.dumps(done["means"], indent=1), flush=True)


def judged(
    folder: Path, seed: int, own: Sequence[Comparison], others: Sequence[Comparison]
) -> dict[str, Any]:
    """By arm and form what the judges say; `right` has 1, h (a half, no choice) or 0 of each pair."""
    began = time.process_time()
    text = ({"text": f"{prompt_text(c.prompt)}\nassistant: {r}"} for c in own for r in c.responses)
    write_rows(folder / "text.jsonl", text)
    pretrain.run(
        pretrain.Config(
            data=str(folder / "text.jsonl"), out=folder / "base", context=1024, hidden_size=64, layers=2, heads=2,
            vocab_size=2000, steps=400, pack_length=128, batch_size=8, learning_rate=3e-3, seed=seed, quiet=True,
            report_to="none",
        )
    )  # fmt: skip
    rows = [prompt_columns(c.prompt) | {"completion": r} for c in own for r in c.responses]
    tuned(folder, seed, "base", "as it is", rows)
    tokenizer = load_tokenizer(str(folder / "as it is"))
    told = [row for c in own for row in answers(tokenizer, c)]
    tuned(folder, seed, "as it is", "taught", told)
    found: dict[str, Any] = {}
    for arm in ARMS:
        for form in FORMS:
            found.setdefault(arm, {})[form] = asked_in(form, str(folder / arm), others)
            print(seed, arm, form, f"{found[arm][form]['agreement']:.3f}", flush=True)
    return found | {"processor_seconds": round(time.process_time() - began)}


def tuned(folder: Path, seed: int, model: str, out: str, rows: Sequence[dict[str, Any]]) -> None:
    write_rows(folder / f"{out}.jsonl", rows)
    sft.run(
        sft.Config(
            model=str(folder / model), data=str(folder / f"{out}.jsonl"), out=folder / out, batch_size=8,
            learning_rate=1e-3, on_bad_row="drop", held_out=0, seed=seed, quiet=True, report_to="none",
        )
    )  # fmt: skip


def answers(tokenizer: Any, c: Comparison) -> list[dict[str, Any]]:
    """What each form asks about a comparison, with the answers that people's choice gives."""
    better, worse = (c.responses[c.places.index(place)] for place in sorted(set(c.places)))
    told = Options()
    asked: list[tuple[Prompt, str]] = []
    for a, b, answer in ((better, worse, "A"), (worse, better, "B")):
        asked.append((_question(QUESTION, prompt=c.prompt, a=a, b=b), answer))
    for response, answer in ((better, "Yes"), (worse, "No")):
        asked.append((_question(ONE, prompt=c.prompt, response=response), answer))
    for persona, response in ((told.good, better), (told.bad, worse)):
        asked.append((in_context(tokenizer, c.prompt, persona), response))
    return [prompt_columns(prompt) | {"completion": answer} for prompt, answer in asked]


def _question(question: str, prompt: Prompt, **values: str) -> Prompt:
    return (Message("user", fill(question, {"prompt": prompt_text(prompt)} | values)),)


def asked_in(form: Any, folder: str, people: Sequence[Comparison]) -> dict[str, Any]:
    """What one form of judge says of the pairs."""
    judge = ModelJudge.load(folder, Options(form=form))
    judge.letters = Letters(form, force=True)
    said = [judge.judge(c.prompt, c.responses) for c in people]
    right = agreements(people, said)
    shorter = [
        float((c.places[0] < c.places[1]) == (len(c.responses[0]) < len(c.responses[1])))
        for c in said
        if len(set(map(len, c.responses))) == len(set(c.places)) == 2
    ]
    letters = judge.letters
    return {
        "agreement": fmean(right),
        "prefers the shorter": fmean(shorter) if shorter else None,
        "same letter in both orders": letters.same / letters.pairs if letters.pairs else None,
        "right": "".join(letter for x in right for letter, w in WORTH.items() if w == x),
    }


def beside(own: Sequence[Comparison], others: Sequence[Comparison]) -> dict[str, Any]:
    """Length and n-grams on the same pairs."""
    by_words = baselines.ngram_scorer(own)
    return {
        "the shorter wins": baselines._accuracy(lambda c: [-float(len(r)) for r in c.responses], others),
        "n-grams": baselines._accuracy(by_words, others),
    }  # fmt: skip


def means(seeds: dict[str, Any]) -> dict[str, Any]:
    """Over seeds, with intervals over seeds and prompts."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        for form in FORMS:
            each = [of[arm][form] for of in seeds.values()]
            names = ("agreement", "prefers the shorter", "same letter in both orders")
            values = {name: [one[name] for one in each if one[name] is not None] for name in names}
            worth = [[WORTH[x] for x in one["right"]] for one in each]
            found[f"{form}, {arm}"] = {
                **{name: fmean(of) for name, of in values.items() if of},
                "agreement_ci": crossed_ci(worth),
                "does not choose": fmean(x == 0.5 for of in worth for x in of),
            }
    return found


if __name__ == "__main__":
    main()
