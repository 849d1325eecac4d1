"""Rewards as users type them: sums, verifiers and rejection sampling, from the world of sums to a tuned model."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

import pytest

import tiny
from heedful.cli import main
from heedful.data.sources import read_comparisons, read_demonstrations
from heedful.evals import texts
from heedful.evals.best_of_n import bound
from heedful.progress import Progress
from heedful.types import Demonstration

QUIET = ("--quiet", "--report-to", "none")


def run(*args) -> None:
    assert main([str(a) for a in args]) == 0


def refused(capsys, *args) -> str:
    assert main([str(a) for a in args]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, *given: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


@pytest.fixture(scope="module")
def sums(tmp_path_factory) -> Path:
    """The world of sums and a model that has hardly read it."""
    at = tmp_path_factory.mktemp("sums")
    run("world", "arithmetic", "--out", at / "world", "--documents", 300, "--demonstrations", 60,
        "--levels", 2)  # fmt: skip
    run("train", "pretrain", "--data", at / "world" / "text.jsonl", "--out", at / "base", "--steps", 6,
        "--hidden-size", 32, "--layers", 2, "--heads", 2, "--vocab-size", 300, *QUIET)  # fmt: skip
    run("train", "sft", "--model", at / "base", "--data", at / "world" / "demonstrations.jsonl",
        "--out", at / "sft", "--lr", 1e-3, *QUIET)  # fmt: skip
    return at


def sample(at: Path, out: Path, *args) -> list[dict]:
    run("sample", "--model", at / "sft", "--data", at / "world" / "prompts.jsonl", "--limit", 6,
        "--max-tokens", 8, "--out", out, "--quiet", *args)  # fmt: skip
    return rows(out)


def test_samples_carry_the_facts_and_every_part_by_name(sums, tmp_path):
    """Mutation caught: facts lost on the way to the reward, weights on the parts, a sum without them."""
    said = sample(sums, tmp_path / "s.jsonl", "--n", 3, "--reward", "numeric", "length(price=1)",
                  "no_eos", "--reward-weights", "1", "-0.25", "2")  # fmt: skip
    assert len(said) == 18
    prompts = rows(sums / "world" / "prompts.jsonl")
    for i, row in enumerate(said):
        assert (row["answer"], row["level"]) == (
            prompts[i // 3]["answer"],
            prompts[i // 3]["level"],
        )
        parts = row["reward_parts"]
        assert parts["length"] == -len(row["completion"].split())
        assert parts["no_eos"] == (0.0 if row["stop_reason"] == "stop" else -1.0)
        total = parts["numeric"] - 0.25 * parts["length"] + 2 * parts["no_eos"]
        assert row["reward"] == pytest.approx(total)
    run("score", "--data", tmp_path / "s.jsonl", "--out", tmp_path / "again.jsonl", "--reward",
        "numeric", "length(price=1)", "no_eos", "--reward-weights", "1", "-0.25", "2")  # fmt: skip
    assert rows(tmp_path / "again.jsonl") == said


def test_best_of_n_reports_the_estimated_kl(sums, tmp_path, capsys):
    """Far below the formula where rewards tie. Mutation caught: log n − (n−1)/n for everything."""
    best = sample(sums, tmp_path / "b.jsonl", "--best-of", 4, "--reward", "no_eos")
    every = sample(sums, tmp_path / "n.jsonl", "--n", 4, "--reward", "no_eos")
    for i, row in enumerate(best):
        assert row["reward"] == max(r["reward"] for r in every[4 * i : 4 * i + 4])
    sample(
        sums, tmp_path / "c.jsonl", "--best-of", 4, "--reward", "length(unit=characters, price=0)"
    )
    said = re.findall(r"best of 4: (\S+) \[.*at most (\S+)", capsys.readouterr().out)
    assert [float(most) for _, most in said] == [round(bound(4), 3)] * 2
    assert float(said[1][0]) == 0.0 and 0 <= float(said[0][0]) <= bound(4)


def test_rejection_sampling_and_fine_tuning(sums, tmp_path, capsys):
    """Sample n, keep the best, fine-tune on it (RAFT, offline). Mutation caught: a made-up end behind a cut sample."""
    longest = "length(price=-1)"
    kept = sample(
        sums, tmp_path / "best.jsonl", "--best-of", 8, "--reward", longest, "--at-least", 2
    )
    assert kept and all(row["reward"] == len(row["completion"].split()) >= 2 for row in kept)
    ends = [d.ended for d in read_demonstrations(tmp_path / "best.jsonl")]
    assert ends == [row["stop_reason"] == "stop" for row in kept] and not all(ends)
    run(
        "train",
        "sft",
        "--model",
        sums / "sft",
        "--data",
        tmp_path / "best.jsonl",
        "--out",
        tmp_path / "raft",
        *QUIET,
    )
    assert (tmp_path / "raft" / "model.safetensors").exists()
    sentence = refused(capsys, "sample", "--model", sums / "sft", "--data", sums / "world" / "prompts.jsonl",
                       "--limit", 2, "--max-tokens", 4, "--out", tmp_path / "none.jsonl", "--quiet",
                       "--reward", "length", "--at-least", 1)  # fmt: skip
    assert "none of the responses" in sentence and not (tmp_path / "none.jsonl").exists()


def test_pairs_of_best_and_worst_train_dpo(sums, tmp_path):
    """Sample n, score, pair, optimise: commands alone."""
    sample(sums, tmp_path / "s.jsonl", "--n", 4)
    run("score", "--data", tmp_path / "s.jsonl", "--reward", "short=length(unit=characters)", "--out",
        tmp_path / "scored.jsonl")  # fmt: skip
    scored = rows(tmp_path / "scored.jsonl")
    for row in scored:  # as if all had ended: which ones do is not what this test is about
        row["stop_reason"] = "stop"
    write(tmp_path / "scored.jsonl", *scored)
    run("judge", "--data", tmp_path / "scored.jsonl", "--judge", "scores", "--pairs", "best_worst",
        "--out", tmp_path / "pairs.jsonl")  # fmt: skip
    for c in read_comparisons(tmp_path / "pairs.jsonl"):
        of_prompt = [
            r["completion"] for r in scored if r["prompt"][0]["content"] == c.prompt[0].content
        ]
        lengths = [len(t) for t in of_prompt if t.strip()]
        assert [len(r) for r in c.responses] == [min(lengths), max(lengths)]
    run("train", "dpo", "--model", sums / "sft", "--data", tmp_path / "pairs.jsonl", "--out",
        tmp_path / "dpo", "--lr", 1e-3, *QUIET)  # fmt: skip


def scored_rows(path: Path) -> Path:
    chat = [{"role": "user", "content": "2 + 2?"}]
    of = {"best": 2.0, "also best": 2.0, "middle": 1.0, "worst": -1.0, " ": 9.0}
    cut = {"prompt": "Why", "completion": "because of the", "reward": 99.0, "stop_reason": "length"}
    return write(
        path,
        *({"prompt": chat, "completion": text, "reward": r} for text, r in of.items()),
        {"prompt": chat, "completion": "best", "reward": -5.0},
        *(
            {"prompt": "Why", "completion": t, "reward": r}
            for t, r in ((" so", 0.5), (" not", 0.7))
        ),
        cut,
        *({"prompt": "Tied", "completion": t, "reward": 1.0} for t in "ab"),
        {"prompt": "Alone", "completion": "c", "reward": 1.0},
    )


def test_rankings_and_pairs_by_reward(tmp_path, caplog):
    """By hand: ties keep a rank, equal texts count once, ties and lone responses say nothing, no cut ones."""
    data = scored_rows(tmp_path / "s.jsonl")
    run("judge", "--data", data, "--judge", "scores", "--out", tmp_path / "r.jsonl")
    ranked = [(c.responses, c.ranking) for c in read_comparisons(tmp_path / "r.jsonl")]
    assert ranked == [
        (("best", "also best", "middle", "worst"), (1, 1, 2, 3)),
        ((" so", " not"), (2, 1)),
    ]
    assert "skipped 1 truncated responses" in caplog.text
    run(
        "judge",
        "--data",
        data,
        "--judge",
        "scores",
        "--pairs",
        "best_worst",
        "--out",
        tmp_path / "p.jsonl",
    )
    chat, plain = rows(tmp_path / "p.jsonl")
    assert chat["chosen"] == [{"role": "assistant", "content": "best"}]
    assert chat["rejected"] == [{"role": "assistant", "content": "worst"}]
    assert plain == {"prompt": "Why", "chosen": " not", "rejected": " so"}


def test_trl_reads_the_pairs(tmp_path):
    """Conversational and plain rows pass TRL's own preparation of preference data."""
    pytest.importorskip("trl")
    from trl.data_utils import is_conversational, maybe_apply_chat_template

    run("judge", "--data", scored_rows(tmp_path / "s.jsonl"), "--judge", "scores", "--pairs",
        "best_worst", "--out", tmp_path / "p.jsonl")  # fmt: skip
    chat, plain = rows(tmp_path / "p.jsonl")
    assert is_conversational(chat) and not is_conversational(plain)
    assert maybe_apply_chat_template(chat, tiny.tokenizer())["chosen"] == "best<|end|>"


