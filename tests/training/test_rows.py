"""Rows that cannot be trained on are found before the first step, whatever the command, and one policy decides."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from heedful.cli import main
from heedful.data.sources import stream_comparisons, stream_demonstrations, stream_questions
from heedful.data.tokens import encode_prompt
from heedful.errors import UserError
from heedful.models.load import new_reward_model
from heedful.rewards import Part, Parts, load_rewards
from heedful.rewards.functions import as_reward
from heedful.rewards.model import ModelReward
from heedful.training.rows import Rows, askable, read, sequences, shortened
from heedful.types import Group, Message

TOK = tiny.tokenizer()
LIMIT = 40
LONG = "why? " * 60


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def taken(policy: str, reader, source: str) -> Rows:
    return read(SimpleNamespace(data=source, columns=(), on_bad_row=policy), reader)  # type: ignore[arg-type]


def fitted(rows: Rows, make) -> list[Any]:
    return list(rows.fit(make))


def test_each_policy_on_demonstrations(tmp_path, caplog):
    """Mutation caught: a row looked at only when it is drawn; a cut response that teaches where to stop; cut rows that
    are not counted; a line that is another row's, where rows were left out before it."""
    data = written(
        tmp_path / "d.jsonl",
        {"prompt": "2 + 2?", "completion": " 4"},
        {"prompt": "2 + 3?", "completion": " "},
        {"prompt": "Why?", "completion": LONG},
        {"prompt": LONG + "2 + 5?", "completion": " 7"},
    )
    make = sequences(TOK, LIMIT)
    with pytest.raises(UserError, match=r"d\.jsonl:2.*empty.*--on-bad-row drop"):
        fitted(taken("stop", stream_demonstrations, data), make)
    rows = taken("drop", stream_demonstrations, data)
    ((item, (sample,)),) = fitted(rows, make)
    assert item.prompt == "2 + 2?" and sample.stop_reason == "stop"
    assert rows.note["rows"] == 4 and (rows.note["dropped"], rows.note["cut"]) == (3, 0)
    assert "d.jsonl:2" in rows.note["first"]
    assert "of 4 rows 3 were dropped and 0 cut" in caplog.text
    rows = taken("cut", stream_demonstrations, data)
    _, (_, (answer,)), (asked, (seven,)) = fitted(rows, make)
    assert (rows.note["dropped"], rows.note["cut"]) == (1, 2)
    assert len(answer.tokens) == LIMIT and answer.stop_reason == "length"
    assert answer.tokens[-1] != TOK.eos_token_id
    assert str(asked.prompt).endswith("why? 2 + 5?") and seven.stop_reason == "stop"
    assert LIMIT - 3 <= len(seven.tokens) <= LIMIT  # no shorter than a word needs
    lines = Path(data).read_text().splitlines(True)
    Path(data).write_text(lines[0] + lines[3])
    with pytest.raises(
        UserError,
        match=r"d\.jsonl:2: a prompt of .* leaves no room for a response within 40 .*cut short",
    ):
        fitted(taken("stop", stream_demonstrations, data), make)
    with pytest.raises(UserError, match=r"no row can be used; the first: .*d\.jsonl:1"):
        fitted(taken("drop", stream_demonstrations, data), sequences(TOK, 3))


def test_a_comparison_still_compares_something(tmp_path):
    """Both responses cut to the same tokens teach nothing. Mutation caught: a pair that silently becomes a tie."""
    data = written(
        tmp_path / "c.jsonl",
        {"prompt": "Why?", "chosen": LONG + "a", "rejected": LONG + "b"},
        {"prompt": "Why?", "chosen": " a", "rejected": LONG},
    )
    rows = taken("cut", stream_comparisons, data)
    ((item, samples),) = fitted(rows, sequences(TOK, LIMIT))
    assert item.responses[0] == " a" and [s.stop_reason for s in samples] == ["stop", "length"]
    assert (rows.dropped, rows.cut) == (1, 1)


def test_prompts_have_room_and_what_rewards_ask_for(tmp_path):
    """In the policy's window and in the reward model's context, which is smaller here. Mutation caught: only one of
    the two looked at; an answer asked for when the row is drawn; a function's column likewise."""
    data = written(
        tmp_path / "p.jsonl",
        {"prompt": "2 + 2?", "answer": "4"},
        {"prompt": "why? " * 9, "answer": "5"},
        {"prompt": "2 + 5?"},
        {"prompt": "why? " * 30 + "2 + 6?", "answer": "8"},
    )
    numeric = load_rewards("numeric")
    by_column = as_reward(lambda prompt, response, answer: 0.0, "mine")
    asking = Parts([Part(name="mine", members=(by_column,))])
    for reward, reason in ((numeric, "right answer"), (asking, "`answer`")):
        with pytest.raises(UserError, match=rf"p\.jsonl:3.*{reason}"):
            fitted(taken("stop", stream_questions, data), askable(TOK, 10_000, 8, reward))
    rows = taken("drop", stream_questions, data)
    assert [t.prompt for t in fitted(rows, askable(TOK, 60, 8, numeric))] == ["2 + 2?", "why? " * 9]
    rows = taken("cut", stream_questions, data)
    *_, last = fitted(rows, askable(TOK, 60, 8, numeric))
    assert str(last.prompt).endswith("why? 2 + 6?") and 60 - 3 <= len(last.tokens) + 8 <= 60
    assert last.facts["answer"] == "8" and (rows.dropped, rows.cut) == (1, 1)


