"""`--reward` on the command line: folders, functions, built-ins, ensembles, names, weights; and what goes wrong."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from pathlib import Path

import pytest

import tiny
from heedful import registry
from heedful.errors import UserError
from heedful.models.load import new_reward_model
from heedful.rewards import Group, Parts, load_rewards
from heedful.rewards.model import ModelReward
from heedful.types import Message
from heedful.waiting import all_of

CHAT = (Message("user", "What is 2 + 2?"),)

MINE = '''
import functools

def plain(prompt, response): return float(len(response))
def lifted(question, said, facts): return facts["level"] * len(said)
def column(prompt, response, level, *, factor=1.0, shout: bool = False):
    return factor * level + shout
def ending(prompt, response, ended): return float(ended)
async def later(prompt, response): return 7
def group(prompt, responses, facts): return [float(i) for i, _ in enumerate(responses)]
async def group_later(prompt, responses): return [len(responses)] * len(responses)
def anything(*args): return float(len(args))
def one(response): return 0.0
def trl(completions, level, **kwargs):
    assert sorted(kwargs) == ["answer", "completion_ids", "log_extra", "log_metric", "prompts", "trainer_state"]
    return [l * len(c if isinstance(c, str) else c[0]["content"]) for c, l in zip(completions, level)]
def trl_state(prompts, trainer_state, log_metric, log_extra, level=None, **kwargs):
    log_metric("mine", 2.0)
    log_extra("seen", level)
    return [trainer_state.global_step / trainer_state.max_steps + len(c) for c in kwargs["completions"]]
def trl_ids(completion_ids, **kwargs): return [float(sum(ids)) for ids in completion_ids]
def trl_everything(**kwargs): return [None if len(c) > 1 else 1.0 for c in kwargs["completions"]]
def trl_needs(completions, gold): return [0.0]
async def trl_later(prompts, completions, **kwargs): return [None for c in completions]
def ids(prompt, response, completion_ids, prefilled): return sum(completion_ids) + len(prefilled)
def dicts(prompt, response): return float(len(prompt[0]["content"]) + len(prompt[-1].get("role")))
def trl_short(prompts, completions): return [float(len(p)) for p in prompts]
class Judge:
    def __call__(self, prompt, response): return 3.0
    @staticmethod
    def long(prompt, response): return float(len(response))
instance = Judge()
partial = functools.partial(column, factor=5.0)
word = "no function"
'''  # fmt: skip

REWARDS = {name: entry.load() for name, entry in registry.entries("reward").items()}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("def f(:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("mine", None)


def values(parts: Parts, *responses: str, prompt="Why?", ended=None) -> list[float]:
    facts = {"answer": "4", "level": 2}
    ids = [[1], [2, 3, 4]][: len(responses)]
    group = Group(
        prompt, responses, ended or [True] * len(responses), facts, tokens=ids, prefilled="<think>"
    )
    parts.progress = (1, 4, 0.5)
    return asyncio.run(parts.score([group])).total


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mine:plain", [1.0, 3.0]),
        ("mine:lifted", [2.0, 6.0]),
        ("mine:column", [2.0, 2.0]),
        ("mine:column(factor=1.5, shout=true)", [4.0, 4.0]),
        ("mine:ending", [1.0, 0.0]),
        ("mine:later", [7.0, 7.0]),
        ("mine:group", [0.0, 1.0]),
        ("mine:group_later", [2.0, 2.0]),
        ("mine:anything", [2.0, 2.0]),
        ("mine:trl", [2.0, 6.0]),
        ("mine:trl_short", [4.0, 4.0]),
        ("./mine.py:trl_short", [4.0, 4.0]),
        ("mine:trl_state", [1.25, 3.25]),
        ("mine:trl_ids", [1.0, 9.0]),
        ("mine:trl_everything", [1.0, None]),
        ("mine:trl_later", [None, None]),
        ("mine:ids", [8.0, 16.0]),
        ("mine:instance", [3.0, 3.0]),
        ("mine:Judge.long", [1.0, 3.0]),
        ("mine:partial", [10.0, 10.0]),
        ("operator:contains", None),
    ],
)
def test_functions_by_their_signature(mine, spec, expected):
    """Mutation caught: facts or options in the wrong parameter, a coroutine as a number, a group called one by one."""
    if expected is None:  # written in C, with the signature (a, b, /)
        assert values(load_rewards(spec), "W", "no") == [1.0, 0.0]
    else:
        assert values(load_rewards(spec), "a", "bcd", ended=[True, False]) == expected


def test_a_function_of_trl_gets_messages_for_a_conversation(mine):
    assert values(load_rewards("mine:trl"), "a", "bcd", prompt=CHAT) == [2.0, 6.0]
    assert values(load_rewards("mine:dicts"), "a", prompt=CHAT) == [
        len("What is 2 + 2?") + len("user")
    ]


def test_what_scoring_would_refuse_is_known_before_anything_is_sampled(mine):
    """By `check`, of the row alone. Mutation caught: a column of TRL's function that is missing as its TypeError."""
    for spec, words in (
        ("mine:trl_needs", "asks for the column `gold`"),
        ("mine:lifted", None),
        ("numeric", "no number"),
    ):
        parts = load_rewards(spec)
        if words is None:
            parts.check("Why?", {"level": 1})
            continue
        with pytest.raises(UserError, match=words):
            parts.check("Why?", {"answer": "many"})