def test_scores_that_are_missing(tmp_path, capsys):
    data = write(tmp_path / "s.jsonl", *({"prompt": "x", "completion": c} for c in "ab"))
    sentence = refused(
        capsys, "judge", "--data", data, "--judge", "scores", "--out", tmp_path / "o.jsonl"
    )
    assert "no row has a number in `reward`; heedful score puts it there" in sentence
    tied = write(
        tmp_path / "t.jsonl", *({"prompt": "x", "completion": c, "reward": 1} for c in "ab")
    )
    said = refused(
        capsys, "judge", "--data", tied, "--judge", "scores", "--out", tmp_path / "o.jsonl"
    )
    assert "no prompt has a response that is better than another" in said
    assert not (tmp_path / "o.jsonl").exists()


def test_cut_samples_teach_no_end(tmp_path):
    data = write(tmp_path / "d.jsonl", {"prompt": "x", "completion": " a", "stop_reason": "length"},
                 {"prompt": "x", "completion": " b", "stop_reason": "stop"})  # fmt: skip
    assert read_demonstrations(data) == [Demonstration("x", " a", False), Demonstration("x", " b")]


def test_a_verifier_as_the_reward_of_training(sums, tmp_path):
    """`answer` reaches the reward in the loop; every part is in metrics.jsonl by its name."""
    run("train", "ppo", "--model", sums / "sft", "--data", sums / "world" / "prompts.jsonl", "--reward",
        "numeric", "--steps", 2, "--batch-size", 8, "--minibatch-size", 8, "--max-tokens", 8,
        "--out", tmp_path / "ppo", *QUIET)  # fmt: skip
    for row in rows(tmp_path / "ppo" / "metrics.jsonl"):
        assert 0 <= row["reward/numeric"] <= 1 and "reward/numeric/std" in row


