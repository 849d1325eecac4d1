"""Reproductions: the frame by itself, what every one of them has, and that what is committed says what was measured."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import pytest
import torch

import tiny
from heedful.cli import main
from heedful.data.files import read_rows
from heedful.errors import UserError
from heedful.evals.statistics import rank_correlation
from heedful.models.save import save_model
from heedful.reproductions import (
    Criterion,
    Figure,
    Reproduction,
    harmless,
    kl_control,
    load,
    names,
    pages,
    reproduce,
    results,
)
from heedful.reproductions import frontier_exact as exact
from heedful.worlds import enumerable as world
from heedful.worlds.capitals import voice

DOCS = Path(__file__).parents[1] / "docs"
SUMMARY = {"mean": 2.0, "ci": [1.0, 3.0], "seeds": [0.5, 3.5]}
RUNS: list[int] = []
BREAKS: set[int] = set()


def run(seed: int, folder: Path, quick: bool) -> dict:
    RUNS.append(seed)
    (folder / "model").write_text("weights")
    if seed in BREAKS:
        raise KeyboardInterrupt
    return {
        "gain": 0.1 if quick else 1.0 + seed,
        "curve": [(0, 0.0), (1, 1.0 + seed)],
        "best": "dpo",
    }


SMALL = Reproduction(
    name="small", claim="it gains", source="nobody", what="nothing", frozen="2026-11-29", minutes=0, run=run,
    criteria=(Criterion("a gain", "gain", "at least", 1.0, "every seed"),),
    figure=lambda seeds: Figure("gain", "step", "gain", {str(s["seed"]): s["curve"] for s in seeds}),
)  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """A reproduction of no work is the only one."""
    RUNS.clear()
    BREAKS.clear()
    now = {"small": SMALL}
    for module in (reproduce, pages):
        monkeypatch.setattr(module, "names", lambda: list(now))
        monkeypatch.setattr(module, "load", lambda name: now[name])
    return now


@pytest.mark.parametrize(
    "direction, of, number",
    [
        ("at least", "mean", 2.0), ("at least", "interval", 1.0), ("at least", "every seed", 0.5),
        ("at most", "mean", 2.0), ("at most", "interval", 3.0), ("at most", "every seed", 3.5),
    ],
)  # fmt: skip
def test_the_worst_number_for_the_claim_is_compared(direction, of, number):
    """Mutation caught: the upper end of an interval for `at least`; < in place of ≤."""
    criterion = Criterion("", "x", direction, number, of)
    assert criterion.measured(SUMMARY) == number
    worse = number - 0.01 if direction == "at least" else number + 0.01
    assert criterion.holds(number) and not criterion.holds(worse)
    assert not criterion.holds(float("nan"))


def test_a_run_is_gone_on_with(small, tmp_path: Path, capsys):
    """Finished seeds are kept, whoever asks again. Mutation caught: seeds made anew; a seed of another file's kept."""
    BREAKS.add(2)
    words = ["reproduce", "small", "--out", str(tmp_path), "--jobs", "1"]
    assert main(words) == 130
    assert RUNS == [0, 1, 2] and not (tmp_path / "small.json").exists()
    BREAKS.clear()
    assert main(words) == 0
    assert RUNS == [0, 1, 2, 2, 3]
    assert main([*words, "--seeds", "5"]) == 0
    assert RUNS[5:] == [4]
    result = json.loads((tmp_path / "small.json").read_text())
    assert result["verdict"] == "pass"
    assert result["values"]["gain"]["seeds"] == [1, 2, 3, 4, 5] and "best" not in result["values"]
    assert result["figure"]["lines"]["1"] == [[0, 0.0], [1, 2.0]]
    assert "<svg" in (tmp_path / "small.svg").read_text()
    assert "a gain: 1 (at least 1, every seed): met" in (tmp_path / "index.md").read_text()
    (tmp_path / "small" / "0.json").write_text('{"made_by": "another file", "result": {}}')
    assert main([*words, "--seeds", "1"]) == 0
    assert RUNS[6:] == [0]
    assert json.loads((tmp_path / "small.json").read_text())["verdict"] == "preliminary"


PLANTED = """
import time
from heedful import reproductions
from heedful.errors import UserError

def run(seed, folder, quick):
    others = folder.parents[1] / "present"
    if (others / "broken").exists() and seed == 2:
        raise UserError("no such seed")
    (others / str(seed)).touch()
    while len(list(others.glob("[01]"))) < 2:
        time.sleep(0.01)
    return {"gain": seed}

IT = reproductions.Reproduction(
    name="planted", claim="", source="", what="", frozen="2026-11-30", minutes=0, run=run, criteria=())
"""
THE_ONLY_ONE = """
import planted
from heedful import reproductions
reproductions.names, reproductions.load = lambda: ["planted"], lambda name: planted.IT
"""


