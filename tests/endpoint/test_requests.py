"""Requests over the OpenAI protocol and their answers: samples, log-probs, tools, streams, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import torch

import games
from games import Script, engine_of
from heedful.endpoint.app import create_app
from heedful.endpoint.words import Growing, token_bytes, token_text
from heedful.models.forward import token_logps
from heedful.rollout import response_text, rollout, tasks
from heedful.serving import EngineSpeaker, Episodes
from heedful.types import Message, Sampling

TOK = games.tokenizer()
ENGINE = engine_of(TOK)
HI: list[Any] = [{"role": "user", "content": "Hi, what is 2 + 2?"}]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}},
    }
]  # fmt: skip

Client = httpx.AsyncClient


def with_client(
    work: Callable[[Client], Awaitable[Any]], engine: Any = ENGINE, **options: Any
) -> Any:
    """What `work` gives, with a client of an endpoint."""

    async def run() -> Any:
        desk = Episodes(EngineSpeaker(engine, TOK), ("tiny",), **options)
        app = create_app(desk, *desk.routes())
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with Client(transport=transport, base_url="http://here/v1") as client:
            return await work(client)

    return asyncio.run(run())


def post(path: str, engine: Any = ENGINE, headers: Any = None, **body: Any) -> httpx.Response:
    return with_client(lambda c: c.post(path, json=body, headers=headers), engine)


def chat(engine: Any = ENGINE, **body: Any) -> dict[str, Any]:
    reply = post("/chat/completions", engine, **({"messages": HI} | body))
    assert reply.status_code == 200, reply.text
    return reply.json()


def complete(engine: Any = ENGINE, **body: Any) -> dict[str, Any]:
    reply = post("/completions", engine, **body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def streamed(path: str, engine: Any = ENGINE, **body: Any) -> list[dict[str, Any]]:
    lines = post(path, engine, stream=True, **body).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_the_same_samples_as_heedful_sample():
    """Mutation caught: seeds made otherwise, a conversation rendered otherwise, siblings that share a seed."""
    texts = ["The capital of", "Two and two"]
    how: dict[str, Any] = dict(n=3, max_tokens=6, sampling=Sampling(0.9), seed=11)
    asked: dict[str, Any] = dict(n=3, max_tokens=6, temperature=0.9, seed=11)
    talk = asyncio.run(
        rollout(ENGINE, tasks(TOK, [(Message("user", HI[0]["content"]),)]), TOK, **how)
    )
    plain = asyncio.run(rollout(ENGINE, tasks(TOK, texts), TOK, **how))
    said = chat(**asked)["choices"]
    assert [c["message"]["content"] for c in said] == [response_text(TOK, s) for s in talk]
    assert [c["finish_reason"] for c in said] == [s.stop_reason for s in talk]
    written = complete(prompt=texts, **asked)["choices"]
    assert [c["text"] for c in written] == [response_text(TOK, s) for s in plain]
    assert [c["index"] for c in written] == list(range(6))
    assert len({c["text"] for c in written}) > 3


def test_whoever_else_is_asking():
    """Mutation caught: a seed that depends on when a request comes."""

    async def several(client: Client) -> list[str]:
        bodies = [dict(messages=HI, seed=s, max_tokens=5) for s in range(5)]
        replies = await asyncio.gather(*(client.post("/chat/completions", json=b) for b in bodies))
        return [r.json()["choices"][0]["message"]["content"] for r in replies]

    together = with_client(several)
    assert together == [
        chat(seed=s, max_tokens=5)["choices"][0]["message"]["content"] for s in range(5)
    ]
    assert len(set(together)) > 1
    assert chat(max_tokens=8)["choices"] != chat(max_tokens=8)["choices"]  # without a seed


def test_log_probs_of_a_prompt_are_the_models():
    """As lm-eval asks: ids, echo, one token, greedy. Mutations caught: a shift by one; a token that is the likeliest
    and does not equal the largest alternative; the temperature's distribution in place of the model's."""
    ids = TOK("The capital of France is Lima")["input_ids"]
    (choice,) = complete(
        prompt=[ids], max_tokens=1, temperature=0, echo=True, logprobs=1, seed=1234
    )["choices"]
    told = choice["logprobs"]
    tokens = torch.tensor([ids])
    expected = token_logps(ENGINE.model, tokens, torch.ones(1, len(ids) - 1, dtype=torch.bool))[0]
    assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
    assert told["token_logprobs"][1:-1] == pytest.approx(expected.tolist(), abs=1e-5)
    assert len(told["tokens"]) == len(ids) + 1 and "".join(told["tokens"][:-1]) == TOK.decode(ids)
    assert choice["text"].startswith("The capital of France is Lima")
    logits = ENGINE.model(tokens).logits[0].log_softmax(-1)
    for row, logprob, top in zip(
        logits, told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True
    ):
        assert max(top.values()) == pytest.approx(row.max().item(), abs=1e-5)
        assert logprob in top.values() or logprob == pytest.approx(max(top.values()))
    assert told["token_logprobs"][-1] == max(told["top_logprobs"][-1].values())  # greedy
    hot, cold = (
        complete(prompt=[ids], max_tokens=0, temperature=t, echo=True, logprobs=1)["choices"][0]
        for t in (0, 1.7)
    )
    assert hot["logprobs"]["token_logprobs"] == cold["logprobs"]["token_logprobs"]
    assert (hot["text"], hot["finish_reason"]) == ("The capital of France is Lima", "length")


def test_log_probs_of_what_is_said():
    """Mutation caught: the end of the turn, or a stop sequence, among the tokens of the text."""
    content = chat(seed=3, max_tokens=12, logprobs=True, top_logprobs=2)["choices"][0]
    told = content["logprobs"]["content"]
    said = bytes(b for t in told for b in t["bytes"])
    assert said.decode(errors="replace") == content["message"]["content"]
    assert all(len(t["top_logprobs"]) == 2 for t in told)
    assert all(t["top_logprobs"][0]["logprob"] >= t["logprob"] - 1e-6 for t in told)
    own = chat(seed=3, max_tokens=12, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert [t["logprob"] for t in own] == pytest.approx([t["logprob"] for t in told], abs=1e-4)
    cut = chat(Script(TOK, "one, two"), stop=[", t"], logprobs=True)["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("one", "stop")
    assert "".join(t["token"] for t in cut["logprobs"]["content"]) == "one"


def test_bytes_of_tokens():
    """Mutation caught: two halves of a letter with one name; a letter of the byte alphabet taken for itself."""
    ids = TOK("ö 你", add_special_tokens=False)["input_ids"]
    assert b"".join(token_bytes(TOK, i) for i in ids) == "ö 你".encode()
    halves = [i for i in ids if token_text(TOK, i).startswith("bytes:")]
    assert halves and len({token_text(TOK, i) for i in halves}) == len(set(halves))


@pytest.mark.parametrize("stop", [None, ["e"], ["zz"]])
def test_a_stream_says_the_same(stop):
    """Mutation caught: pieces that are told before they are certain, or twice, or never."""
    body: dict[str, Any] = dict(messages=HI, seed=8, max_tokens=24, n=2, stop=stop)
    whole = chat(**body)
    pieces = streamed("/chat/completions", **body, stream_options={"include_usage": True})
    assert pieces[-1]["usage"] == whole["usage"] and pieces[-1]["choices"] == []
    for choice in whole["choices"]:
        mine = [c for p in pieces for c in p["choices"] if c["index"] == choice["index"]]
        assert (
            "".join(c["delta"].get("content") or "" for c in mine) == choice["message"]["content"]
        )
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]]
    text = dict(prompt="The capital of", seed=8, max_tokens=12, logprobs=1, echo=True)
    (plain,) = complete(**text)["choices"]
    parts = [c for p in streamed("/completions", **text) for c in p["choices"]]
    assert "".join(c["text"] for c in parts) == plain["text"] and len(parts) > 2
    assert parts[-1]["logprobs"] == plain["logprobs"]


def test_what_is_told_of_a_text_that_grows():
    """Mutation caught: half a letter told; the beginning of a stop sequence told; a call of a tool told as text."""

    def told(text: str, **ends: Any) -> tuple[list[str], Growing]:
        growing = Growing(TOK, **ends)
        return [growing.more(i) for i in TOK(text, add_special_tokens=False)["input_ids"]], growing

    pieces, _ = told("a ö b")
    assert "".join(pieces) == "a ö b" and all("\ufffd" not in p for p in pieces)
    pieces, growing = told("one END two", stop=["END"])
    assert "".join(pieces) == "one " and growing.rest("one ") == ""
    pieces, growing = told("one EN", stop=["END"])
    assert "".join(pieces) == "one " and growing.rest("one EN") == "EN"
    pieces, growing = told("Well <tool_call>{}", marks=["<tool_call>"])
    assert "".join(pieces) == "Well " and growing.rest("Well") == ""


def test_tools_are_called_and_answered():
    """Mutation caught: tools that the template is not told of; arguments that are no JSON text; a malformed call as a
    call; an answer that goes to the template without the call before it."""
    call = '<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>'
    script = Script(TOK, f"Let me see. {call}")
    (choice,) = chat(script, tools=TOOLS)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    (made,) = choice["message"]["tool_calls"]
    assert (made["type"], made["function"]) == (
        "function",
        {"name": "add", "arguments": '{"a": 2}'},
    )
    assert '"name": "add"' in TOK.decode(list(script.asked[0]))
    pieces = streamed(
        "/chat/completions", Script(TOK, f"Let me see. {call}"), messages=HI, tools=TOOLS
    )
    deltas = [c["delta"] for p in pieces for c in p["choices"]]
    assert "".join(d.get("content") or "" for d in deltas) == "Let me see."
    assert [c["function"] for d in deltas for c in d.get("tool_calls", [])] == [made["function"]]
    after = [*HI, choice["message"], {"role": "tool", "tool_call_id": made["id"], "content": "4"}]
    answer = Script(TOK, "It is 4.")
    chat(answer, messages=after, tools=TOOLS)
    shown = TOK.decode(list(answer.asked[0]))
    assert (
        '{"arguments": {"a": 2}, "name": "add"}' in shown.replace("'", '"') or call[11:-12] in shown
    )
    assert "<tool_response>4</tool_response>" in shown
    (plain,) = chat(Script(TOK, f"Let me see. {call}"), tools=TOOLS, tool_choice="none")["choices"]
    assert plain["finish_reason"] == "stop" and "tool_calls" not in plain["message"]
    (broken,) = chat(Script(TOK, "<tool_call>{oops</tool_call>"), tools=TOOLS)["choices"]
    assert broken["message"] == {"role": "assistant", "content": "<tool_call>{oops</tool_call>"}


IMAGE = [{"role": "user", "content": [{"type": "image_url"}]}]
HALF = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]
# what a request to /chat/completions says besides or in place of HI → status, param, some words of the message
REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"messages": None}, 400, "messages", "valid list"),
    ({"messages": []}, 400, "messages", "at least 1"),
    ({"messages": [{"role": "bard", "content": "x"}]}, 400, "messages[0].role", "unknown"),
    ({"messages": IMAGE}, 400, "messages[0].content", "text only"),
    ({"messages": HALF}, 400, "messages[0].tool_calls", "a tool call is"),
    ({"foo": 1}, 400, "foo", "Unrecognized request argument supplied: foo"),
    ({"temperature": -1}, 400, "temperature", "greater than"),
    ({"top_p": 0}, 400, "top_p", "greater than 0"),
    ({"max_tokens": 0}, 400, "max_tokens", "greater than"),
    ({"n": 0}, 400, "n", "greater than"),
    ({"stop": ""}, 400, "stop", "empty"),
    ({"top_logprobs": 3}, 400, "top_logprobs", "needs logprobs"),
    ({"logit_bias": {"5": 1}}, 400, "logit_bias", "cannot do"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format", "cannot do"),
    ({"tool_choice": "required"}, 400, "tool_choice", "cannot make"),
    ({"tools": [{"type": "web"}]}, 400, "tools", "functions"),
    ({"model": "gpt-9"}, 404, "model", "does not exist"),
    ({"max_tokens": 9999}, 400, "messages", "maximum context length is 512 tokens"),
]
REFUSED_TEXTS: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({}, 400, "prompt", "Field required"),
    ({"prompt": []}, 400, "prompt", "no tokens"),
    ({"prompt": "x", "max_tokens": 0}, 400, "max_tokens", "only with echo"),
    ({"prompt": [[999999]]}, 400, "prompt", "none of this model's"),
    ({"prompt": [5] * 600}, 400, "messages", "maximum context length"),
    ({"prompt": "x", "logprobs": 99}, 400, "logprobs", "less than or equal to 20"),
]


def test_what_is_refused_is_told_in_openais_form():
    """Mutation caught: a request that changes the answer and is ignored; a traceback; a 500 for a client's mistake."""

    async def all_of_them(client: Client) -> None:
        chats = [("/chat/completions", {"messages": HI} | body, *said) for body, *said in REFUSED]
        texts = [("/completions", body, *said) for body, *said in REFUSED_TEXTS]
        for path, body, status, param, says in [*chats, *texts]:
            reply = await client.post(path, json=body)
            error = reply.json()["error"]
            assert (reply.status_code, error["param"]) == (status, param), (body, reply.text)
            assert says in error["message"], error
            assert set(error) == {"message", "type", "param", "code"}
        overflow = await client.post("/chat/completions", json={"messages": HI, "max_tokens": 9999})
        assert overflow.json()["error"]["code"] == "context_length_exceeded"
        for broken in (b"{", b"[]", b"\xff", b"[" * 100_000):
            assert (await client.post("/completions", content=broken)).status_code == 400
        assert (await client.get("/nothing")).json()["error"]["type"] == "invalid_request_error"
        assert (await client.get("/chat/completions")).status_code == 405
        ignored = {"user": "u", "metadata": {}, "frequency_penalty": 0, "stop": None, "tools": None}
        fine = await client.post(
            "/chat/completions", json={"messages": HI, "max_tokens": 1} | ignored
        )
        assert fine.status_code == 200, fine.text

    with_client(all_of_them)


