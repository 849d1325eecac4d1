"""Families that stand for the kinds: whatever way is taken, log-probs are those of plain transformers."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

import pytest

import tiny as models
from families import model_of
from heedful.engine import load_engine
from heedful.engine.slots import SlotCache
from heedful.engine.trial import SAID, way_of
from heedful.errors import UserError
from heedful.models.backend import Rows, backend_of
from heedful.types import Sampling

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks.architectures import examined, table, tiny  # noqa: E402

KINDS = {
    "gemma2": "slots",  # eager attention, capped scores and logits, windows in every other layer
    "gpt_oss": "slots",  # attention sinks
    "gptj": "slots",  # eager, partly rotated
    "mpt": "slots",  # positions by alibi, from the mask
    "mistral": "slots",  # a window shorter than the prompts, in a family that is walked layer by layer
    "llama4_text": "slots",  # chunks; a body where its class does not say
    "gpt_neo": "prompt by prompt",  # windows that transformers counts from the last cell
    "mamba": "prompt by prompt",  # states
    "jamba": "prompt by prompt",  # states beside keys and values
    "qwen3_next": "prompt by prompt",  # linear attention
    "rwkv": "row by row",  # states that transformers mixes up in a batch
    "xlstm": "no cache",  # states that cannot be gone on from
}


@pytest.mark.parametrize("name", KINDS)
def test_log_probs_are_those_of_plain_transformers(name):
    """Of what the engine sampled, and the learner's; prompts of unlike lengths, several samples each.

    Mutation caught: a boolean mask where attention adds it, a query's place one off, windows asked at the last cell, a
    state that is lost, shared by rows or padded, a row's logits given to another, a cap left out.
    """
    line = examined(tiny(name))
    assert line["sampled from"] == KINDS[name]
    assert max(line["engine"], line["learner"]) <= line["rounding"] < 1e-3


def test_what_reads_ahead_is_refused():
    """Mutation caught: an encoder trained as if it wrote. The sentence names the model."""
    with pytest.raises(
        UserError, match=r"RobertaForCausalLM \(roberta\) looks at what comes later"
    ):
        load_engine(model_of("roberta"))


def broken(model, hurt):
    """The model, whose last hidden states are made other ones where `hurt(keyword arguments, states)` is true."""

    def hook(module, args, given, out):
        if hurt(given, out.last_hidden_state):
            out.last_hidden_state = -out.last_hidden_state
        return out

    model.base_model.register_forward_hook(hook, with_kwargs=True)
    return model


def test_what_fails_its_trial_is_sampled_from_the_plain_way_and_says_so_once(caplog):
    """Mutation caught: a trial whose verdict nobody reads; one a step; a user who is told nothing, or each time."""
    fine, prompts = models.causal_lm("gpt2"), models.prompts(4)
    model = broken(
        models.causal_lm("gpt2"),
        lambda given, h: isinstance(given.get("past_key_values"), SlotCache),
    )

    def said(model):
        async def all_of_them():
            engine, how = load_engine(model), {"sampling": Sampling(), "stop": (3,), "keep": True}
            asked = (engine.generate(p, n=3, max_tokens=9, seed=5, **how) for p in prompts)
            return [[c.tokens for c in each] for each in await asyncio.gather(*asked)]

        return asyncio.run(all_of_them())

    with caplog.at_level(logging.WARNING, "heedful"):
        assert said(model) == said(model) == said(fine)
    assert way_of(model) == "prompt by prompt"
    assert caplog.text.count(SAID["prompt by prompt"]) == 1


def test_rows_that_padding_changes_are_run_alone():
    """Mutation caught: padded rows that are not tried; a row cut short or given to another."""
    model = broken(models.causal_lm("gpt2"), lambda given, h: len(h) > 1 or h.shape[1] > 20)
    assert backend_of(model) == Rows(model)
    assert way_of(model) == "row by row"


def test_the_documents_have_the_table():
    """Mutation caught: a table that was not made of the lines beside it."""
    lines = (ROOT / "docs" / "results" / "architectures.jsonl").read_text().splitlines()
    assert table([json.loads(line) for line in lines]) in (ROOT / "docs/models.md").read_text()