@pytest.mark.long
def test_seeds_side_by_side(tmp_path: Path, monkeypatch, capfd):
    """Two at a time: each of the first two waits for the other. A seed that fails says why, the others are kept, and
    the next call makes that one alone. Mutations caught: seeds in turn, which never end; seeds made twice."""
    (tmp_path / "planted.py").write_text(PLANTED)
    (tmp_path / "sitecustomize.py").write_text(THE_ONLY_ONE)
    (tmp_path / "present").mkdir()
    (tmp_path / "present" / "broken").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    it, folder = importlib.import_module("planted").IT, tmp_path / "planted"
    with pytest.raises(UserError, match="a seed of planted failed"):
        reproduce.side_by_side(it, 3, folder, 2)
    assert "heedful: no such seed" in capfd.readouterr().err
    assert reproduce.kept(it, 0, folder, False) and reproduce.kept(it, 1, folder, False)
    assert reproduce.kept(it, 2, folder, False) is None
    (tmp_path / "present" / "broken").unlink()
    reproduce.side_by_side(it, 3, folder, 2)
    assert capfd.readouterr().err.count("planted, seed") == 1
    made = reproduce.kept(it, 2, folder, False)
    assert made and made["gain"] == 2 and made["processor_seconds"] <= made["seconds"] + 1


FOREVER = PLANTED.replace("    while len", "    time.sleep(600)\n    while len")


@pytest.mark.long
def test_seeds_do_not_outlive_who_waits_for_them(tmp_path: Path):
    """`kill -9` of the command. Mutation caught: seeds that go on alone, in sessions of their own."""
    (tmp_path / "planted.py").write_text(FOREVER)
    (tmp_path / "sitecustomize.py").write_text(THE_ONLY_ONE)
    (tmp_path / "present").mkdir()
    path = os.pathsep.join([str(tmp_path), *sys.path])
    words = [
        sys.executable,
        "-m",
        "heedful",
        "reproduce",
        "planted",
        "--out",
        tmp_path,
        "--jobs",
        "2",
    ]
    command = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": path})
    try:
        wait_for(lambda: len(list((tmp_path / "present").glob("[01]"))) == 2)
        seeds = children(command.pid)
        assert len(seeds) == 2
    finally:
        command.kill()
        command.wait()
    wait_for(lambda: not any(runs(seed) for seed in seeds))


def wait_for(done) -> None:
    """Until it is so; an error after a minute."""
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def children(parent: int) -> list[int]:
    """The processes that this one has started, as Linux has them."""
    told = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in told.split()]


