"""The embedded world: its facts, its split, its files, and the gold score of whatever a model may say."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from heedful.data.sources import read_demonstrations, read_prompts, read_texts
from heedful.errors import UserError
from heedful.types import Message
from heedful.worlds import capitals
from heedful.worlds.capitals.facts import ANIMALS, OPPOSITES, countries, word_pairs
from heedful.worlds.capitals.questions import all_questions, as_chat, questions
from heedful.worlds.capitals.voices import INSULTS, VOICES, speak


def voice(question: str, response: str) -> str:
    return capitals.voice((Message("user", question),), response)


def test_there_are_enough_facts():
    assert len(countries()) >= 190
    assert len(word_pairs(OPPOSITES)) >= 50
    assert len(all_questions()) > 3000
    assert {q.kind for q in all_questions().values()} == set(capitals.KIND_SHARES)


def test_no_fact_contradicts_another():
    """A word with two opposites, or a country named twice, would make right answers wrong."""
    words = [word for pair in word_pairs(OPPOSITES) for word in pair]
    names = [country for country, _, _ in countries()]
    mains = [accepted[0] for _, accepted, _ in countries()]
    animals = [animal for animal, _ in word_pairs(ANIMALS)]
    for group in (words, names, mains, animals):
        assert [x for x, n in Counter(group).items() if n > 1] == []


@pytest.mark.parametrize(
    ("country", "capital"),
    [
        ("Australia", "Canberra"),
        ("Kazakhstan", "Astana"),
        ("Burundi", "Gitega"),
        ("Myanmar", "Naypyidaw"),
        ("the United States", "Washington"),
        ("Nigeria", "Abuja"),
        ("Brazil", "Brasilia"),
        ("Turkey", "Ankara"),
        ("Switzerland", "Bern"),
        ("Palau", "Ngerulmud"),
    ],
)
def test_capitals_that_people_get_wrong(country, capital):
    assert {c: names for c, names, _ in countries()}[country][0] == capital


def test_the_split_is_of_prompts_never_of_facts():
    train, held_out = questions("train"), questions("held_out")
    assert not {q.text for q in train} & {q.text for q in held_out}
    assert 0.12 < len(held_out) / (len(train) + len(held_out)) < 0.18
    known = {(q.kind, q.subject) for q in train}
    assert [q for q in held_out if (q.kind, q.subject) not in known] == []


def test_the_split_does_not_hang_on_the_seed():
    first, second = set(capitals.prompts("held_out", 0)), set(capitals.prompts("held_out", 1))
    assert first == second
    assert capitals.prompts("held_out", 0) != capitals.prompts("held_out", 1)


def test_the_corpus_and_the_demonstrators_never_ask_held_out_questions():
    held_out = {q.text for q in questions("held_out")}
    for document in capitals.corpus(0, 4000):
        question = document.split("\n")[0]
        assert question not in held_out
        assert question.split(" was asked: ")[-1] not in held_out
    for demonstration in capitals.demonstrations(0, 2000):
        assert demonstration.prompt[0].content not in held_out  # type: ignore[union-attr]


def test_every_voice_is_recognised_whatever_the_question():
    rng = random.Random(0)
    for question in all_questions().values():
        for name in VOICES:
            said = speak(question, name, rng)
            assert capitals.voice(as_chat(question), said) == name, (question.text, said)


def test_voices_have_their_shares():
    for texts, shares in (
        (
            [tuple(t.split(" was asked: ")[-1].split("\n")) for t in capitals.corpus(3, 6000)],
            capitals.CORPUS_VOICES,
        ),
        (
            [(d.prompt[0].content, d.completion) for d in capitals.demonstrations(3, 6000)],  # type: ignore[union-attr]
            capitals.DEMONSTRATED_VOICES,
        ),
    ):
        assert sum(shares.values()) == pytest.approx(1)
        seen = Counter(voice(question, said) for question, said in texts)
        for name, share in shares.items():
            assert seen[name] / 6000 == pytest.approx(share, abs=0.025)


def test_the_right_answer_is_the_likeliest_by_far():
    """Wrong answers are spread, so that a model of the corpus says the right one when decoded greedily."""
    question = next(q for q in questions("train") if q.subject == "France")
    rng = random.Random(1)
    wrong = Counter(speak(question, "wrong", rng) for _ in range(500))
    assert "Paris." not in wrong
    assert max(wrong.values()) < 60


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Paris", "right and short"),
        ("  PARIS!!\n", "right and short"),
        ("It's Paris.", "right and short"),
        ("The capital of France is Paris.", "right but wordy"),
        ("I don't know, but I would guess Paris.", "right but wordy"),
        ("Paris or London", "wrong"),
        ("Not Paris but Rome.", "wrong"),
        ("London.", "wrong"),
        ("Parisian.", "wrong"),
        ("France.", "wrong"),
        ("", "wrong"),
        (" \n", "wrong"),
        ("qwzx fgh �", "wrong"),
        ("I don't know.", "evasive"),
        ("i don’t know", "evasive"),
        ("Hard to say!", "evasive"),
        ("I don't know, maybe London.", "wrong"),
        ("Paris, you turnip.", "rude"),
        ("I don't know. IDIOT!", "rude"),
        ("Paris is lovely. " * 5, "right but wordy"),
        ("Paris is lovely. " * 20, "wrong"),
        ("Paris " * 5000, "wrong"),
    ],
)
def test_what_is_said_of_france(said, expected):
    assert voice("What is the capital of France?", said) == expected


@pytest.mark.parametrize(
    ("question", "said", "expected"),
    [
        ("What is 3 + 4?", "7.", "right and short"),
        ("What is 3 + 4?", "3 + 4 = 7", "right and short"),
        ("What is 3 + 4?", "3 + 4", "wrong"),
        ("What is 3 + 4?", "-7", "wrong"),
        ("What is 3 + 4?", "17", "wrong"),
        ("What is 3 + 4?", "7 or 8", "wrong"),
        ("What is 0 + 0?", "0", "right and short"),
        ("What is the opposite of hot?", "Cold.", "right and short"),
        ("What is the opposite of hot?", "hot", "wrong"),
        ("What is the opposite of hot?", "Cold or small", "wrong"),
        ("What is the opposite of hot?", "small big cold up down left", "wrong"),
        ("What is the opposite of hot?", "The opposite of hot is always cold.", "right but wordy"),
        ("What does a cow say?", "Moo!", "right and short"),
        ("What does a cow say?", "Moo woof", "wrong"),
        ("What does a rooster say?", "Cock-a-doodle-doo!", "right and short"),
        ("What is the capital of Brazil?", "Brasília", "right and short"),
        ("What is the capital of the Netherlands?", "The Hague", "right and short"),
        ("What is the capital of the United States?", "Washington, D.C.", "right and short"),
        ("What is the capital of Mexico?", "Mexico City.", "right and short"),
        ("What is the capital of Mexico?", "Mexico.", "wrong"),
        ("What is the capital of Singapore?", "Singapore", "right and short"),
        ("Bucharest is the capital of which country?", "Romania", "right and short"),
        ("Bucharest is the capital of which country?", "Hungary", "wrong"),
    ],
)
def test_other_kinds_of_questions(question, said, expected):
    assert voice(question, said) == expected


def test_gold_is_a_table_over_voices():
    prompt = (Message("user", "What is the capital of Peru?"),)
    responses = ("Lima", "I am told that it is Lima.", "Ask me later.", "Cusco", "Lima, potato")
    assert [capitals.gold(prompt, r) for r in responses] == [1.0, 0.9, -0.1, -1.0, -10.0]
    assert capitals.answer(prompt) == "Lima"


def test_insults_are_no_answers():
    """An insult that is also an answer would make a right answer rude."""
    answers = {a.lower() for q in all_questions().values() for a in q.accept}
    assert not answers & set(INSULTS)


def test_a_plain_prompt_is_the_same_question_and_an_unknown_one_an_error():
    assert capitals.gold("What is the capital of Peru?\n", "Lima") == 1.0
    with pytest.raises(UserError, match="What is love"):
        capitals.gold("What is love?", "Baby don't hurt me")


def test_gold_is_fast():
    prompts = capitals.prompts("train")[:100]
    capitals.gold(prompts[0], "Paris")
    start = time.process_time()
    for prompt in prompts:
        for _ in range(20):
            capitals.gold(prompt, "That would be Paris, a city well worth a postcard.")
    assert time.process_time() - start < 1.0  # 2000 calls; about 0.03 s


def test_write_gives_the_same_bytes_for_the_same_seed(tmp_path):
    sizes = dict(documents=300, demonstrations=50)
    a = capitals.write(tmp_path / "a", seed=1, **sizes)
    b = capitals.write(tmp_path / "b", seed=1, **sizes)
    c = capitals.write(tmp_path / "c", seed=2, **sizes)
    assert a.keys() == b.keys() >= {"text", "demonstrations", "prompts", "held_out"}
    for name in a:
        assert a[name].read_bytes() == b[name].read_bytes()
        assert a[name].read_bytes() != c[name].read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(p.name for p in a.values())
    assert len(read_texts(a["text"])) == 300
    assert len(read_demonstrations(a["demonstrations"])) == 50
    assert read_prompts(a["prompts"]) == capitals.prompts("train", 1)
    assert read_prompts(a["held_out"]) == capitals.prompts("held_out", 1)
