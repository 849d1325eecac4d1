"""Comparisons out of Argilla's, Label Studio's and TRL's files: who is better must never be turned round."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.data.files import read_rows
from heedful.data.foreign import comparisons, form_of, votes
from heedful.errors import UserError
from heedful.types import Comparison, Message

ASKED = "What is the capital of Peru?"
FIELDS = {"prompt": ASKED, "response-1": "Lima.", "response-2": "Cusco.", "response-3": "Oslo."}


def at(*rows):
    return [(f"f.jsonl:{i}", row) for i, row in enumerate(rows, start=1)]


def ranked(comparison: Comparison) -> dict[str, int]:
    return dict(zip(comparison.responses, comparison.ranking, strict=True))


def nested(**questions):
    """A record of Argilla 2's `to_json`."""
    return {"id": "1", "_server_id": "s", "fields": FIELDS, "metadata": {}, "vectors": {},
            "suggestions": {"preference": {"value": ["response-3"], "score": None, "agent": "m"}},
            "responses": questions}  # fmt: skip


def test_argilla_rankings_of_every_person():
    """Best first, by field name; suggestions of models are nobody's opinion."""
    row = nested(
        preference=[
            {"value": ["response-2", "response-1", "response-3"], "user_id": "u1"},
            {"value": ["response-1", "response-3", "response-2"], "user_id": "u2"},
        ]
    )
    first, second = comparisons(at(row))
    assert ranked(first) == {"Lima.": 2, "Cusco.": 1, "Oslo.": 3}
    assert ranked(second) == {"Lima.": 1, "Cusco.": 3, "Oslo.": 2}
    assert (first.rater, second.rater, first.prompt) == ("u1", "u2", ASKED)
    assert form_of(row) == "argilla"


def test_argilla_flattened_columns():
    """What `to_datasets` gives; drafts and discarded answers do not count, an unanswered record gives none."""
    row = {
        "id": "1", "status": "completed", "_server_id": "s", **FIELDS,
        "preference.responses": [
            ["response-2", "response-1"], ["response-1", "response-2"], ["response-3", "response-1"]
        ],
        "preference.responses.users": ["u1", "u2", "u3"],
        "preference.responses.status": ["submitted", "discarded", "draft"],
        "preference.suggestion": ["response-1"], "preference.suggestion.agent": None,
    }  # fmt: skip
    empty = row | {k: None for k in row if k.startswith("preference.responses")}
    (only,) = comparisons(at(row, empty))
    assert ranked(only) == {"Lima.": 2, "Cusco.": 1}
    assert only.rater == "u1"


def test_argilla_one_with_ties():
    """Argilla 1: a list of answers in the question's column, rankings with ranks; ties stay ties."""
    said = [
        {"rank": 1, "value": "response-2"},
        {"rank": 2, "value": "response-1"},
        {"rank": 2, "value": "response-3"},
    ]
    rows = [
        FIELDS | {"ranking": [{"user_id": "u1", "value": said, "status": "submitted"}]},
        FIELDS | {"ranking": {"user_id": ["u2", "u3"], "value": [
            {"rank": [1, 1], "value": ["response-1", "response-2"]}, None],
            "status": ["submitted", "discarded"]}},
    ]  # fmt: skip
    first, second = comparisons(at(*rows))
    assert ranked(first) == {"Lima.": 2, "Cusco.": 1, "Oslo.": 2}
    assert (ranked(second), second.rater) == ({"Lima.": 1, "Cusco.": 1}, "u2")


@pytest.mark.parametrize(
    ("said", "best"),
    [("response-2", "b"), ("Response 2", "b"), ("response_1", "a"), ("1", "a"), ("tie", "ab")],
)
def test_argilla_choices_by_label(said, best):
    """A label question, its labels written as people write them."""
    row = {"instruction": ASKED, "response-1": "a", "response-2": "b", "source": "web",
           "preference.responses": [said], "preference.responses.users": ["u"]}  # fmt: skip
    (found,) = comparisons(at(row))
    assert "".join(r for r, rank in ranked(found).items() if rank == 1) == best
    assert found.prompt == (Message("user", ASKED),)


