"""The report: one file, escaped, offline, true to results.json, and calm when something is absent."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from heedful.errors import UserError
from heedful.report import build

HOSTILE = '<img src=x onerror=alert(1)></script><script>alert("2")</script>\' " &amp;'
VOICES = {
    "right and short": 0.5,
    "right but wordy": 0.2,
    "evasive": 0.1,
    "wrong": 0.15,
    "rude": 0.05,
}


def stage(gold: float, **changes) -> dict:
    return {
        "gold": gold, "gold_ci": [gold - 0.1, gold + 0.1], "accuracy": 0.7, "rude": 0.05, "length": 5.5,
        "kl": 1.25, "win_rate": 0.734, "win_rate_ci": [0.701, 0.766], "voices": VOICES, "n": 400,
    } | changes  # fmt: skip


def results() -> dict:
    names = ("base", "sft", "ppo", "dpo", "best_of_16")
    answer = {"text": HOSTILE, "gold": -1.0, "reward": 0.5, "voice": "wrong"}
    return {
        "title": "A test of the page", "world": "capitals", "seed": 7, "quick": False,
        "versions": {"heedful": "0.1.0", "torch": "2.13.0"},
        "machine": {"cpu": "Abacus", "cores": 2, "memory_gib": 8.0},
        "seconds": {"pretrain": 61.5, "ppo": 30.0, "total": 123.0}, "peak_gib": 1.875,
        "commands": [{"stage": "pretrain", "command": f"heedful train pretrain --data {HOSTILE}"}],
        "stages": {n: stage(0.1 * i - 0.25) for i, n in enumerate(names)},
        "reward_model": {"loss": "bradley_terry", "accuracy": 0.741, "accuracy_ci": [0.72, 0.762],
                         "pairs": 1896, "train_comparisons": 2689},
        "frontier": [
            {"method": m, "step": i, "n": None, "kl": 0.5 * i, "gold": 0.2 * i, "gold_ci": [0.1, 0.9],
             "reward": 0.3 * i} for m in ("ppo", "dpo") for i in range(1, 4)
        ],
        "samples": [{"prompt": HOSTILE, "answer": "Paris", "responses": dict.fromkeys(names, answer)}],
        "runs": {"pretrain": "runs/pretrain"},
    }  # fmt: skip


def made(folder: Path, content: dict) -> str:
    run = folder / "runs" / "pretrain"
    run.mkdir(parents=True, exist_ok=True)
    rows = (
        {"step": i, "seconds": float(i), "loss": 5.0 / i, "eval/loss": 5.5 / i} for i in range(1, 9)
    )
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "results.json").write_text(json.dumps(content))
    page = build(folder)
    assert page == folder / "report.html"
    return page.read_text(encoding="utf-8")


class Collector(HTMLParser):
    """Tags that load something, inline handlers, ids, and whether every tag closes."""

    VOID = ("meta", "br", "hr", "img", "input", "link", "col", "wbr")

    def __init__(self):
        super().__init__()
        self.loads, self.handlers, self.ids, self.open, self.tags = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster") or (tag == "link" and name == "href"):
                self.loads.append((tag, value))
            if name.startswith("on"):
                self.handlers.append((tag, name))
            if name == "id":
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def words_of(page: str) -> str:
    """What a reader sees; the page sets numbers and units with no-break spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def parsed(page: str) -> Collector:
    collector = Collector()
    collector.feed(page)
    return collector


def test_the_page_is_whole_and_loads_nothing(tmp_path):
    page = made(tmp_path, results())
    found = parsed(page)
    assert found.open == [] and found.loads == [] and found.handlers == []
    assert len(found.ids) == len(set(found.ids))
    assert "@import" not in page and not re.search(r"url\(\s*['\"]?(https?:)?//", page)
    assert '<html lang="en"' in page and "svg" in found.tags and "caption" in found.tags


def test_what_models_write_is_text(tmp_path):
    """Mutation caught: a `| safe`, or a template without autoescape."""
    page = made(tmp_path, results())
    found = parsed(page)
    assert "img" not in found.tags
    assert "<script>alert" not in page and "onerror=alert(1)>" not in page.replace("&gt;", "")
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_numbers_are_those_of_the_results(tmp_path):
    page = made(tmp_path, results())
    text = words_of(page)
    for number in ("2,689", "2 min 3 s", "73 %", "[70–77]", "74 %"):
        assert number in text, number
    other = results()
    other["stages"]["ppo"]["win_rate"] = 0.913
    assert "91 %" in words_of(made(tmp_path, other))


def test_the_same_results_give_the_same_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert made(tmp_path / "a", results()) == made(tmp_path / "b", results())


@pytest.mark.parametrize(
    "absent",
    ["frontier", "samples", "reward_model", "seconds", "commands", "machine", "runs", "peak_gib"],
)
def test_what_is_absent_is_no_disaster(tmp_path, absent):
    content = results()
    del content[absent]
    assert parsed(made(tmp_path, content)).open == []


def test_a_stage_alone_is_enough(tmp_path):
    page = made(tmp_path, {"title": "Small", "stages": {"sft": {"gold": 0.5}}})
    assert parsed(page).open == [] and "0.50" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": {"sft": {"gold": "high"}}}, 'field stages.sft.gold is "high"'),
        ({"stages": {}}, "field stages"),
        ({"title": None}, "field title"),
        ({"seconds": {"total": "long"}}, "field seconds.total"),
    ],
)
def test_wrong_results_name_file_and_field(tmp_path, change, words):
    with pytest.raises(UserError) as error:
        made(tmp_path, results() | change)
    assert "results.json" in str(error.value) and words in str(error.value)
    assert not (tmp_path / "report.html").exists()


def test_no_results_no_page(tmp_path):
    with pytest.raises(UserError, match=r"results\.json"):
        build(tmp_path)
