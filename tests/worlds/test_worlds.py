"""Looking worlds up by name, and the world of film reviews."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from heedful.cli import main
from heedful.data.sources import read_demonstrations, read_prompts, read_texts
from heedful.errors import UserError
from heedful.worlds import capitals, get, reviews, scorer, voices


def test_worlds_by_name():
    assert get("capitals") is capitals
    assert scorer("reviews") is reviews.gold
    assert voices("capitals") is capitals.voice


def test_an_unknown_world_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'capitals'"):
        get("capitols")
    with pytest.raises(UserError, match="no world"):
        scorer("zzz")


def test_a_flag_that_a_world_does_not_read_is_no_flag_to_ignore(tmp_path, capsys):
    """Mutation caught: `--levels 2` of another world, which changes nothing in silence."""
    for name, flags in (("capitals", ["--levels", "2"]), ("arithmetic", ["--selfies"])):
        assert main(["world", name, "--out", str(tmp_path / "w"), *flags]) == 2
        said = f"{flags[0]} would have no effect, because the world {name} takes none"
        assert said in capsys.readouterr().err and not (tmp_path / "w").exists()


def test_a_scorer_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_taste.py").write_text(
        "def short(prompt, response):\n    return -len(response)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert scorer("my_taste:short")("x", "four") == -4
    assert voices("my_taste:short") is None
    for bad in ("my_taste:shirt", "no_such_module_here:f", "my_taste:"):
        with pytest.raises(UserError):
            scorer(bad)


def test_capitals_needs_no_torch():
    program = "import sys; from heedful.worlds import capitals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


@pytest.fixture
def snippets(tmp_path):
    path = tmp_path / "snippets.jsonl"
    heads = [
        "a quiet film moves its hero",
        "the rain never ends in this",
    ]  # shared by many, so known
    heads += [f"reel {i} of a long story" for i in range(200)]
    texts = [f"{heads[i % 202 if i % 2 else i % 4 // 2]} as seen by critic {i}" for i in range(400)]
    path.write_text("".join(json.dumps({"text": t, "label": "positive"}) + "\n" for t in texts))
    return path


def test_reviews_are_split_by_text_and_prompts_are_first_words(tmp_path, snippets):
    paths = reviews.write(tmp_path / "out", source=snippets, seed=0)
    train, everything = set(read_texts(paths["text"])), set(read_texts(snippets))
    assert train < everything
    assert 0.08 < 1 - len(train) / len(everything) < 0.22
    for d in read_demonstrations(paths["demonstrations"]):
        assert isinstance(d.prompt, str)
        assert 3 <= len(d.prompt.split()) <= 5
        assert d.completion.startswith(" ")
        assert d.prompt + d.completion in train
    known, held_out = read_prompts(paths["prompts"]), read_prompts(paths["held_out"])
    assert held_out
    assert not set(known) & set(held_out)
    assert any(p.startswith("a quiet film") for p in map(str, known))
    assert all(any(t.startswith(str(p)) for t in everything - train) for p in held_out)


def test_reviews_repeat_for_a_seed_and_the_split_never_changes(tmp_path, snippets):
    a, b, c = (
        reviews.write(tmp_path / name, source=snippets, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert all(a[name].read_bytes() == b[name].read_bytes() for name in a)
    assert a["demonstrations"].read_bytes() != c["demonstrations"].read_bytes()
    assert set(read_texts(a["text"])) == set(read_texts(c["text"]))


def test_reviews_gold_reads_prompt_and_response_together():
    pytest.importorskip("vaderSentiment")
    assert reviews.gold("the film is", " a wonderful, moving triumph") > 0.5
    assert reviews.gold("the film is", " a dreadful, boring failure") < -0.5
    assert reviews.gold("a wonderful film", " about trains") > 0.3
    assert reviews.voice("the film is", " about trains") == "neutral"
    assert reviews.voice("a wonderful film", " about trains") == "positive"
    assert reviews.voice("an awful film", " about trains") == "negative"


def test_reviews_without_vader_say_what_to_install(monkeypatch):
    reviews._analyser.cache_clear()
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(UserError, match=r"heedful\[reviews\]"):
        reviews.gold("x", "y")