def test_a_group_sees_all_responses_of_a_prompt(tmp_path, monkeypatch):
    """Also when scoring a file; rows of one prompt with other facts are other groups."""
    (tmp_path / "ranks.py").write_text(
        "def f(prompt, responses):\n    return [len(responses)] * len(responses)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    given = [("x", 1), ("y", 1), ("x", 1), ("x", 2), ("x", 1)]
    data = write(tmp_path / "s.jsonl", *({"prompt": p, "completion": str(i), "answer": a}
                                         for i, (p, a) in enumerate(given)))  # fmt: skip
    run("score", "--data", data, "--reward", "ranks:f", "--out", tmp_path / "o.jsonl")
    assert [row["reward"] for row in rows(tmp_path / "o.jsonl")] == [3, 1, 3, 1, 3]


def test_normalised_scores(tmp_path, capsys):
    """The file is one batch: each part is divided by its own spread. Mutation caught: a spread of each group."""
    data = write(
        tmp_path / "s.jsonl", *({"prompt": str(i), "completion": "w " * i} for i in range(1, 5))
    )
    run("score", "--data", data, "--reward", "length(price=1)", "length(price=100)", "--normalize-rewards",
        "--out", tmp_path / "o.jsonl")  # fmt: skip
    spread = 1.25**0.5
    assert [row["reward"] for row in rows(tmp_path / "o.jsonl")] == pytest.approx(
        [-2 * i / spread for i in range(1, 5)], abs=1e-5
    )
    assert "length_2: -250.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--reward", "numeric", "length", "--reward-weights", "1"], "2 parts but --reward-weights 1 number"),
        (["--reward", "numerik"], "did you mean 'numeric'?"),
        (["--reward-weights", "1"], "--reward-weights needs --reward"),
        (["--at-least", "1"], "--at-least needs --reward"),
    ],
)  # fmt: skip
def test_rewards_that_make_no_sense(args, words, sums, tmp_path, capsys):
    said = refused(capsys, "sample", "--model", sums / "sft", "--data", sums / "world" / "prompts.jsonl",
                   "--out", tmp_path / "o.jsonl", *args)  # fmt: skip
    assert words in said and not (tmp_path / "o.jsonl").exists()