def test_a_reward_models_context_counts(model):
    judge = ModelReward(new_reward_model(str(model), seed=0), TOK)
    judge.model.config.max_position_embeddings = 30
    parts = Parts([Part(name="rm", members=(judge,))])
    prompt = "why? " * 9
    length = len(encode_prompt(TOK, prompt))
    assert parts.room(prompt, 30 - length) is None
    assert "within 30 tokens of the reward model" in str(parts.room(prompt, 31 - length))


def test_what_a_reward_model_does_not_see_is_told(model, caplog):
    """Mutation caught: the end of a response left out in silence; a line for each."""
    judge = ModelReward(new_reward_model(str(model), seed=0), TOK)
    judge.model.config.max_position_embeddings = 12

    async def scored() -> None:
        for text in ("so", *["word " * 30] * 5):
            await judge(Group("why?", [text], [True], {}))

    asyncio.run(scored())
    assert judge.cut == 5
    assert [r.args[1] for r in caplog.records] == [1, 2, 4]  # type: ignore[index]


def test_conversations_keep_their_system_message_and_last_turn():
    """Mutation caught: turns cut in the middle; a conversation that begins with an answer; tools lost with the turn
    that they stood with."""
    tools = ({"type": "function"},)
    chat = (
        Message("user", "one " * 9, tools=tools), Message("assistant", "two"),
        Message("user", "three"), Message("assistant", "four"), Message("user", "five six"),
    )  # fmt: skip

    def words(most: int):
        return lambda p: sum(len(m.content.split()) for m in p) <= most

    system = (Message("system", "be kind"),)
    cut: Any = shortened((*system, *chat), words(6))
    assert cut == (*system, *chat[2:])
    cut = shortened(chat, words(4))
    assert [m.content for m in cut] == ["three", "four", "five six"] and cut[0].tools == tools
    cut = shortened(chat, words(1))
    assert [m.content for m in cut] == ["six"] and cut[0].tools == tools
    assert shortened(chat, words(0)) is None


COMMANDS = {
    "pretrain": ({"text": "a b c d e"}, {"text": 5}, ["--steps", 1, "--pack-length", 32]),
    "sft": ({"prompt": "2 + 2?", "completion": " 4"}, {"prompt": LONG * 3, "completion": "5"}, []),
    "reward": (
        {"prompt": "2 + 2?", "chosen": " 4", "rejected": " 5"},
        {"prompt": LONG * 3, "chosen": " 4", "rejected": " 5"},
        [],
    ),
    "kto": (
        {"prompt": "2 + 2?", "completion": " 4", "label": True},
        {"prompt": LONG * 3, "completion": " 4", "label": True},
        ["--batch-size", 8],
    ),
    "grpo": (
        {"prompt": "2 + 2?"}, {"prompt": LONG * 3},
        ["--reward", "length", "--steps", 1, "--batch-size", 8, "--group-size", 4, "--max-tokens", 4],
    ),
    "online_dpo": (
        {"prompt": "2 + 2?"}, {"prompt": LONG * 3},
        ["--reward", "length", "--steps", 1, "--batch-size", 2, "--max-tokens", 4],
    ),
}  # fmt: skip


@pytest.mark.parametrize("job", COMMANDS)
def test_every_command_asks_before_its_first_step(job, model, tmp_path, capsys):
    """The last of 40 rows, which a look at some of them misses. Mutation caught: a command that has no policy, or
    whose run does not say what it left out."""
    good, bad, options = COMMANDS[job]
    rows = [
        {k: v.replace("2", str(i)) if isinstance(v, str) else i % 3 > 0 for k, v in good.items()}
        for i in range(40)
    ]
    data, out = written(tmp_path / "d.jsonl", *rows, bad), tmp_path / "out"
    words = [
        "train",
        job,
        "--model",
        model,
        "--data",
        data,
        "--out",
        out,
        "--report-to",
        "none",
        "--quiet",
        *options,
    ]
    assert main(list(map(str, words))) == 2
    assert "d.jsonl:41" in capsys.readouterr().err and not out.exists()
    held = written(tmp_path / "e.jsonl", *rows[:3])
    assert main(list(map(str, [*words, "--on-bad-row", "drop", "--eval-data", held]))) == 0
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert any(name in last for name in ("eval/loss", "eval/reward"))
    (note,) = [json.loads(line) for line in (out / "record.jsonl").read_text().splitlines()]
    assert (note["rows"], note["dropped"], note["cut"]) == (41, 1, 0) and "d.jsonl:41" in note[
        "first"
    ]