def test_an_awaited_reward_is_limited_retried_and_kept(mine):
    """At most two at once, a failure tried again, an answer asked for once. Mutation caught: a limit a call, a failed
    call that loses what others have paid for, options that reach a function that is not awaited."""
    (mine / "far.py").write_text(
        "import asyncio\n"
        "now, most, calls, broken = 0, 0, [], set()\n"
        "async def far(prompt, response):\n"
        "    global now, most\n"
        "    now, most = now + 1, max(most, now + 1)\n"
        "    calls.append(response)\n"
        "    await asyncio.sleep(0.01)\n"
        "    now -= 1\n"
        "    if response in broken: raise ConnectionError(response)\n"
        "    if calls.count(response) == 1 and response == 'b': raise ConnectionError(response)\n"
        "    return float(len(response))\n"
    )
    try:
        spec = f"far:far(concurrency=2, retries=1, timeout=5, cache={mine}/kept.jsonl)"
        said = ["a", "b", "ccc", "dd", "eeeee"]
        assert values(load_rewards(spec), *said) == [1, 1, 3, 2, 5]
        import far  # type: ignore[import-not-found]

        assert far.most == 2 and far.calls.count("b") == 2
        far.calls.clear()
        far.broken |= {"new", "newer"}
        with pytest.raises(ConnectionError):
            values(load_rewards(spec), "new", "dddd", *["x" * n for n in range(6, 30)])
        assert len(far.calls) < 30  # none is begun once one has failed for good
        paid = set(far.calls) - far.broken
        far.calls.clear()
        assert values(load_rewards(spec), *said, *sorted(paid)) == [
            1,
            1,
            3,
            2,
            5,
            *map(len, sorted(paid)),
        ]
        assert far.calls == []
    finally:
        sys.modules.pop("far", None)


def test_facts_are_read_only(mine):
    from heedful.data.sources import facts_of

    facts = facts_of({"prompt": "x", "answer": 1})
    assert dict(facts) == {"answer": 1}
    with pytest.raises(TypeError):
        facts["answer"] = 2  # type: ignore[index]


def test_weights_names_and_labels(mine):
    """Names are unique, stable, and last words of where a part is from. Mutation caught: weights shifted by one."""
    specs = ["mine:plain", "mine:plain", "terse=length(price=1)", "length", "length"]
    parts = load_rewards(specs, weights=[1, 10, 0.5, 0, -100])
    assert parts.names == ("plain", "plain_2", "terse", "length", "length_2")
    assert values(parts, "a b") == pytest.approx([3 + 30 - 0.5 * 2 + 100 * 0.02])
    assert load_rewards(["std=length"]).names == ("std_2",)  # reward/std is the spread of the sum


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ([], "at least one"),
        (["lenght"], "no reward 'lenght' (did you mean 'length'?)"),
        (["zzz"], "no reward 'zzz': expected a reward model's folder"),
        (["length(prize=1)"], "length has no option 'prize' (did you mean 'price'?); its options: price, free, unit"),
        (["length(1, 2, words, 3)"], "length has no option '3'"),
        (["length(price=1, price=2)"], "'price' is given twice"),
        (["length(price=much)"], "price must be a number, not 'much'"),
        (["length(free=0.5)"], "free must be a whole number"),
        (["length(unit=tokens)"], "unit must be words or characters, not 'tokens'"),
        (["length(price='1)"], "not closed"),
        (["exact_match(ignore_case=perhaps)"], "ignore_case must be true or false"),
        (["regex"], "regex needs the option 'pattern'"),
        (["regex('(')"], "is no regular expression"),
        (["numeric(tolerance=-1)"], "must not be negative"),
        (["ensemble(length)"], "at least two members"),
        (["ensemble(length, length, by=max)"], "by is mean or min"),
        (["ensemble(length, length, by=min, k=1)"], "k goes with mean only"),
        (["ensemble(length, length, sigma=1)"], "not sigma"),
        (["ensemble(length, 'ensemble(length, length)')"], "member of another"),
        (["mine:nothing"], "has no function nothing"),
        (["mine:word"], "has no function word"),
        (["mine:Judge"], "the reward 'Judge' is a class: make one"),
        (["mine:Judge.nothing"], "has no function Judge.nothing"),
        (["./broken.py:f"], "broken.py:1 is not Python"),
        (["broken:f"], "broken.py:1 is not Python"),
        (["mine:one"], "must take (prompt, response)"),
        (["no_such_module:f"], "there is no module no_such_module"),
        (["runs/nowhere(k=1)"], "and functions take options"),
        (["./none.py:f"], "there is no file ./none.py"),
        (["mine:plain(retries=2)"], "retries is for functions that are awaited"),
        (["mine:later(concurrency=0)"], "concurrency counts from 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_reward_is_one_sentence(mine, specs, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        load_rewards(specs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0], "--reward has 2 parts but --reward-weights 1 number"),
        ([1.0, float("nan")], "finite"),
    ],
)
def test_weights_of_the_wrong_number(weights, words):
    with pytest.raises(UserError, match=words):
        load_rewards(["length", "no_eos"], weights=weights)