def test_a_key_and_names_of_models():
    """Mutation caught: a key that is asked for in one route only."""

    async def work(client: Client) -> None:
        assert (await client.get("/models")).status_code == 401
        for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic s3"}):
            reply = await client.post(
                "/chat/completions", json={"messages": HI, "max_tokens": 1}, headers=wrong
            )
            assert reply.json()["error"]["code"] == "invalid_api_key" and reply.status_code == 401
        right = {"Authorization": "Bearer s3"}
        assert (await client.get("/models", headers=right)).json()["data"][0]["id"] == "tiny"
        assert (await client.get("/models/tiny", headers=right)).json()["id"] == "tiny"
        assert (await client.get("/models/huge", headers=right)).status_code == 404
        body = {"messages": HI, "max_tokens": 1, "model": "tiny"}
        reply = await client.post("/chat/completions", json=body, headers=right)
        assert reply.status_code == 200 and reply.json()["model"] == "tiny"

    with_client(work, key="s3")


def test_an_engine_that_fails_is_no_clients_mistake():
    """Mutation caught: its message, which names files of the server, in the answer."""

    class Broken(Script):
        async def generate(self, tokens, **how):
            raise RuntimeError("/secret/path")

    reply = post("/chat/completions", Broken(TOK, "x"), messages=HI)
    assert reply.status_code == 500 and "secret" not in reply.text
    assert reply.json()["error"]["type"] == "server_error"


def test_nobody_decodes_for_a_client_that_has_gone():
    """Mutation caught: a row that goes on to its last token after its request was cancelled."""

    async def work() -> int:
        drawn = 0

        def heard(index: int, token: int) -> None:
            nonlocal drawn
            drawn += 1

        request = asyncio.ensure_future(
            ENGINE.generate(
                [5, 6, 7], max_tokens=400, sampling=Sampling(), stop=[], seed=1, heard=heard
            )
        )
        while not drawn:
            await asyncio.sleep(0)
        request.cancel()
        await ENGINE.generate([5, 6], max_tokens=40, sampling=Sampling(), stop=[], seed=1)
        return drawn

    assert asyncio.run(work()) < 20