def test_argilla_ratings_of_each_response():
    """distilabel's form: a rating question for each generation; a higher rating is a better rank."""
    row = nested(**{
        "generations-0-rating": [{"value": 2, "user_id": "u"}],
        "generations-1-rating": [{"value": 5, "user_id": "u"}],
        "generations-1-rationale": [{"value": "Clear.", "user_id": "u"}],
        "generations-2-rating": [{"value": 2, "user_id": "u"}],
    })  # fmt: skip
    texts = {f"generations-{i}": text for i, text in enumerate("abc")}
    row |= {"fields": {"id": "x", "instruction": ASKED, **texts}}
    (found,) = comparisons(at(row))
    assert ranked(found) == {"a": 2, "b": 1, "c": 2}


def test_argilla_in_columns_and_by_id(tmp_path):
    """`to_dict` with names or ids as keys, dumped as one JSON object."""
    answers = {"preference": [{"value": ["response-2", "response-1"], "user_id": "u"}]}
    by_name = {"id": ["1", "2"], "fields": [FIELDS, FIELDS], "responses": [answers, {}]}
    by_id = {"1": nested(**answers)}
    for value in (by_name, by_id):
        path = tmp_path / "records.json"
        path.write_text(json.dumps(value, indent=1))
        (found,) = comparisons(read_rows(path))
        assert ranked(found) == {"Lima.": 2, "Cusco.": 1}


def studio(*results, data=None, **about):
    """A task of Label Studio's JSON export."""
    given = {"id": 1001, "was_cancelled": False, "lead_time": 4.288, "completed_by": 10,
             "created_at": "2021-03-09T22:16:08.728353Z", "result": list(results)}  # fmt: skip
    data = data or {"prompt": ASKED, "answer1": "Lima.", "answer2": "Cusco."}
    return {"id": 1, "data": data, "annotations": [given | about], "predictions": []}


def pairwise(selected, to_name="answer1,answer2"):
    return {"id": "x", "from_name": "comparison", "to_name": to_name, "type": "pairwise",
            "value": {"selected": selected}}  # fmt: skip


def ranker(value):
    return {"from_name": "rank", "to_name": "answers", "type": "ranker", "value": {"ranker": value}}


ITEMS = {"prompt": ASKED, "items": [{"id": f"llm_{i}", "title": f"LLM {i}", "body": b} for i, b in
                                    enumerate(["Lima.", "Cusco.", "Oslo."], start=1)]}  # fmt: skip


@pytest.mark.parametrize(("selected", "best"), [("left", "Lima."), ("right", "Cusco.")])
def test_label_studio_pairs(selected, best):
    """Left is the first name in `to_name`, whatever order `data` has."""
    for order in (("answer1", "answer2"), ("answer2", "answer1")):
        texts = {"answer1": "Lima.", "answer2": "Cusco."}
        data = {"prompt": ASKED} | {name: texts[name] for name in order}
        (found,) = comparisons(at(studio(pairwise(selected), data=data)))
        assert ranked(found)[best] == 1
        assert found.responses[found.order_shown[0]] == "Lima."
        assert (found.rater, found.seconds) == ("labeller 10", 4.288)


def test_label_studio_tags_with_names_of_their_own():
    """`toName` speaks of tags; the columns are then the two other texts."""
    (found,) = comparisons(at(studio(pairwise("right", "txt-1,txt-2"))))
    assert ranked(found) == {"Lima.": 2, "Cusco.": 1}


@pytest.mark.parametrize(
    "value",
    [
        {"rank": ["llm_2", "llm_1", "llm_3"]},
        ["llm_2", "llm_1", "llm_3"],
        {"_": [], "best": ["llm_2", "llm_1", "llm_3"]},
        {"_": ["llm_2", "llm_1", "llm_3"], "biased": []},
    ],
)
def test_label_studio_rankings(value):
    (found,) = comparisons(at(studio(ranker(value), data=ITEMS)))
    assert ranked(found) == {"Lima.": 2, "Cusco.": 1, "Oslo.": 3}