def test_weights_and_rewards_from_a_file(sums, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("reward: ['length(price=1)', no_eos]\nreward_weights: [-1, 0]\nn: 2\n")
    for row in sample(sums, tmp_path / "s.jsonl", "--config", config):
        assert row["reward"] == len(row["completion"].split())


def test_gsm8k_loads_samples_and_scores(shared_data, sums, tmp_path, capsys):
    """Questions with worked answers, as they are published: the answers themselves are all right, and wrong for their
    neighbours. Mutation caught: the first number of a solution, another row's answer."""
    source = shared_data / "gsm8k-test.jsonl.gz"
    if not source.exists():
        pytest.skip("GSM8K is not here")
    short = tmp_path / "short.jsonl"  # the tiny model's context holds few of the questions
    with gzip.open(source, "rt", encoding="utf-8") as file:
        published = [json.loads(line) for line in file]
    by_size = sorted(published, key=lambda row: len(row["question"]))[:2]
    write(short, *({"question": row["question"][:60], "answer": row["answer"]} for row in by_size))
    run("sample", "--model", sums / "sft", "--data", short, "--max-tokens", 8, "--out",
        tmp_path / "s.jsonl", "--reward", "numeric", "--quiet")  # fmt: skip
    assert [row["answer"] for row in rows(tmp_path / "s.jsonl")] == [r["answer"] for r in by_size]

    def scored(shift: int) -> float:
        given = [
            {
                "prompt": row["question"],
                "completion": published[i - shift]["answer"],
                "answer": row["answer"],
            }
            for i, row in enumerate(published)
        ]
        write(tmp_path / "given.jsonl", *given)
        run(
            "score",
            "--data",
            tmp_path / "given.jsonl",
            "--reward",
            "numeric",
            "--out",
            tmp_path / "o.jsonl",
        )
        found = rows(tmp_path / "o.jsonl")
        return sum(row["reward"] for row in found) / len(found)

    assert scored(0) == 1.0
    assert scored(1) < 0.05


MIXED = """
def easy(completions, level, log_extra, **columns):
    log_extra("size", [len(c) for c in columns["completion_ids"]])
    return [float(len(c[0]["content"])) if k == 1 else None for c, k in zip(completions, level)]
async def hard(completions, level, **columns):
    return [0.5 * len(c[0]["content"]) if k > 2 else None for c, k in zip(completions, level)]
"""


def test_rewards_that_abstain(sums, tmp_path, monkeypatch):
    """Functions as TRL has them, of a mixture of tasks: level 1 is scored by one, level 2 by nobody. Training leaves
    out and counts what nobody scores, files have no reward there, best-of-n and ranks go by the others.

    Mutation caught: None as 0 in a row, a mean, a baseline or a ranking; a round without any signal that divides by 0.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed.py").write_text(MIXED)
    reward = ("--reward", "./mixed.py:easy", "./mixed.py:hard")
    prompts = rows(sums / "world" / "prompts.jsonl")
    picked = [p for level in (1, 2) for p in [q for q in prompts if q["level"] == level][:2]]
    data = write(tmp_path / "prompts.jsonl", *picked)
    how = ("--model", sums / "sft", "--data", data, "--max-tokens", 6, "--quiet")
    run("sample", *how, "--n", 3, *reward, "--out", tmp_path / "s.jsonl")
    said = rows(tmp_path / "s.jsonl")
    assert [("reward" in row) for row in said] == [row["level"] == 1 for row in said]
    for row in said[:6]:
        assert row["reward"] == len(row["completion"])
        assert row["reward_parts"] == {"easy": row["reward"], "hard": None}
        assert row["reward_extra"] == {"size": len(row["tokens"])}
    whole = write(tmp_path / "whole.jsonl", *(row | {"stop_reason": "stop"} for row in said))
    run("judge", "--data", whole, "--judge", "scores", "--out", tmp_path / "c.jsonl")
    run("train", "grpo", *how[:-1], *reward, "--batch-size", 8, "--group-size", 2, "--steps", 2,
        "--out", tmp_path / "grpo", *QUIET)  # fmt: skip
    metrics = rows(tmp_path / "grpo" / "metrics.jsonl")
    assert [m["reward/unscored"] for m in metrics] == [0.5, 0.5]
    assert metrics[0]["reward"] == pytest.approx(metrics[0]["reward/easy"])
    for row in rows(tmp_path / "grpo" / "samples.jsonl"):
        assert 0 < row["reward_extra"]["size"] <= 6
    run("train", "rloo", *how[:-1], *reward[:1], reward[2], "--batch-size", 4, "--group-size", 2,
        "--steps", 1, "--out", tmp_path / "none", *QUIET)  # fmt: skip
    assert rows(tmp_path / "none" / "metrics.jsonl")[0]["reward/unscored"] == 1.0
    assert "nothing was learned" in (tmp_path / "none" / "alarms.jsonl").read_text()


def test_evaluation_by_a_verifier_against_demonstrations(sums, tmp_path, capsys):
    """The right answers win against every response of a model that has hardly read them. What a baseline lacks is told
    before anything is sampled. Mutation caught: a baseline's own old scores, its last response for all of them."""
    held = rows(sums / "world" / "prompts.jsonl")[:4]
    data = write(tmp_path / "held.jsonl", *held)
    right = [{"prompt": r["prompt"], "completion": f"#### {r['answer']}"} for r in held]
    wrong = [{"prompt": r["prompt"], "completion": "#### 99999"} for r in held]
    how = (
        "evaluate",
        "--model",
        sums / "sft",
        "--data",
        data,
        "--max-tokens",
        4,
        "--scorer",
        "numeric",
        "--quiet",
    )
    run(*how, "--baseline", write(tmp_path / "b.jsonl", *right, *wrong), "--out", tmp_path / "e")
    result = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert result["baseline_gold"] == 0.5 and "overlap" not in result
    assert (
        0 <= result["win_rate_length_controlled_ci"][0] <= result["win_rate_length_controlled"] <= 1
    )
    expected = [0.25 + 0.5 * row["gold"] for row in rows(tmp_path / "e" / "samples.jsonl")]
    assert [row["win"] for row in rows(tmp_path / "e" / "samples.jsonl")] == expected
    assert result["win_rate"] == pytest.approx(sum(expected) / 4)
    assert result["win_rate_by"] == "numeric"
    sentence = refused(
        capsys, *how, "--baseline", write(tmp_path / "b.jsonl", *right[1:]), "--out", tmp_path / "f"
    )
    assert "has no response to 1 of 4 prompts" in sentence and not (tmp_path / "f").exists()
    unread = write(tmp_path / "many.jsonl", *held[:3], held[3] | {"answer": "many"})
    assert "'many'" in refused(capsys, *how[:4], unread, *how[5:], "--out", tmp_path / "f")


def test_scoring_and_judging_show_how_far_they_are(tmp_path, monkeypatch, capsys):
    """A bar in a terminal that moves before the end, a line with `--quiet`. Mutations caught: a flag that nobody reads,
    a bar that is told at the end only."""
    samples = write(
        tmp_path / "s.jsonl",
        *({"prompt": f"q{i}", "completion": text} for i in range(3) for text in ("a", "bb")),
    )
    seen = []
    update = Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda bar, done, *more: (seen.append(done), update(bar, done, *more))
    )
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    score = ("score", "--data", samples, "--reward", "length", "--out", tmp_path / "r.jsonl")
    judge = (
        "judge",
        "--data",
        samples,
        "--judge",
        "tiny:likes_short",
        "--out",
        tmp_path / "c.jsonl",
    )
    for command in (score, judge):
        run(*command)
        assert "━" in capsys.readouterr().err and seen == [1, 2, 3]
        seen.clear()
        run(*command, "--quiet")
        assert capsys.readouterr().err.startswith(f"{command[0]} 3/3") and seen == [1, 2, 3]
        seen.clear()


