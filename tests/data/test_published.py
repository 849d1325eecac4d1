"""Sets of preferences as they were published, in rows of our own: what each says is what is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.data.sources import (
    read_comparisons,
    read_demonstrations,
    read_prompts,
    read_questions,
    read_texts,
    read_unpaired,
)
from heedful.doctor.material import read_material
from heedful.errors import UserError
from heedful.types import Comparison, Message

ASK = (Message("user", "Why is rain wet?"),)
SO = Message("assistant", "So.")


def rated(text: str, *ratings: str, **other: Any) -> dict[str, Any]:
    aspects = {f"aspect {k}": {"Rating": r, "Rationale": "…"} for k, r in enumerate(ratings)}
    return {"model": "m", "response": text, "annotations": aspects, **other}


ULTRA = {
    "source": "ours", "instruction": "Why is rain wet?", "models": ["m", "n", "o"], "correct_answers": ["None"],
    "completions": [
        rated("a", "4", "2", overall_score=9.0), rated("b", "5", "5", overall_score=1.0), rated("c", "3", "3"),
    ],
}  # fmt: skip
SHP = {
    "post_id": "1", "domain": "askus", "history": "Why is rain wet?", "human_ref_A": "a", "human_ref_B": "b",
    "labels": 0, "score_A": 3, "score_B": 11, "score_ratio": 3.7,
}  # fmt: skip
NECTAR = {
    "prompt": "\n\nHuman: Why is rain wet?\n\nAssistant: ", "turns": 1, "num_responses": 3,
    "answers": [
        {"answer": "a", "model": "m", "rank": 2.0}, {"answer": "b", "rank": 1.0}, {"answer": "c", "rank": 3.0},
    ],
}  # fmt: skip
HELP2 = {
    "split": "train", "prompt": "Why is rain wet?", "response_1": "a", "response_2": "b", "preference_strength": 2,
    "preference_statement": "…",
}  # fmt: skip
HELP3 = {
    "domain": "general", "language": "english", "context": [{"role": "user", "content": "Why is rain wet?"}],
    "response1": "a", "response2": "b", "overall_preference": -1, "individual_preference": [{"score": -1}],
}  # fmt: skip
SAFE = {
    "prompt": "Why is rain wet?", "response_0": "a", "response_1": "b", "is_response_0_safe": True,
    "better_response_id": 1, "safer_response_id": 0,
}  # fmt: skip
WEBGPT = {
    "question": {"dataset": "ours", "id": "1", "full_text": "Why is rain wet?"}, "answer_0": "a", "answer_1": "b",
    "score_0": -0.5, "score_1": 0.5, "quotes_0": {}, "quotes_1": {},
}  # fmt: skip
SUMMARIES = {
    "info": {"id": "1", "title": "Rain", "post": "It rained.", "subreddit": "r/rain"}, "worker": "w1", "choice": 1,
    "summaries": [{"text": " a", "policy": "x"}, {"text": " b", "policy": "y"}], "split": "train",
}  # fmt: skip
LISTS = {
    "id": 7, "model_a": "m", "model_b": "n", "prompt": '["Why is rain wet?", "Why?"]', "response_a": '["So.", "a"]',
    "response_b": '["So.", "b"]', "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
}  # fmt: skip
STACK = {
    "qid": 1, "question": "Why is rain wet?", "date": "2013/01/01", "metadata": [],
    "answers": [
        {"answer_id": 1, "text": "a", "pm_score": 0, "selected": False}, {"text": "b", "pm_score": 4},
        {"text": "c", "pm_score": 0},
    ],
}  # fmt: skip
VOTES = {"prompt": "Why is rain wet?", "responses": ["a", "b", "c", "d"], "votes": [2, 70, 3, -5]}
SETS: dict[str, tuple[dict[str, Any], Comparison]] = {
    "UltraFeedback": (ULTRA, Comparison(ASK, ("a", "b", "c"), (2, 1, 2))),
    "SHP": (SHP, Comparison(ASK, ("a", "b"), (2, 1))),
    "Nectar": (NECTAR, Comparison(ASK, ("a", "b", "c"), (2, 1, 3))),
    "HelpSteer2": (HELP2, Comparison(ASK, ("a", "b"), (2, 1), strength=2 / 3)),
    "HelpSteer3": (HELP3, Comparison(ASK, ("a", "b"), (1, 2), strength=1 / 3)),
    "PKU-SafeRLHF": (SAFE, Comparison(ASK, ("a", "b"), (2, 1))),
    "WebGPT": (WEBGPT, Comparison(ASK, ("a", "b"), (2, 1))),
    "Stack Exchange": (STACK, Comparison(ASK, ("b", "a"), (1, 2))),
    "votes": (VOTES, Comparison("Why is rain wet?", ("b", "a", "d"), (1, 2, 3))),  # 2 and 3 are both of level 2
    "summaries": (SUMMARIES, Comparison("TITLE: Rain\nPOST: It rained.\nTL;DR:", (" a", " b"), (2, 1), rater="w1")),
    "arena in lists": (
        LISTS,
        Comparison((*ASK, SO, Message("user", "Why?")), ("a", "b"), (2, 1), order_shown=(0, 1)),
    ),
}  # fmt: skip


def put(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", SETS)
def test_a_published_set_is_read_as_it_is(name, tmp_path):
    """As comparisons, as prompts, as thumbs, and by doctor. Mutation caught: a scale read the other way round, a rank
    for a score, a prompt that is continued where somebody asks."""
    row, wanted = SETS[name]
    path = put(tmp_path, row)
    assert read_comparisons(path) == [wanted]
    assert read_prompts(path) == [wanted.prompt]
    best = wanted.responses[wanted.ranking.index(1)]
    assert best in [u.response for u in read_unpaired(path) if u.desirable]
    assert read_material(path, 9).form == "comparisons"
    ((_, facts),) = read_questions(path)
    assert not facts.keys() & {"responses", "ranking"}


def test_the_safer_of_two_where_it_is_asked_for(tmp_path):
    """Mutation caught: the more helpful one, whatever the columns are said to be."""
    (safer,) = read_comparisons(
        put(tmp_path, SAFE), columns=["better_response_id=safer_response_id"]
    )
    assert safer.ranking == (1, 2)


def test_ties_and_the_ends_of_a_scale(tmp_path):
    """Mutation caught: 0 as the first's, a strength of 0 for a tie, a winner's column that is a text in CSV."""
    (tie,) = read_comparisons(put(tmp_path, HELP2 | {"preference_strength": 0}))
    assert tie.ranking == (1, 1) and tie.strength is None
    (most,) = read_comparisons(put(tmp_path, HELP3 | {"overall_preference": -3}))
    assert most.ranking == (1, 2) and most.strength == 1
    drawn = LISTS | {"winner_model_b": "0", "winner_tie": "1", "winner_model_a": "0"}
    (battle,) = read_comparisons(put(tmp_path, drawn))
    assert battle.ranking == (1, 1)


@pytest.mark.parametrize(
    "row",
    [
        ULTRA | {"completions": [rated("a", "4"), rated("b", "N/A")]},
        SHP | {"labels": None},
        NECTAR | {"answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": None}]},
        HELP3 | {"overall_preference": -9},
        HELP2 | {"preference_strength": None},
        SUMMARIES | {"choice": 2},
        LISTS | {"winner_model_b": 0},
    ],
    ids=lambda row: next(iter(row)),
)
def test_what_a_row_does_not_say_is_not_made_up(row, tmp_path):
    """Mutation caught: a missing rating that counts as the lowest, a preference beyond its scale, a winner of none."""
    with pytest.raises(UserError, match=r"d\.jsonl:1"):
        read_comparisons(put(tmp_path, row))


def test_tldr_files_are_demonstrations(tmp_path):
    """Mutation caught: another prompt than that of the comparisons of the same posts."""
    row = {"id": "1", "title": "Rain", "post": "It rained.", "summary": "Wet."}
    (d,) = read_demonstrations(put(tmp_path, row))
    assert (d.prompt, d.completion) == ("TITLE: Rain\nPOST: It rained.\nTL;DR:", " Wet.")
    assert read_comparisons(put(tmp_path, SUMMARIES))[0].prompt == d.prompt


def test_the_right_answers_of_verls_files(tmp_path):
    """DAPO's problems. Mutation caught: a verifier finds no answer in the published set; the tests of code, a list, as
    one."""
    row = {"data_source": "math_dapo", "prompt": [{"role": "user", "content": "2+2?"}],
           "reward_model": {"ground_truth": "4", "style": "rule"}}  # fmt: skip
    ((prompt, facts),) = read_questions(put(tmp_path, row))
    assert facts["answer"] == "4" and prompt == (Message("user", "2+2?"),)
    for other in ({"ground_truth": ["a"]}, "runs/reward", {"style": "rule"}):
        ((_, facts),) = read_questions(put(tmp_path, row | {"reward_model": other}))
        assert "answer" not in facts


def message(
    name: str, parent: str | None, text: str, rank: int | None = None, **other: Any
) -> dict[str, Any]:
    role = "assistant" if name.startswith("a") else "prompter"
    return {
        "message_id": name, "parent_id": parent, "message_tree_id": "q1", "role": role, "text": text, "rank": rank,
        "lang": "en", "deleted": False, **other,
    }  # fmt: skip


TREE = [
    message("q1", None, "Why is rain wet?"),
    message("a1", "q1", "a", 1), message("a2", "q1", "b", 0), message("a3", "q1", "c"),
    message("q2", "a1", "Why?"), message("a4", "q2", "So."),
    message("q3", "a4", "Nobody answers this."),
    message("a5", "q1", "spam", 2, deleted=True), message("q4", "a5", "What?"), message("a6", "q4", "Spam."),
]  # fmt: skip


def test_trees_of_messages_are_questions_with_their_replies(tmp_path, caplog):
    """Comparisons of what people ranked, demonstrations of the best reply, and prompts, each with the conversation
    before it; the trees of two files in a row, and one whose replies stand first.

    Mutation caught: rank 0 for the worst; a reply without a rank as one that was compared; what was deleted, or what
    answers it; a tree that is cut where the next begins.
    """
    other = [m | {"message_tree_id": "p", "text": m["text"].upper()} for m in reversed(TREE)]
    path = put(
        tmp_path, *TREE, *other, {"prompt": "x", "completion": "y", "chosen": "y", "rejected": "z"}
    )
    longer = (*ASK, Message("assistant", "a"), Message("user", "Why?"))
    first, second, plain = read_comparisons(path)
    assert (first.prompt, first.responses, first.ranking) == (ASK, ("b", "a"), (1, 2))
    assert (second.responses, plain.responses) == (("B", "A"), ("y", "z"))
    assert "a question without two ranked replies compares nothing (2)" in caplog.text
    shown = [(d.prompt, d.completion) for d in read_demonstrations(path)]
    assert shown[:2] == [(ASK, "b"), (longer, "So.")] and len(shown) == 5
    assert read_prompts(path)[:2] == [ASK, longer]
    assert read_material(path, 9).form == "comparisons"


def test_a_tree_that_cannot_be_read_is_a_row_that_does_not_fit(tmp_path):
    """Mutation caught: a traceback; a tree whose role is not known that ends a run which leaves such rows out."""
    path = put(
        tmp_path,
        message("q1", None, "?", role="judge"),
        *(m | {"message_tree_id": "2"} for m in TREE),
    )
    with pytest.raises(UserError, match=r"d\.jsonl:1: a message needs a `text`, and the `role`"):
        read_demonstrations(path)
    assert len(read_comparisons(path, skip_bad=True)) == 1


def test_guanacos_texts_are_conversations(tmp_path):
    """Mutation caught: one text whose first turn alone is asked; a heading within an answer taken for a turn; a text of
    another kind made into something."""
    text = "### Human: Why is rain wet?### Assistant: So.\n\n### Reasons\nMany.### Human: Why?\n### Assistant: a"
    first, second = read_demonstrations(put(tmp_path, {"text": text}))
    assert (first.prompt, first.completion) == (ASK, "So.\n\n### Reasons\nMany.")
    assert second.prompt == (*ASK, Message("assistant", first.completion), Message("user", "Why?"))
    assert read_prompts(put(tmp_path, {"text": text})) == [second.prompt]
    assert read_prompts(put(tmp_path, {"text": "### Human: Why is rain wet?### Assistant:"})) == [
        ASK
    ]
    assert read_texts(put(tmp_path, {"text": text})) == [
        text
    ]  # `train pretrain` reads it as it stands
    for other in (
        "### Assistant: a### Human: b",
        "Look: ### Human: a### Assistant: b",
        "### Human: a",
    ):
        with pytest.raises(UserError, match="a `text` alone has no prompt and no answer"):
            read_demonstrations(put(tmp_path, {"text": other}))


def test_xlams_calls_of_functions(tmp_path):
    """Mutation caught: tools that no template knows; an argument that may be left out as one that must be there; calls
    as text."""
    days = {"type": "List[int], optional", "default": 1}
    named = {"place": {"type": "str", "description": "Where"}, "days": days}
    tool = {"name": "rain", "description": "How much?", "parameters": named}
    call = {"name": "rain", "arguments": {"place": "Oslo"}}
    row = {
        "id": 0,
        "query": "Why is rain wet?",
        "tools": json.dumps([tool]),
        "answers": json.dumps([call, call]),
    }
    (d,) = read_demonstrations(put(tmp_path, row))
    assert (d.prompt[0].content, d.completion) == ("Why is rain wet?", "")
    assert [dict(c["function"]) for c in d.tool_calls] == [call, call]
    (given,) = d.prompt[0].tools
    assert given["function"]["parameters"] == {
        "type": "object", "required": ["place"],
        "properties": {"place": {"type": "string", "description": "Where"}, "days": {"type": "array", "default": 1}},
    }  # fmt: skip
    with pytest.raises(UserError, match=r"d\.jsonl:1"):
        read_demonstrations(put(tmp_path, row | {"answers": "[]"}))
