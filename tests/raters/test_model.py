"""A language model as a judge."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from heedful.cli import main
from heedful.errors import UserError
from heedful.raters.asking import ONE, Letters, agreements, read_principles
from heedful.raters.model import ModelJudge, Options
from heedful.types import Comparison, Message
from tiny import causal_lm, tokenizer


@pytest.fixture(scope="module")
def judge() -> ModelJudge:
    return ModelJudge("llm:tiny", causal_lm("llama", context=512), tokenizer())


def test_both_orders_are_asked(judge: ModelJudge):
    """P(first) and P(second) sum to one whatever the model thinks of the letters; one order alone does not."""
    p = judge.probability("Why?", "Because.", "No.")
    assert p + judge.probability("Why?", "No.", "Because.") == pytest.approx(1)
    one_way = judge._prefers_a("Why?", "Because.", "No.") + judge._prefers_a(
        "Why?", "No.", "Because."
    )
    assert one_way != pytest.approx(1, abs=1e-4)


def test_the_probability_is_the_softmax_of_two_letters(judge: ModelJudge):
    """Against the model's own logits at the last token of the question."""
    from heedful.data.tokens import encode_prompt
    from heedful.raters.model import QUESTION

    text = QUESTION.format(prompt="user: Why?", a="x", b="y")
    prompt = (Message("user", "Why?"),)
    asked = (Message("user", text),) if judge.tokenizer.chat_template else text
    ids = torch.tensor([encode_prompt(judge.tokenizer, asked)])
    letters = [
        judge.tokenizer(a, add_special_tokens=False)["input_ids"]
        for a in (("A", "B") if judge.tokenizer.chat_template else (" A", " B"))
    ]
    assert all(len(a) == 1 for a in letters)
    with torch.no_grad():
        logits = judge.model(ids).logits[0, -1].double()
    wanted = torch.softmax(logits[[letters[0][0], letters[1][0]]], 0)[0]
    assert judge._prefers_a(prompt, "x", "y") == pytest.approx(float(wanted), abs=1e-4)


def test_the_ranking_follows_the_probabilities(judge: ModelJudge, monkeypatch: pytest.MonkeyPatch):
    order = {"best": 3, "middle": 2, "worst": 1}
    monkeypatch.setattr(
        judge, "probability", lambda p, a, b, _: 0.9 if order[a] > order[b] else 0.1
    )
    said = judge.judge("?", ["worst", "best", "middle", "best"])
    assert said.ranking == (3, 1, 2, 1)
    assert said.rater == "llm:tiny"


def test_a_judge_that_cannot_choose_says_tie(judge: ModelJudge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judge, "probability", lambda p, a, b, _: 0.52)
    assert judge.judge("?", ["a", "b"]).ranking == (1, 1)