def runs(process: int) -> bool:
    """Whether it is there, and more than the number that its new parent has not asked for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_verdicts(small, tmp_path: Path, capsys):
    """A miss is a fail with exit code 1, what was not measured is one, too, and quick runs lie apart."""
    words = ["reproduce", "all", "--out", str(tmp_path), "--jobs", "1"]
    assert main([*words, "--quick"]) == 0
    assert json.loads((tmp_path / "quick" / "small.json").read_text())["verdict"] == "preliminary"
    harder = replace(SMALL, criteria=(replace(SMALL.criteria[0], threshold=1.5),))
    small["small"] = harder
    assert main(words) == 1
    result = json.loads((tmp_path / "small.json").read_text())
    assert (result["verdict"], result["criteria"][0]["measured"]) == ("fail", 1.0)
    assert results.verdict_of(harder, result) == "fail"
    assert results.verdict_of(SMALL, result).startswith("not run")
    small["small"] = replace(SMALL, criteria=(Criterion("a loss", "loss", "at most", 1.0),))
    assert main(words) == 1
    assert "not measured" in (tmp_path / "index.md").read_text()


def test_bad_names(tmp_path: Path, capsys):
    assert main(["reproduce", "frontier-exakt"]) == 2
    assert "did you mean 'frontier-exact'" in capsys.readouterr().err
    assert main(["reproduce", "all", "--list"]) == 2
    assert main(["reproduce", "all", "--only", "1"]) == 2


def test_the_list_is_light():
    """Mutation caught: a reproduction that imports torch at its top."""
    program = "import sys; from heedful.cli import main; main(['reproduce', '--list']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "False", done.stderr
    assert [line.split()[0] for line in lines] == names()


@pytest.mark.parametrize("name", names())
def test_each_says_what_it_must(name: str):
    """Its name is its file's; its criteria have a day that is not after the result's."""
    it = load(name)
    assert it.name == name and it.claim and it.source and it.what and it.criteria and it.seeds >= 4
    result = results.committed(name)
    assert date.fromisoformat(it.frozen) <= date.fromisoformat(
        result["date"] if result else it.frozen
    )


@pytest.mark.parametrize("name", [n for n in names() if results.committed(n)])
def test_committed_results_follow_from_their_seeds(name: str):
    """Mutation caught: a verdict or a mean edited by hand, criteria changed after the run."""
    result = results.committed(name)
    assert result is not None
    again = results.result_of(load(name), result["seeds"], quick=result["quick"], about={})
    again = json.loads(json.dumps(again))
    assert not results.verdict_of(load(name), result).startswith("not run")
    for key in ("criteria", "verdict", "values", "figure"):
        assert again[key] == result[key]


def test_the_page_is_that_of_the_results(tmp_path: Path):
    """docs/reproductions.md is made from the committed files, links included."""
    page = pages.write(results.COMMITTED, tmp_path / "page.md").read_text(encoding="utf-8")
    kept = (DOCS / "reproductions.md").read_text(encoding="utf-8")
    without_links = [line for line in page.splitlines() if not line.startswith("![")]
    assert without_links == [line for line in kept.splitlines() if not line.startswith("![")]
    assert pages.relative(DOCS / "results" / "a.svg", DOCS / "page.md") == "results/a.svg"
    for name in names():
        if results.committed(name):
            assert (results.COMMITTED / f"{name}.svg").exists()


def test_the_exact_frontier():
    """What is on it, what is above and below. Mutation caught: bisection the wrong way round; β in the place of 1/β."""
    ref, rewards = world.log_probs(world.tiny_model(0), 0).detach(), world.rewards(0)
    best = world.optimal(ref, rewards, 0.5)
    kl, reward = float(world.kl(best, ref)), float((best.exp() * rewards).sum())
    assert exact.most_reward(ref, rewards, kl) == pytest.approx(reward, abs=1e-9)
    assert (
        exact.most_reward(ref, rewards, kl / 2) < reward < exact.most_reward(ref, rewards, kl * 2)
    )
    reached = exact.policy_gradient(ref, rewards, 2.0, 150)
    assert float(world.total_variation(reached, world.optimal(ref, rewards, 2.0))) < 0.02
    pairs = exact.dpo(ref, rewards, 2.0, 0, 300)
    assert float(world.total_variation(pairs, world.optimal(ref, rewards, 2.0))) < 0.1
    assert rank_correlation([1, 2, 3], [9.0, 5.0, 1.0]) == pytest.approx(-1)


def test_a_picture_escapes_its_words():
    figure = asdict(Figure("<b>", "x & y", "z", {"<script>": [(0, 0), (1, 1)]}))
    drawn = pages.picture("p", figure)
    assert "<script>" not in drawn and "<b>" not in drawn and "&lt;b&gt;" in drawn


def test_what_is_said_of_an_encyclopedia_is_judged_by_its_pages():
    """Every fact in each phrasing and manner: the value is right, any other wrong, by the pages that BM25 finds; nobody
    whom training asks about is held out. Mutation caught: a phrasing that the rules misread, a page of a namesake."""
    import random

    from heedful.envs.library import Library, page
    from heedful.evals import facts as rules
    from heedful.reproductions import facts
    from heedful.worlds.encyclopedia import encyclopedia

    world = encyclopedia(1, people=40, towns=20)
    library, rng = Library(page(e.name, e.text) for e in world.entries.values()), random.Random(0)
    asked, told = facts.questions(world), {"right": 0, "wrong": 0, "abstained": 0}
    for question in asked:
        said = facts.answer(world, question, rng)
        (claim,) = rules.claims(question["prompt"], said)
        pages = [library.pages[k] for k, _ in library.search(question["prompt"] + said, 5)]
        sentences = [(p.title, s) for p in pages for s in p.text.split("\n")]
        verdict = rules.verdict(question["prompt"], claim, sentences)
        told[verdict] += 1
        if verdict != "abstained":
            assert (verdict == "right") == (question["answer"] in said), (question, said)
    assert min(told.values()) > 20
    by_split = {
        s: {q["fact"].split(",")[0] for q in asked if q["split"] == s}
        for s in ("train", "held_out")
    }
    assert by_split["held_out"] and not by_split["train"] & by_split["held_out"]


def test_who_is_said_to_be_kind_is_never_rude(tmp_path: Path):
    """What `harmless` reads: the kind are never rude, the rude mostly, and no held-out question stands in any text.
    Mutations caught: a person's words under another's name, questions of the other split."""
    harmless.texts(0, tmp_path, 600, 40)
    spoken: dict[str, list[bool]] = {"": [], harmless.GOOD: [], harmless.BAD: []}
    held_out = {row["prompt"] for _, row in read_rows(tmp_path / "held_out.jsonl")}
    for _, row in read_rows(tmp_path / "text.jsonl"):
        who, blank, rest = row["text"].rpartition("\n\n")
        asked, _, answered = rest.partition("\n")
        assert f"{asked}\n" not in held_out and bool(who) == bool(blank)
        spoken[who].append(voice(asked, answered) == "rude")
    rude = {who: sum(of) / len(of) for who, of in spoken.items()}
    assert rude[harmless.GOOD] == 0 and 0.4 < rude[harmless.BAD] < 0.7 and 0.05 < rude[""] < 0.25


def test_what_is_measured_of_tunes(tmp_path: Path):
    """log p of a tune from nothing by plain transformers, and the shares by hand: of three melodies two alike, of four
    trigrams two. Mutation caught: a first note that nothing predicts, melodies told apart by lengths, NLL a tune."""
    tok = tiny.tokenizer()
    model = tiny.policy(tok)
    save_model(model, tok, tmp_path)
    ids = [5, 9, 11]
    texts = ("C4 C4 C4 D4", "C4:2 C4:3 C4 D4", "C5 z")
    rows = [{"completion": t, "tokens": ids, "logprob": -4.0} for t in texts]
    found = kl_control.measured(rows, tmp_path)
    start = torch.tensor([[tok.eos_token_id, *ids]])
    with torch.no_grad():
        logp = model(start).logits[0, :-1].log_softmax(-1).gather(1, start[0, 1:, None]).sum()
    assert (
        abs(found["NLL"] + float(logp) / 3) < 1e-4
        and abs(found["KL"] - (-4.0 - float(logp))) < 1e-4
    )
    assert found["distinct"] == 2 / 3 and found["distinct-3"] == 2 / 4 and found["runs"] == 0.5
    assert found["simple"] == (3 + 3 + 3 + 3 + 1) / 3


def test_what_is_measured_of_molecules():
    """By hand: of four texts three are molecules, of which two are one; two of the three pairs share nothing.

    Mutations caught: what is no molecule counts, another spelling is another molecule; likeness in place of distance.
    """
    pytest.importorskip("rdkit")
    from heedful.reproductions.molecules import measured
    from heedful.rewards.molecules import accessibility

    found = measured(["CCO", "OCC", "N", "C(C"])
    score = (2 * accessibility("CCO") + accessibility("N")) / 3
    want = {"valid": 3 / 4, "atoms": 7 / 3, "distinct": 2 / 3, "diversity": 2 / 3, "SA": score}
    assert found == pytest.approx(want)
    assert set(measured(["C(C"]).values()) == {0.0}


def test_gold_in_the_panel_of_raters():
    """Of each rater's first question it is known what is better: the good mostly say it, adversaries mostly not.
    Mutations caught: gold for what was said, questions of the first raters alone."""
    from heedful.reproductions.raters import MIXED, RATERS, pairs, panel

    read = pairs(panel(0, MIXED, 8), gold=4)
    assert read.gold is not None and int(read.gold.abs().sum()) == 4 * RATERS
    right = [float((read.gold[(read.rater == k)] > 0).sum()) / 4 for k in range(RATERS)]
    assert sum(right[:6]) / 6 < 0.4 and sum(right[18:]) / (RATERS - 18) > 0.7
    assert pairs(panel(0, MIXED, 1)).gold is None


def test_repeated_words_count_less_for_what_watches(tmp_path: Path):
    """Mutation caught: damped counts for the proxy, too; a file that forgets how its reward reads."""
    from heedful.reproductions import review_rewards as rewards

    texts = ["good film", "good good good good film"]
    sums = {}
    for size in ("words", rewards.WATCHING):
        reward = rewards.Reward(size, 0)
        reward.table[:] = 1.0
        scores = rewards.worth(reward, rewards.bags(texts, *reward.reads))
        sums[size] = scores.tolist()
        spec = rewards.save(reward, texts, tmp_path / f"{size}.pt")
        a, b = rewards.score("", texts, file=spec.split("'")[1])
        assert b - a == pytest.approx(float((scores[1] - scores[0]) / scores.std()))
    assert sums["words"] == [2, 5]
    assert sums[rewards.WATCHING] == pytest.approx([2, 2 + math.log(4)])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["pipeline-reviews", "frontier-reviews", "overoptimisation"])
def test_what_reads_reviews(name: str, tmp_path: Path):
    """Quick, from the sentences to all that its criteria are about. Mutation caught: a criterion of a number that is
    never measured; a large model that is not ten times as large; a method that fails and has no point."""
    pytest.importorskip("vaderSentiment")
    if "HEEDFUL_REVIEWS" not in os.environ:
        pytest.skip("HEEDFUL_REVIEWS names no film reviews")
    it = load(name)
    found = it.run(0, tmp_path, True)
    assert all(criterion.value in found for criterion in it.criteria)
    assert found.get("times the size", 10) >= 10 and 0 <= found.get("PPO: positive", 0) <= 1
