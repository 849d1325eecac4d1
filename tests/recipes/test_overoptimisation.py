"""`heedful overoptimisation` on rewards whose truth is known, and on a model from prompts to page."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

import tiny
from changed import changed
from heedful.cli import main
from heedful.evals.best_of_n import bound
from heedful.models.save import save_model

REWARDS = """
def proxy(prompt, response):
    return float(response)
def gold(prompt, response):  # agrees up to 1, and no further
    return -abs(float(response) - 1)
def other(prompt, response):
    return 2 * float(response)
def against(prompt, response):
    return -3 * abs(float(response) - 1)
def alike(prompt, response):
    return -1.2 * abs(float(response) - 1)
def nearly(prompt, response):
    return -1.1 * abs(float(response) - 1)
def coarse(prompt, response):
    return float(float(response) > 0)
def silent(prompt, response):
    return None if response.startswith("-") else float(response)
"""


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """40 prompts with 128 responses each, which are standard normal numbers."""
    rng = random.Random(0)
    rows = [
        {"prompt": f"{p}?", "completion": repr(rng.gauss(0, 1))}
        for p in range(40)
        for _ in range(128)
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text(REWARDS)
    return tmp_path


def run(folder: Path, *words: str) -> int:
    given = ["--samples", str(folder / "s.jsonl"), "--out", str(folder / "o"), "--quiet"]
    given = ["overoptimisation", "--reward", f"{folder}/mine.py:proxy", *given]
    return main(changed(given, *words))


@pytest.mark.long
def test_a_proxy_that_is_right_only_up_to_one(drawn: Path, capsys):
    """Gold peaks where the best of n is about 1, n = 4, and falls; the alarm comes after; a reward that agrees never
    falls. Mutation caught: gold sorted by itself, the peak of the proxy, an alarm that looks at the proxy."""
    mine = f"{drawn}/mine.py"
    assert run(drawn, "--gold", f"{mine}:gold", "--watch-reward", f"{mine}:other") == 0
    result = json.loads((drawn / "o" / "overoptimisation.json").read_text())
    gold, watched = result["curves"]["gold"], result["curves"]["watched"]
    assert result["ns"][-1] == result["samples"] == 128
    assert gold["peak_n"] in (4, 6, 8) and gold["lost"] > 0.5 and gold["fall_ci"][0] > 0
    assert gold["alarm_n"] > gold["peak_n"]
    assert (watched["peak_n"], watched["alarm_n"]) == (128, None)
    assert watched["correlation"] == pytest.approx(1)
    assert result["kl"][-1] == pytest.approx(bound(128))
    assert watched["mean"] == pytest.approx(
        [2 * m for m in result["curves"]["proxy"]["mean"]], abs=1e-5
    )
    assert "and then it falls" in capsys.readouterr().out
    page = (drawn / "o" / "overoptimisation.html").read_text()
    assert "and then it falls" in page and page.count("<svg") >= 3


@pytest.mark.long
def test_a_sweep_over_rewards(drawn: Path):
    """Each by what is meant, on the same responses: the reverse of the reward loses from the start, the same reward at
    twice its scale has the same curve. Mutation caught: best of n by --reward in place of the swept one; KL of it."""
    mine = f"{drawn}/mine.py"
    assert run(drawn, "--gold", f"{mine}:gold", "--sweep", f"{mine}:other", f"{mine}:coarse") == 0
    result = json.loads((drawn / "o" / "overoptimisation.json").read_text())
    same, coarse = (result["sweep"][f"{mine}:{name}"] for name in ("other", "coarse"))
    assert same["mean"] == pytest.approx(result["curves"]["gold"]["mean"])
    assert same["kl"] == pytest.approx(result["kl"])
    # Of two levels no more can be chosen than the upper one: its mean, |x - 1| of a half normal, and log 2 nats.
    assert coarse["mean"][-1] == pytest.approx(-0.535, abs=0.05)
    assert coarse["kl"][-1] == pytest.approx(math.log(2), abs=0.02) and coarse["lost"] < 0.05
    page = (drawn / "o" / "overoptimisation.html").read_text()
    assert "Gold of best-of-n by each reward" in page and f"gold, by {mine}:coarse" in page


def test_without_gold_the_watched_reward_speaks(drawn: Path, capsys):
    """Responses without a score are left out and counted."""
    assert run(drawn, "--watch-reward", f"{drawn}/mine.py:silent") == 0
    result = json.loads((drawn / "o" / "overoptimisation.json").read_text())
    assert "gold" not in result["curves"] and 2000 < result["left_out"] < 3100
    assert "can be trusted as far as was looked" in capsys.readouterr().out


def test_refusals(drawn: Path, capsys):
    for words, said in (
        ([], "--watch-reward"),
        (["--gold", "reviews", "--temperature", "0.5"], "--temperature would have no effect"),
        (["--gold", "reviews", "--reward-weights", "1", "2"], "1 terms but --reward-weights 2"),
    ):
        assert run(drawn, *words) == 2
        assert said in capsys.readouterr().err
    (drawn / "s.jsonl").unlink()
    assert run(drawn, "--gold", "reviews") == 2
    assert "s.jsonl: there is no such file" in capsys.readouterr().err
    assert not (drawn / "o").exists()


def test_from_a_model(tmp_path: Path, capsys):
    """Sampled once: the same command again takes the samples that are there; other settings are refused."""
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok), tok, tmp_path / "m")
    (tmp_path / "p.jsonl").write_text("".join(f'{{"prompt": "{c}?"}}\n' for c in "abc"))
    words = [
        "overoptimisation",
        "--model",
        str(tmp_path / "m"),
        "--data",
        str(tmp_path / "p.jsonl"),
        "--n",
        "8",
    ]
    words += [
        "--reward",
        "length",
        "--watch-reward",
        "length",
        "--out",
        str(tmp_path / "o"),
        "--quiet",
    ]
    samples = tmp_path / "o" / "samples.jsonl"
    assert main([*words, "--max-tokens", "4", "--gold", "numeric"]) == 2
    assert not samples.exists()  # what gold lacks is told before anything is sampled
    assert main([*words, "--max-tokens", "4"]) == 0
    before = samples.stat().st_mtime_ns
    assert main([*words, "--max-tokens", "4"]) == 0
    assert samples.stat().st_mtime_ns == before
    capsys.readouterr()
    assert main([*words, "--max-tokens", "5"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.long
def test_of_several_that_watch_all_must_fall(drawn: Path):
    """Three whose mean falls beyond 1: told where all do, not where one rises; with their spread charged it falls, too.
    Mutation caught: the spread of the members left aside, or counted twice where k charges it, one member alone."""
    mine = f"{drawn}/mine.py"

    def alarm(watch: str) -> tuple[float, int | None]:
        assert run(drawn, "--watch-reward", watch) == 0
        found = json.loads((drawn / "o" / "overoptimisation.json").read_text())["curves"]["watched"]
        return found["lost"], found["alarm_n"]

    agreed = alarm(f"ensemble({mine}:alike, {mine}:nearly, {mine}:gold)")
    parted = alarm(f"ensemble({mine}:against, {mine}:proxy, {mine}:gold)")
    charged = alarm(f"ensemble({mine}:against, {mine}:proxy, k=1)")
    assert min(agreed[0], parted[0], charged[0]) > 0.5
    assert agreed[1] and charged[1] and parted[1] is None