def _logp(judge: ModelJudge, before: str, after: str) -> float:
    """log P(after | before) of the model, token by token."""
    ids = judge.tokenizer(before)["input_ids"]
    told = judge.tokenizer(after, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logps = judge.model(torch.tensor([ids + told])).logits[0].double().log_softmax(-1)
    return sum(float(logps[len(ids) - 1 + i, t]) for i, t in enumerate(told))


def plain(judge: ModelJudge, **options: Any) -> ModelJudge:
    """The judge without a chat template."""
    words = tokenizer()
    words.chat_template = None
    return replace(judge, tokenizer=words, options=Options(**options))


def test_the_contrast_of_two_assistants(judge: ModelJudge):
    """Against the model's own log-probs. Mutation caught: the persona behind the prompt; the mean over the tokens; the
    end of the turn counted."""
    one = plain(judge, form="contrast", good="Be kind.", bad="Be rude.")
    wanted = [
        _logp(one, "Be kind.\n\nWhy?", text) - _logp(one, "Be rude.\n\nWhy?", text)
        for text in ("Because.", "No idea at all.")
    ]
    found = [one.worth("Why?", text) for text in ("Because.", "No idea at all.")]
    assert found == pytest.approx(wanted, abs=1e-4)
    p = 1 / (1 + math.exp(found[1] - found[0]))
    better = 1 if p > 0.5 else 2
    said = one.judge("Why?", ["Because.", "No idea at all."]).ranking
    assert said == ((1, 1) if abs(p - 0.5) < 0.05 else (better, 3 - better))


def test_yes_and_no(judge: ModelJudge):
    """Mutation caught: the response left out of the question; No − Yes."""
    one = plain(judge, form="yesno")
    text = ONE.format(prompt="Why?", response="Because.")
    wanted = _logp(one, text, " Yes") - _logp(one, text, " No")
    assert one.worth("Why?", "Because.") == pytest.approx(wanted, abs=1e-4)


def test_a_comparison_is_asked_by_one_principle(judge: ModelJudge, tmp_path: Path):
    """Always the same of several, named in the comparison. Mutation caught: the first, or another one each time."""
    file = tmp_path / "principles.txt"
    file.write_text("# ours\nBe brief.\n\nBe kind.\n")
    principles = read_principles("--judge", file)
    assert principles == ("Be brief.", "Be kind.")
    one = replace(judge, principles=principles, letters=Letters("", force=True))
    asked = [one.judge(f"Why {i}?", ["yes", "no"]).explanation for i in range(20)]
    assert set(asked) == {"Be brief.", "Be kind."}
    assert asked == [one.judge(f"Why {i}?", ["no", "yes"]).explanation for i in range(20)]
    file.write_text("# none\n")
    with pytest.raises(UserError, match="has no principle; one a line"):
        read_principles("--judge", file)


def test_a_judge_of_places_is_refused():
    """Mutation caught: consistent pairs counted as the same letter; ties counted; a few pairs enough."""
    letters = Letters("--judge llm:M")
    for _ in range(24):
        letters.heard(0.9, 0.8)
        letters.heard(0.5, 0.9)
    with pytest.raises(UserError, match="llm:M says the same letter in both orders of 25 of 25"):
        letters.heard(0.1, 0.2)
    fair = Letters("--judge llm:M")
    for i in range(100):
        fair.heard(0.9, 0.8 if i % 5 else 0.2)
    assert (fair.pairs, fair.same) == (100, 80)  # not above four fifths
    assert "in both orders of 20% of 100 pairs" in fair.told()
    forced = Letters("--judge llm:M", force=True)
    for _ in range(100):
        forced.heard(0.9, 0.8)


def test_agreement_with_people():
    """Pairs that people left open count for nothing, those the judge left open a half."""
    people = [Comparison("?", ("a", "b", "c"), (1, 2, 2)), Comparison("?", ("a", "b"), (1, 2))]
    judge_ = [Comparison("?", ("a", "b", "c"), (1, 1, 2)), Comparison("?", ("a", "b"), (2, 1))]
    assert agreements(people, judge_) == [0.5, 1.0, 0.0]


def test_the_command_tells_how_far_a_judge_can_be_used(tmp_path: Path, capsys):
    """Before its labels are written. Mutation caught: agreement told of the samples; a refusal that leaves a file."""
    causal_lm("llama", context=512).save_pretrained(tmp_path / "m")
    tokenizer().save_pretrained(tmp_path / "m")
    rows = [{"prompt": f"Why {i}?", "completion": c} for i in range(15) for c in ("yes", "never")]
    pairs = [{"prompt": f"How {i}?", "chosen": "so", "rejected": "otherwise"} for i in range(4)]
    for name, lines in {"samples": rows, "people": pairs}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    line = ["judge", "--data", str(tmp_path / "samples.jsonl"), "--quiet", "--out"]
    out = tmp_path / "out.jsonl"
    contrast = [f"llm:{tmp_path / 'm'}(form=contrast)", "--people", str(tmp_path / "people.jsonl")]
    assert main([*line, str(out), "--judge", *contrast]) == 0
    assert re.search(
        r"agrees with people in \d+% \[\d+%, \d+%\] of 4 pairs", capsys.readouterr().err
    )
    assert len(out.read_text().splitlines()) == 15
    assert (
        main([*line, str(tmp_path / "none.jsonl"), "--judge", f"llm:{tmp_path / 'm'}(form=abc)"])
        == 2
    )
    assert "form must be one of ab, yesno, contrast, not 'abc'" in capsys.readouterr().err
    assert main([*line, str(tmp_path / "none.jsonl"), "--judge", "scores", *contrast[1:]]) == 2
    assert "--judge scores asks nobody" in capsys.readouterr().err
    assert not (tmp_path / "none.jsonl").exists()


def test_it_loads_from_a_folder(tmp_path: Path):
    causal_lm("llama", context=512).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert ModelJudge.load(str(tmp_path)).name == f"llm:{tmp_path}"
