"""Judges and rewards behind an OpenAI-compatible server, here a small one in a thread."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.errors import UserError
from heedful.raters.asking import PAIR
from heedful.raters.endpoint import preference
from heedful.raters.panel import judges
from heedful.remote import limits
from heedful.remote.endpoint import Answer, Endpoint, Options
from heedful.remote.journal import Journal
from heedful.rewards import Group, load_rewards
from heedful.rewards.endpoint import QUESTION as GRADE
from heedful.rewards.endpoint import grade
from heedful.waiting import all_of
from killed import killed_after

SAMPLES = [
    ("Why?", "long answer"),
    ("Why?", "short"),
    ("Why?", "middling"),
    ("How?", "so"),
    ("How?", "otherwise"),
]


class Server:
    """Prefers what is longer, and whatever is called A; `trouble` are statuses for the next requests."""

    def __init__(self):
        self.asked: list[dict] = []
        self.trouble: list[tuple[int, str]] = []
        self.logprobs, self.now, self.most, self.says = True, 0, 0, ""
        self.unknown = ""  # a word of a request that is answered with 400
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                self.reply(200, {"data": [{"id": "judge-1"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    owner.now += 1
                    owner.most = max(owner.most, owner.now)
                    owner.asked.append(body | {"key": self.headers.get("Authorization")})
                    trouble = owner.trouble.pop(0) if owner.trouble else None
                    if owner.unknown and owner.unknown in body:
                        trouble = (400, f"unknown field {owner.unknown}")
                time.sleep(0.01)
                with lock:
                    owner.now -= 1
                if trouble:
                    self.reply(
                        trouble[0], {"error": {"message": trouble[1]}}, {"Retry-After": "0.01"}
                    )
                else:
                    self.reply(200, owner.answer(body))

            def reply(self, status, data, headers=()):
                text = json.dumps(data).encode()
                self.send_response(status)
                for name, value in {**dict(headers), "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

        lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def answer(self, body):
        text = body["messages"][0]["content"]
        if graded := re.search(r"Response:\n(.*?)\n", text):
            mass = {str(min(9, len(graded[1]))): 1.0}
        else:
            a, b = (re.search(rf"Response {x}:\n(.*?)\n", text)[1] for x in "AB")  # type: ignore[index]
            p = 1 / (1 + math.exp(-(len(a) - len(b)) - 0.5))  # 0.5 for the place
            mass = {"A": 0.9 * p, "B": 0.9 * (1 - p), "C": 0.1}
        top = [{"token": f" {t}", "logprob": math.log(p)} for t, p in mass.items() if p]
        best = max(top, key=lambda t: t["logprob"])
        choice: dict = {"message": {"content": self.says or best["token"]}}
        if body.get("logprobs") and self.logprobs:
            choice["logprobs"] = {"content": [best | {"top_logprobs": top}]}
        return {"choices": [choice], "usage": {"total_tokens": 100}}


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setattr(limits, "FIRST_PAUSE", 0.001)
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def samples(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in SAMPLES))
    return path


def judge(samples, spec: str, out) -> tuple[int, list[dict]]:
    code = main(["judge", "--data", str(samples), "--judge", spec, "--out", str(out)])
    return code, [json.loads(line) for line in out.read_text().splitlines()] if code == 0 else []


def test_a_judge_behind_a_server(server, samples, tmp_path, capsys):
    """Both orders of every pair, at most so many at once, through a server's bad minutes; the budget ends it with a
    sentence, and what was paid for is not asked again. Mutation caught: one order (the server loves A), a retry that
    loses the others' answers, an option of the spec in the cache's key, a key in the files."""
    code, rows = judge(samples, server.url, tmp_path / "a.jsonl")
    assert code == 0 and [row["ranking"] for row in rows] == [[1, 3, 2], [2, 1]]
    assert {row["rater"] for row in rows} == {"llm:judge-1"}
    assert len(server.asked) == 2 * (3 + 1) and server.asked[0]["key"] == "Bearer secret"
    texts = Counter(a["messages"][0]["content"] for a in server.asked)
    assert max(texts.values()) == 1 and "8 calls, 800 tokens" in capsys.readouterr().err
    _, same = judge(samples, f"{server.url}#judge-1(retries=2)", tmp_path / "b.jsonl")
    assert [r["ranking"] for r in same] == [r["ranking"] for r in rows] and len(server.asked) == 8

    server.asked.clear()
    server.trouble = [(429, "slow down"), (500, "oh"), (503, "oh"), (400, "unknown logprobs here")]
    cache = tmp_path / "fresh.jsonl"
    limited = f"{server.url}#judge-1(concurrency=2, max_calls=7, cache={cache})"
    assert judge(samples, limited, tmp_path / "c.jsonl")[0] == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the budget of 7 calls is spent" in sentence and str(cache) in sentence
    assert server.most <= 8 and not (tmp_path / "c.jsonl").exists()
    paid = len(cache.read_text().splitlines())
    assert 0 < paid == 7 - 4
    server.asked.clear()
    code, rows = judge(samples, limited.replace("=7", "=9"), tmp_path / "c.jsonl")
    assert [r["ranking"] for r in rows] == [[1, 3, 2], [2, 1]] and len(server.asked) == 8 - paid
    assert "secret" not in "".join(f.read_text() for f in tmp_path.rglob("*.jsonl"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_cache_a_command_that_dies_pays_once(server, samples, tmp_path, monkeypatch):
    """HEEDFUL_CACHE= keeps nothing for good, but what an unfinished command has paid for.

    Mutation caught: answers that are kept where there is a cache only.
    """
    monkeypatch.setenv("HEEDFUL_CACHE", "")
    spec = f"{server.url}(concurrency=1)"
    for _ in range(2):
        killed_after(4, Journal, "write", judge, samples, spec, tmp_path / "a.jsonl")
    code, rows = judge(samples, spec, tmp_path / "a.jsonl")
    assert code == 0 and [row["ranking"] for row in rows] == [[1, 3, 2], [2, 1]]
    assert len(server.asked) == 2 * (3 + 1) and sorted(f.name for f in tmp_path.iterdir()) == [
        "a.jsonl", "samples.jsonl",
    ]  # fmt: skip


def test_what_a_server_refuses_is_one_sentence(server, samples, tmp_path, capsys):
    """Mutation caught: a traceback of httpx, retries of what can never pass, ties for a judge that does not judge."""
    for trouble, words in (
        ([(401, "bad key")], "401: bad key; the key is taken from OPENAI_API_KEY"),
        ([(404, "no such model")], "404: no such model"),
        ([(500, "oh")] * 40, "the server said 500: oh, 3 times"),
    ):
        server.trouble = trouble
        spec = f"{server.url}(retries=2, concurrency=1, cache={tmp_path}/none.jsonl)"
        assert judge(samples, spec, tmp_path / "o.jsonl")[0] == 2
        assert words in capsys.readouterr().err.strip().splitlines()[-1]
    server.trouble, server.logprobs, server.says = [], False, "I cannot tell."
    with pytest.raises(UserError, match="none of the first 12 answers has a verdict"):
        judge_ = judges(server.url, 0)[0]
        asyncio.run(judge_.judge("x", ["a", "bb", "ccc", "dddd", "eeeee"]))  # type: ignore[arg-type]
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Which? {a} or {b}")
    for spec, words in (
        ("http://127.0.0.1:9/v1", "nobody answers"),
        (f"{server.url}(rubric={rubric})", "has no place for {prompt}"),
        (f"{server.url}(rubic=x)", "did you mean 'rubric'?"),
        (f"{server.url}(concurrency=0)", "concurrency counts from 1"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            judges(spec, 0)


def test_calls_at_once_fail_as_one(server, samples, tmp_path, capsys, caplog, monkeypatch):
    """A word that the server knows not is left out of every call that carried it; of several that fail for good, one
    sentence is all that is shown, and the answers that came are kept.

    Mutation caught: the second refusal of a word taken for another error; siblings left to the end of the event loop,
    which prints their tracebacks.
    """
    server.unknown = "logprobs"
    code, ranked = judge(samples, server.url, tmp_path / "a.jsonl")
    assert code == 0 and [row["ranking"] for row in ranked] == [[1, 3, 2], [2, 1]]
    assert sum("logprobs" in body for body in server.asked) > 1  # several were on their way
    assert caplog.text.count("asked again without logprobs") == 1

    server.unknown, cache, shown = "", tmp_path / "fresh.jsonl", {}
    spec = f"{server.url}(retries=0, cache={cache})"
    for name, trouble, answer in (
        ("one", [(401, "bad key")], server.answer),
        ("none", [], lambda body: {"choices": []}),
    ):
        server.trouble = trouble
        monkeypatch.setattr(server, "answer", answer)
        caplog.clear()
        assert judge(samples, spec, tmp_path / "b.jsonl")[0] == 2
        shown[name] = capsys.readouterr().err + caplog.text
        assert "unhandled exception" not in shown[name] and "Traceback" not in shown[name]
        assert len(cache.read_text().splitlines()) == 7
    assert "401: bad key" in shown["one"] and "no chat completion" in shown["none"]


def test_a_failure_waits_for_what_is_cancelled():
    """Mutation caught: asyncio.gather, which leaves the others running when one raises."""
    ended = []

    async def other():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def fails():
        await asyncio.sleep(0)
        raise UserError("this one")

    async def both():
        with pytest.raises(UserError, match="this one"):
            await all_of([all_of([other(), other()]), fails()])
        return len(asyncio.all_tasks()), list(ended)

    assert asyncio.run(both()) == (1, [True, True])


def test_who_is_let_go_waits_for_nobody():
    """A coroutine that outlives its event loop. Mutation caught: no `except GeneratorExit`, and what is torn down at
    some later time tries to wait for others: "coroutine ignored GeneratorExit", "Event loop is closed"."""

    async def begin():
        waits = all_of([asyncio.sleep(60)])
        waits.send(None)
        return waits

    asyncio.run(begin()).close()


def test_a_reward_behind_a_server(server, tmp_path):
    """The expected grade, by log-probs or by the text; a rubric may ask for a column, which is known before anything
    is sampled. Mutation caught: a response's {braces} filled as a place of the rubric."""
    group = Group("Why?", ["four", "seven77", "{answer}"], [True] * 3, {"answer": "x"})
    reward = load_rewards(f"{server.url}#judge-1")
    assert reward.names == ("judge-1",)
    assert asyncio.run(reward.score([group])).total == pytest.approx([4 / 9, 7 / 9, 8 / 9])
    server.logprobs = False
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("{prompt} is {answer}\nResponse:\n{response}\n")
    reward = load_rewards(f"{server.url}(rubric={rubric})")
    assert asyncio.run(reward.score([group])).total == pytest.approx([4 / 9, 7 / 9, 8 / 9])
    assert server.asked[-1]["messages"][0]["content"].startswith("Why? is x\n")
    with pytest.raises(UserError, match=r"has a place for \{answer\}"):
        reward.check("Why?", {})


