"""The models' process: real models, real lines, from the server's side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import tiny
from heedful.data.tokens import decode_response, encode_prompt, stop_tokens
from heedful.engine.local import LocalEngine
from heedful.errors import UserError
from heedful.models.load import load_policy, load_tokenizer
from heedful.models.save import save_model
from heedful.types import Message, Sampling
from heedful.web.models import Models
from heedful.web.talk import Talk

SAID = [{"role": "user", "content": "What is the capital of Peru?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talk") / "runs" / "tiny"
    tok = tiny.tokenizer()
    save_model(tiny.policy(tok), tok, folder)
    return folder


def all_of(talk: Talk, models: list[str], messages: Any = SAID, **options: Any) -> list[Any]:
    async def collect() -> list[Any]:
        wanted = {"max_tokens": 12, "temperature": 1.0, "seeds": [1, 2]} | options
        try:
            return [news async for news in talk.replies(models, messages, **wanted)]
        finally:
            await talk.close()

    return asyncio.run(collect())


@pytest.mark.long
def test_the_process_says_what_the_model_says(model: Path):
    """Text, tokens and log-probs of each seed as the engine in this process has them; models lie in the workspace."""
    *progress, replies = all_of(Talk(Models(model.parents[1])), ["runs/tiny", "runs/tiny"])
    assert progress and all(isinstance(n, int) for n in progress)
    assert progress == sorted(progress)
    tok, engine = load_tokenizer(str(model)), LocalEngine(load_policy(str(model)))
    prompt = (Message("user", SAID[0]["content"]),)
    for seed, reply in zip((1, 2), replies, strict=True):
        (said,) = asyncio.run(
            engine.generate(
                encode_prompt(tok, prompt),
                max_tokens=12,
                sampling=Sampling(1.0),
                stop=stop_tokens(tok, prompt),
                seed=seed,
            )
        )
        assert reply["tokens"] == list(said.tokens)
        assert reply["text"] == decode_response(tok, list(said.tokens))
        assert reply["logprobs"] == pytest.approx(said.logprobs, abs=1e-5)
        assert reply["finish_reason"] == said.stop_reason


@pytest.mark.long
def test_what_a_model_cannot_do_is_a_sentence(model: Path, tmp_path: Path):
    """A folder without a model, and a conversation that has become too long."""
    with pytest.raises(UserError, match="nothing-here"):
        all_of(Talk(Models(tmp_path)), ["nothing-here", "nothing-here"])
    long = [{"role": "user", "content": "word " * 500}]
    with pytest.raises(UserError, match="too long"):
        all_of(Talk(Models(model.parents[1])), ["runs/tiny", "runs/tiny"], long)
