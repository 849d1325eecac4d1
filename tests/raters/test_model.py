"""A language model as a judge."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heedful.raters.model import ModelJudge
from heedful.types import Message
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
    monkeypatch.setattr(judge, "probability", lambda p, a, b: 0.9 if order[a] > order[b] else 0.1)
    said = judge.judge("?", ["worst", "best", "middle", "best"])
    assert said.ranking == (3, 1, 2, 1)
    assert said.rater == "llm:tiny"


def test_a_judge_that_cannot_choose_says_tie(judge: ModelJudge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judge, "probability", lambda p, a, b: 0.52)
    assert judge.judge("?", ["a", "b"]).ranking == (1, 1)


def test_it_loads_from_a_folder(tmp_path: Path):
    causal_lm("llama", context=512).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert ModelJudge.load(str(tmp_path)).name == f"llm:{tmp_path}"
