"""What users say next as a reward: cues by hand, the simulated users, and logged conversations."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from statistics import fmean

import pytest

from heedful.cli import main
from heedful.envs import cues, load_env, rehearse
from heedful.envs.cues import Exchange
from heedful.envs.dialogue import MOODS
from heedful.envs.plain import played_by
from heedful.errors import UserError

RUDE, RIGHT = "What a stupid question.", "{}."


@pytest.mark.parametrize(
    "spec, one, value",
    [
        ("thanks", Exchange("Lima.", "Great, thank you!"), 1.0),
        ("thanks", Exchange("Lima.", "Thankless."), 0.0),
        ("laughs", Exchange("Lima.", "hahaha, no"), 1.0),
        ("laughs", Exchange("Lima.", "What?"), 0.0),
        ("words", Exchange("Lima.", "one two three four five"), 0.25),
        ("rephrases", Exchange("?", "So what is the capital of Peru?", "What is the capital of Peru?"), -1.0),
        ("rephrases", Exchange("Lima.", "And of Chile?", "What is the capital of Peru?"), 0.0),
        ("leaves", Exchange("Go away.", None, "Hi"), -1.0),
        ("leaves", Exchange("Hello.", "Hi", "Hi"), 0.0),
        ("questions", Exchange("Who? Whoever.", "I"), 0.5),
        ("thanks=2 leaves=3", Exchange("a", "Cheers."), 2.0),
        ("thanks words leaves=3", Exchange("a", None), -3.0),
        ("tiny:cue_of_length", Exchange("a", "abcd"), 4.0),
    ],
)  # fmt: skip
def test_cues_by_hand(spec: str, one: Exchange, value: float):
    """Mutation caught: a word within another; a cue of the reply taken from the next turn; silence that thanks."""
    assert sum(cues.worth(cues.read(spec), one).values()) == pytest.approx(value)


def test_sentiment_is_vader_s():
    """Mutation caught: the sentiment of the policy's own words."""
    (cue,) = cues.read("sentiment")
    glad, sorry = (cue[1](Exchange("I hate you.", text)) for text in ("Great, thanks!", "Awful."))
    assert glad > 0.5 and sorry < -0.3 and cue[1](Exchange("Great.", None)) == 0


@pytest.mark.parametrize(
    "spec, words",
    [
        ("sentimnt", "there is no cue 'sentimnt' — did you mean 'sentiment'"),
        ("thanks=much", "the weight of thanks must be a number"),
        ("", "name at least one of"),
    ],
)
def test_cues_that_are_none(spec: str, words: str):
    with pytest.raises(UserError) as caught:
        cues.read(spec)
    assert words.split(" — ")[0] in str(caught.value)