def test_a_missing_column_is_told_with_those_there_are(mine):
    (mine / "mine.py").write_text("def f(prompt, response, gold): return 0.0\n")
    sys.modules.pop("mine", None)
    with pytest.raises(UserError, match=r"'f' asks for the column `gold`.*it has answer, level"):
        values(load_rewards("mine:f"), "x")


def test_every_built_in_and_its_options_are_documented():
    text = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    for name, factory in REWARDS.items():
        told = [line for line in text.splitlines() if f"`{name}" in line]
        assert told, name
        for option in inspect.signature(factory).parameters:
            assert any(f"{option}=" in line for line in told), f"{name}: {option}"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two reward models of different tokenizers and bodies."""
    at = tmp_path_factory.mktemp("models")
    for name, arch, vocab in (("a", "llama", 300), ("b", "gpt2", 320)):
        tok, body = tiny.tokenizer(vocab), str(at / f"body-{name}")
        tiny.causal_lm(arch, vocab=len(tok)).save_pretrained(body)
        tok.save_pretrained(body)
        new_reward_model(body, seed=0).save_pretrained(at / name)
        tok.save_pretrained(at / name)
    return at


def test_an_ensemble_of_models_with_their_own_tokenizers(models, monkeypatch):
    """Against the two models by hand. Mutation caught: one tokenizer for both, members scored in each other's order."""
    monkeypatch.chdir(models)
    said = ("Lima.", "I do not know, ask somebody who cares!")
    alone = [values(load_rewards(name), *said, prompt=CHAT) for name in ("a", "b")]
    assert alone[0] != alone[1]
    both = load_rewards("ensemble(a, b, k=2)")
    expected = [(x + y) / 2 - 2 * abs(x - y) / 2 for x, y in zip(*alone, strict=True)]
    assert values(both, *said, prompt=CHAT) == pytest.approx(expected, abs=1e-5)
    lowest = values(load_rewards("rm=ensemble(a, b, by=min)"), *said, prompt=CHAT)
    assert lowest == pytest.approx([min(x) for x in zip(*alone, strict=True)], abs=1e-5)


def test_the_one_reward_model_in_a_sum(models, monkeypatch):
    """Where a critic may start. Mutation caught: the first of several."""
    monkeypatch.chdir(models)
    found = load_rewards(["length", str(models / "a")]).reward_model
    assert isinstance(found, ModelReward)
    assert load_rewards([str(models / "a")]).names == ("a",)
    assert load_rewards(["length", "no_eos"]).reward_model is None
    assert load_rewards(["a", "b"]).reward_model is None
    assert load_rewards("ensemble(a, b)").reward_model is None


def test_a_reward_model_scores_many_groups_in_turns(models, monkeypatch):
    """The same scores, and who waits has a turn in between. Mutations caught: groups of a later turn forgotten or mixed
    up; all in one turn."""
    reward = ModelReward.load(str(models / "a"))
    texts = [("4", "5", "6"), ("7",), ("8", "9")]
    groups = [Group("2+2=", of, (True,) * len(of), {}) for of in texts]
    at_once = [asyncio.run(all_of([reward(g)]))[0] for g in groups]
    monkeypatch.setattr("heedful.rewards.model.AT_ONCE", 3)
    turns = []
    judged = reward.judged
    monkeypatch.setattr(reward, "judged", lambda s: (turns.append(len(s)), judged(s))[1])
    together = asyncio.run(all_of(map(reward, groups)))
    assert turns == [3, 3] and [*map(len, together)] == [3, 1, 2]
    for alone, beside in zip(at_once, together, strict=True):
        assert beside == pytest.approx(alone, abs=1e-5)