def test_likeness_and_variety(sums, tmp_path, capsys):
    """Greedy answers against themselves. Nobody needs to say who wins. Mutation caught: the prompt compared in place of
    the response."""
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")
    held = rows(sums / "world" / "prompts.jsonl")[:3]
    how = ("evaluate", "--model", sums / "sft", "--data", write(tmp_path / "held.jsonl", *held),
           "--max-tokens", 12, "--temperature", 0, "--quiet")  # fmt: skip
    run(*how, "--variety", "--out", tmp_path / "e")
    told = json.loads((tmp_path / "e" / "evaluation.json").read_text())["variety"]
    assert 0 < told["distinct_1"] <= 1 and told["self_bleu"] >= 0
    run(*how, "--overlap", "--baseline", tmp_path / "e" / "samples.jsonl", "--out", tmp_path / "f")
    result = json.loads((tmp_path / "f" / "evaluation.json").read_text())
    said = [row["completion"] for row in rows(tmp_path / "e" / "samples.jsonl")]
    assert result["overlap"]["rouge1"] == texts.overlap(said, [[s] for s in said])["rouge1"]
    assert "win_rate" not in result
    assert "needs --baseline" in refused(capsys, *how, "--overlap", "--out", tmp_path / "g")


def test_a_few_that_differ(sums, tmp_path, capsys):
    """Of eight responses the best of each kind by the reward; alike is what people say. Mutation caught: the first of
    the responses, the best of all of them, triplets that nobody reads."""
    every = sample(sums, tmp_path / "all.jsonl", "--n", 8, "--reward", "length")
    pairs = write(tmp_path / "t.jsonl", *(
        {"anchor": f"{a} {k}", "positive": f"{a} {k + 1}", "negative": f"{b} {k}"}
        for k in range(15) for a, b in (("What", "####"), ("####", "What"))
    ))  # fmt: skip
    few = sample(
        sums,
        tmp_path / "few.jsonl",
        "--n",
        8,
        "--reward",
        "length",
        "--diverse",
        3,
        "--triplets",
        pairs,
    )
    assert (
        "100% [61%, 100%] of 6 triplets that were kept out are as people say"
        in capsys.readouterr().out
    )
    prompts = {repr(r["prompt"]) for r in every}
    assert {repr(r["prompt"]) for r in few} == prompts
    for prompt in prompts:
        of, kept = ([r for r in rows_ if repr(r["prompt"]) == prompt] for rows_ in (every, few))
        assert 1 <= len(kept) <= 3 and len({r["completion"] for r in kept}) == len(kept)
        assert max(r["reward"] for r in kept) == max(r["reward"] for r in of)
        assert all(r in of for r in kept)
    assert "keeps some of --n 2" in refused(
        capsys, *into_none(sums, tmp_path), "--n", 2, "--diverse", 2
    )
    how = ["--n", 8, "--reward", "length", "--diverse", 3, "--alike", "states"]
    by_states = sample(sums, tmp_path / "states.jsonl", *how)
    assert {repr(r["prompt"]) for r in by_states} == prompts and all(r in every for r in by_states)
    two = write(tmp_path / "two.jsonl", *rows(pairs)[:2])
    assert "20 are needed" in refused(
        capsys, *into_none(sums, tmp_path), "--n", 8, "--diverse", 2, "--triplets", two
    )
    assert not (tmp_path / "none.jsonl").exists()


def into_none(at: Path, tmp_path: Path) -> tuple:
    return (
        "sample",
        "--model",
        at / "sft",
        "--data",
        at / "world" / "prompts.jsonl",
        "--out",
        tmp_path / "none.jsonl",
    )