def test_a_classifier_by_its_folder(tmp_path: Path):
    """Mutation caught: the first label taken for the good one; a label that is not there ignored."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    import tiny

    tok = tiny.tokenizer()
    config = LlamaConfig(vocab_size=len(tok), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                         num_attention_heads=1, pad_token_id=tok.pad_token_id,
                         id2label={0: "POSITIVE", 1: "joy", 2: "NEGATIVE"})  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "c")
    tok.save_pretrained(tmp_path / "c")
    with torch.no_grad():
        logits = model(**tok("abc", return_tensors="pt")).logits[0]
    share = logits.softmax(-1)
    one = Exchange("x", "abc")
    assert cues.cue_of(str(tmp_path / "c"))(one) == pytest.approx(
        float(share[0] - share[2]), abs=1e-5
    )
    assert cues.cue_of(f"{tmp_path / 'c'}#joy")(one) == pytest.approx(float(share[1]), abs=1e-5)
    with pytest.raises(UserError, match="no label 'anger'"):
        cues.cue_of(f"{tmp_path / 'c'}#anger")


def test_rewards_fall_on_the_turn_that_the_user_answered():
    """Without noise the sign of the mood is the voice's, and gold is counted, never part of the reward.

    Mutation caught: a turn rewarded by the mood before it; gold in the reward; a rude reply after which all goes on.
    """
    env = load_env("dialogue", ["noise=0", "turns=3"])
    (row, *_) = env.tasks("train", 0)  # type: ignore[attr-defined]
    right = next(iter(_says(row["prompt"][0]["content"])))
    told = rehearse(env, row, [right, RUDE, "never said"])
    assert [r > 0 for r in told["rewards"]] == [True, False] and told["ended"] == "terminated"
    assert told["counts"]["gold"] == 1.0 - 10.0 and told["reward_parts"].keys() == {"sentiment"}
    heard = told["messages"][2]["content"]
    assert any(heard.startswith(m) for m in MOODS["right and short"])
    again = rehearse(env, row, ["Hard to say.", right, right])
    assert again["messages"][2]["content"].endswith(row["prompt"][0]["content"])


def _says(question: str) -> list[str]:
    from heedful.worlds.capitals.questions import all_questions

    return [RIGHT.format(all_questions()[question].answer)]


def test_votes_are_as_dense_as_is_said():
    """Mutation caught: a density of conversations, not of replies; a vote against a right answer; gold for a vote."""
    env = load_env("dialogue", ["reward=votes", "density=0.25", "noise=0"])
    rows = env.tasks("train", 0)  # type: ignore[attr-defined]
    votes, replies = [], 0
    for i in range(400):
        rng = random.Random(i)
        player = env.players["kind" if i % 2 else "mixed"](rows[i], rng)  # type: ignore[attr-defined]
        episode = asyncio.run(played_by(env, rows[i], player, seed=i))
        given = [turn.reward for turn in episode.turns]
        replies += len(given)
        votes += [v for v in given if v]
        assert i % 2 == 0 or all(v >= 0 for v in given)
    assert set(votes) == {1.0, -1.0} and abs(len(votes) / replies - 0.25) < 0.06


@pytest.mark.parametrize("options", ["kinds=verbs", "density=2", "reward=gold", "cues=nothing"])
def test_options_that_nobody_can_mean(options: str):
    with pytest.raises(UserError):
        load_env("dialogue", [options])


def test_logged_conversations_become_rewarded_replies(tmp_path: Path, capsys):
    """Each reply once, with what came before it, however many rows begin with it; the last one only where leaving
    counts. Mutation caught: replies of the prompt's own examples lost; a reply judged by its own words."""
    talk = [
        {"role": "user", "content": "Capital of Peru?"},
        {"role": "assistant", "content": "Lima, thanks for asking."},
        {"role": "user", "content": "Awful, I hate that."},
        {"role": "assistant", "content": "I am sorry."},
        {"role": "user", "content": "Great, thank you!"},
    ]
    rows = [
        {"prompt": talk[:3], "chosen": [talk[3]], "rejected": [{"role": "assistant", "content": "So?"}]},
        {"messages": [*talk, {"role": "assistant", "content": "Bye."}]},
    ]  # fmt: skip
    source, out = tmp_path / "talks.jsonl", tmp_path / "rated.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["cues", str(source), "--out", str(out), "--cues", "sentiment", "thanks=0.5"]) == 0
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    assert (first["completion"], first["label"]) == ("Lima, thanks for asking.", False)
    assert (second["completion"], second["label"]) == ("I am sorry.", True)
    assert second["prompt"] == talk[:3] and second["reward_parts"]["thanks"] == 0.5
    assert first["reward"] < -0.3 and "2 replies" in capsys.readouterr().out
    assert main(["cues", str(source), "--out", str(out), "--cues", "leaves"]) == 0
    ends = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["reward"] for r in ends if r["completion"] == "Bye."] == [-1.0]
    assert fmean(r["reward"] for r in ends) > -1
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"prompt": "a", "completion": "b"}\n')
    assert main(["cues", str(plain), "--out", str(tmp_path / "o.jsonl")]) == 2
    assert "conversations are wanted" in capsys.readouterr().err
    plain.write_text('{"a": 1}\n')
    assert main(["cues", str(plain), "--out", str(tmp_path / "o.jsonl")]) == 2
    assert "expected a column `messages` or `prompt`, found a" in capsys.readouterr().err
