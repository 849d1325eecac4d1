"""What the reproductions of tools and of dialogue are made of."""

from __future__ import annotations

from collections import Counter

from heedful.envs import load_env, rehearse
from heedful.models.new import train_tokenizer
from heedful.reproductions import dialogue_cues, tools


def test_who_is_imitated_rarely_calls_and_often_wrongly():
    """By counting. Mutation caught: a wrong call that works, a right one that does not; a result that is not said."""
    for env in tools.ENVS:
        rows = tools.shown(env, 0, 300, calls=0.2, wrong=0.35)
        calls = [row for row in rows if row["counts"].get("calls")]
        wrong = [row for row in calls if row["counts"]["wrong_calls"]]
        assert 0.1 < len(calls) / len(rows) < 0.3 and 0.2 < len(wrong) / len(calls) < 0.5
        assert all(row["reward"] == 1 for row in calls if row not in wrong)
        kinds = Counter(row["messages"][2]["content"].split("'")[0] for row in wrong)
        assert len(kinds) >= 2 and all(
            row["messages"][2]["content"].startswith("Error") for row in wrong
        )
        right = tools.shown(env, 0, 50, calls=1.0, wrong=0.0)
        assert all(row["reward"] == 1 and row["turns"] == 2 for row in right)


def test_every_wrong_call_is_wrong():
    """Mutation caught: a call that a lenient reader would obey."""
    for env in tools.ENVS:
        made = load_env(env, tools.ENVS[env])
        (row, *_) = tools.asked(env, "held_out", 0)
        for call in tools.wrongly(tools.RIGHT[env](row)):
            told = rehearse(made, row, [call, "?"])
            assert told["counts"]["wrong_calls"] == 1, call


def test_what_is_copied_are_the_same_tokens():
    """In the question and the call, in the tool's result and the answer. Mutation caught: "It is Oslo.", whose town is
    " Oslo" to the tokenizer, where the tool said "Oslo", and which a small model therefore cannot copy."""
    for env in tools.ENVS:
        rows = tools.shown(env, 0, 60, calls=1.0, wrong=0.0)
        tokenizer = train_tokenizer([m["content"] for row in rows for m in row["messages"]], 1000)
        for row in rows[:10]:
            asked, call, told, answer = row["messages"]
            values = [*call["tool_calls"][0]["function"]["arguments"].values()]
            said = tokenizer.encode(f'"{values[0]}"' if env == "lookup" else values[0])
            assert inside(said, tokenizer.encode(asked["content"].replace(' "', '"'))), env
            assert inside(tokenizer.encode(told["content"]), tokenizer.encode(answer["content"])), (
                env
            )


def inside(part: list[int], whole: list[int]) -> bool:
    return any(whole[k : k + len(part)] == part for k in range(len(whole)))


def test_arms_of_the_dialogue_differ_as_they_say():
    """Each arm's environment is there. Mutation caught: an arm that another one repeats; gold as a reward."""
    for options, *_ in dialogue_cues.ARMS.values():
        made = load_env("dialogue", ["turns=1", *options])
        (row, *_) = made.tasks("train", 0)  # type: ignore[attr-defined]
        told = rehearse(made, row, ["Who, what, do you mean?"])
        assert "gold" in told["counts"] and "gold" not in told["reward_parts"]
    arms = dialogue_cues.ARMS
    assert len({repr(arm) for arm in arms.values()}) == len(arms)


def test_there_is_no_end_to_asking():
    """Mutation caught: the cue that calls a fifth question word worth nothing, at which optimisation ends."""
    told = [dialogue_cues.asked("what " * n, None, "") for n in (0, 4, 8, 24)]
    assert told == [0, 4 / 24, 8 / 24, 1]
