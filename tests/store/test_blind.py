"""Responses that name their model: kept, shown and marked."""

from __future__ import annotations

import pytest

from heedful.store.database.db import Store
from heedful.store.exports.export import judgments
from heedful.store.project import records
from heedful.store.project.blind import names_itself
from workspace import answer, claim, make_project, make_rater, make_task


@pytest.mark.parametrize(
    ("text", "model", "named"),
    [
        ("I am ChatGPT, a large language model.", None, True),
        ("I’m Claude.", None, True),
        ("As a language model trained by OpenAI, I cannot.", None, True),
        ("As an AI assistant called Qwen2.5 I think so.", None, True),
        ("I was developed by Mistral.", None, True),
        ("This is dpo-step-40 speaking.", "runs/dpo-step-40", True),
        ("The llama lives in Peru.", None, False),
        ("Claude Monet painted water lilies.", None, False),
        ("I am happy to help.", "runs/sft", False),
        ("Lima.", "runs/lima", False),
    ],
)
def test_who_names_itself(text: str, model: str | None, named: bool):
    """A first person beside a family's name; a llama in Peru is an animal, a model called lima a word."""
    assert names_itself(text, model) is named


def test_a_broken_blind_is_kept_and_marked(store: Store):
    """The rater sees the text unchanged, the answer counts, and the export says that the blind was broken."""
    project, rater = make_project(store), make_rater(store)
    make_task(store, project, responses=("I am ChatGPT. Lima.", "Lima."))
    given = claim(store, project, rater)
    assert given
    receipt = answer(store, given, rater)
    assert receipt.disposition == "counted"
    with store.read() as connection:
        (judged,) = records.load(connection, [receipt.judgment])
    (row,) = judgments(judged)
    assert row["blind_broken"] is True
    assert "I am ChatGPT. Lima." in [c["text"] for c in row["completions"]]