@pytest.mark.parametrize(
    ("text", "worth"),
    [("A", 1.0), ("**B**", 0.0), ("Answer: C.", 0.5), ("B is better than A", 0.0), ("reasons\nAnswer: B", 0.0),
     ("A better answer is B", None), ("", None), ("neither", None)],
)  # fmt: skip
def test_verdicts_in_words(text, worth):
    assert preference(Answer(text)) == worth


@pytest.mark.parametrize(
    "spec", ["http://ada:s3cret@127.0.0.1:1/v1#m", "http://127.0.0.1:1/v1#m(key=sk-s3cret)"]
)
def test_a_key_is_not_typed(spec):
    """It would stand in config.yaml, in cards and in trackers. Mutation caught: a refusal that repeats it."""
    with pytest.raises(UserError, match="environment variable") as error:
        Endpoint.of(spec, "--judge")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7 / 9), ("Grade: 7/9", 7 / 9), ("8.", 8 / 9), ("10", None), ("good", None)],
)
def test_grades_in_words(text, value):
    assert grade(Answer(text)) == value


def test_the_questions_stand_in_the_documents():
    text = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    assert PAIR in text and GRADE in text
    for option in inspect.signature(Options).parameters:
        assert f"`{option}=" in text, option


def test_each_response_by_itself_and_by_a_principle(server, tmp_path):
    """One call a response; the principle is in the question. Mutation caught: a call for each pair and order."""
    file = tmp_path / "principles.txt"
    file.write_text("Be brief.\n")
    server.says = "Yes"
    [judge] = judges(f"{server.url}(form=yesno, principles={file}, logprobs=false)", 0)
    said = asyncio.run(judge.judge("Why?", ["a", "b", "a"]))  # type: ignore[misc]
    assert said.ranking == (1, 1, 1) and said.explanation == "Be brief."
    assert len(server.asked) == 2
    assert "follows this principle: Be brief." in server.asked[0]["messages"][0]["content"]
    server.says = "No"
    assert asyncio.run(judge.judge("Why?", ["a", "c"])).ranking == (1, 2)  # type: ignore[misc]
    with pytest.raises(UserError, match="form must be ab or yesno, not 'contrast'"):
        judges(f"{server.url}(form=contrast)", 0)


def test_a_server_that_loves_a_letter_is_refused(server):
    """Mutation caught: a judge of places whose few accidents become labels."""
    server.says, server.logprobs = "A", False
    [judge] = judges(f"{server.url}(logprobs=false)", 0)

    async def ask() -> None:
        for i in range(30):
            await judge.judge(f"Why {i}?", ["a", "b"])  # type: ignore[misc]

    with pytest.raises(UserError, match="the same letter in both orders of 25 of 25 pairs"):
        asyncio.run(ask())