def test_label_studio_leaves_out_what_nobody_answered():
    """Cancelled annotations and tasks without one; a person's address never becomes a pseudonym."""
    cancelled = studio(pairwise("left"), was_cancelled=True)
    waiting = studio() | {"annotations": []}
    by = {"id": 7, "email": "ada@example.org", "first_name": "Ada"}
    (found,) = comparisons(at(cancelled, waiting, studio(pairwise("left"), completed_by=by)))
    assert found.rater == "labeller 7"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (nested(preference=[{"value": ["response-9", "response-1"], "user_id": "u"}]), "'response-9'"),
        (nested(ranking=[{"value": ["response-1", "response-9"], "user_id": "u"}]), "`ranking` names"),
        (nested(preference=[{"value": "response-1", "user_id": "u"}]), "which field is the other"),
        (nested(preference=[{"value": "better", "user_id": "u"}]), "'better'"),
        (nested(x=[]) | {"fields": {"response-1": "a"}, "responses": {"preference": []}}, "`prompt`"),
        (studio(pairwise("up")), "`selected` must be left or right"),
        (studio(pairwise("left"), data={"prompt": ASKED, "a": "x"}), "`to_name`"),
        (studio(ranker({"a": ["llm_1"], "b": ["llm_2"]}), data=ITEMS), "several buckets"),
        (studio(ranker(["llm_1", "llm_9"]), data=ITEMS), "'llm_9'"),
        (studio(ranker(["llm_1"]), data=ITEMS), "at least two"),
        (studio(pairwise("left"), data={"answer1": "a", "answer2": "b"}), "`prompt`"),
        (studio() | {"annotations": [{"result": None}]}, "annotation 1: `result`"),
        (studio() | {"annotations": []}, "none of 1 rows holds an answer"),
        ({"prompt": "p", "completions": ["a"], "labels": [True]}, "stepwise"),
        ({"prompt": "p", "completion": "a", "label": True}, "votes"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "the same"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_place_and_field(row, words):
    with pytest.raises(UserError) as error:
        list(comparisons(at(row)))
    assert "f.jsonl:1" in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_rows_can_be_left_out(caplog):
    good, bad = studio(pairwise("left")), studio(pairwise("up"))
    with caplog.at_level("WARNING", "heedful"):
        assert len(list(comparisons(at(bad, good, bad), skip_bad=True))) == 1
    assert "skipped 2 invalid rows" in caplog.text
    with pytest.raises(UserError, match="all 1 rows are unusable"):
        list(comparisons(at(bad), skip_bad=True))


def test_plain_forms_pass_through():
    """HH-RLHF, TRL's preference form and heedful's rankings, told by their columns."""
    hh = {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello",
        "rejected": "\n\nHuman: Hi\n\nAssistant: No",
    }
    trl = {"prompt": [{"role": "user", "content": "Hi"}],
           "chosen": [{"role": "assistant", "content": "Hello"}],
           "rejected": [{"role": "assistant", "content": "No"}]}  # fmt: skip
    ours = {"prompt": "Hi", "responses": ["No", "Hello"], "ranking": [2, 1], "rater": "ada"}
    for row in (hh, trl, ours):
        (found,) = comparisons(at(row))
        assert ranked(found) == {"Hello": 1, "No": 2}
    with pytest.raises(UserError, match="unknown form"):
        list(comparisons(at(ours), "trel"))


def test_unpaired_labels():
    rows = at(
        {"prompt": "p", "completion": "a", "label": True},
        {"prompt": "p", "completion": "b", "label": "False", "rater": "ada"},
    )
    rows += at({"prompt": "p", "completion": "c", "label": 1})  # as pandas writes it
    assert votes(rows) == [
        ("p", "a", True, None), ("p", "b", False, "ada"), ("p", "c", True, None),
    ]  # fmt: skip
    for row, words in [
        ({"prompt": "p", "completion": "a", "label": 2}, "`label` must be true"),
        ({"prompt": "p", "completion": "a"}, "`label`"),
        ({"prompt": "p", "completion": " ", "label": True}, "empty response"),
    ]:
        with pytest.raises(UserError, match=words):
            votes(at(row))


@given(st.permutations(["response-1", "response-2", "response-3"]))
def test_the_first_in_an_argilla_ranking_is_the_best(order):
    """Property: rank = place in the list, whichever the order of the fields."""
    (found,) = comparisons(at(nested(preference=[{"value": order, "user_id": "u"}])))
    assert [FIELDS[name] for name in order] == sorted(
        found.responses, key=lambda r: ranked(found)[r]
    )
