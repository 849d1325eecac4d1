"""`train distil`: what a context does moves into the weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from heedful.cli import main
from heedful.data.collate import collate
from heedful.data.context import in_context
from heedful.data.tokens import encode_example, encode_prompt
from heedful.learner import load_learner
from heedful.learner.local import Optim
from heedful.models.reference import Reference
from heedful.training.forwards import distilled_forward
from heedful.types import Message

CONTEXT = "You answer in verse."


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    tiny.causal_lm("llama", context=256).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def naive(model: Any, teacher: Any, mine: list[int], theirs: list[int], answer: list[int]) -> Any:
    """The sum over the answer of Σ_v p(v)(log p(v) − log q(v)), one plain pass of each model."""

    def logps(which: Any, before: list[int]) -> torch.Tensor:
        logits = which(torch.tensor([before + answer])).logits[0]
        return logits[len(before) - 1 : -1].double().log_softmax(-1)

    with torch.no_grad():
        wanted = logps(teacher, theirs)
    return (wanted.exp() * (wanted - logps(model, mine))).sum()


def test_the_divergence_is_that_of_whole_distributions():
    """Value and gradient, against plain passes; rows of several lengths. Mutation caught: KL the other way round; the
    teacher's columns off by one; a row's teacher taken for another's; a gradient into the teacher's pass."""
    torch.manual_seed(0)
    model, teacher = tiny.causal_lm("llama"), tiny.causal_lm("llama")
    words = tiny.tokenizer()
    rows = [
        ("Why?", "Tell me why", "Because."),
        ("How is it?", "How", "so and so"),
        ("Who", "I ask who", "me"),
    ]
    samples, expected = [], 0.0
    for group, (mine, theirs, answer) in enumerate(rows):
        pair = [encode_example(words, prompt, answer) for prompt in (mine, theirs)]
        ids = [t for t, own in zip(pair[0].tokens, pair[0].mask, strict=True) if own]
        expected = expected + naive(
            model, teacher, *(encode_prompt(words, p) for p in (mine, theirs)), ids
        )

        samples += [replace(s, group=group) for s in pair]
    expected.backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    batch = collate(samples)
    batch.mask[1::2] = False
    learner = load_learner(
        model, distilled_forward(Reference(teacher)), Optim(1e-3, 1), micro_batch_tokens=24
    )
    found = learner.outputs(batch)["kl"]
    assert float(found.sum()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert (found != 0).equal(batch.mask)
    out = distilled_forward(Reference(teacher))(model, batch)["kl"]
    out.sum().backward()
    for name, parameter in model.named_parameters():
        if name in wanted:
            assert torch.allclose(parameter.grad, wanted[name], rtol=1e-3, atol=1e-5), name
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("lora", [0, pytest.param(4, marks=pytest.mark.long)])
def test_a_context_moves_into_the_weights(lora, model, tmp_path):
    """Most of the divergence that the context makes is gone, on prompts that were not trained on; the commands that a
    user would type. Mutation caught: a teacher that learns too; rows that keep the context."""
    prompts, context = tmp_path / "prompts.jsonl", tmp_path / "context.txt"
    prompts.write_text(
        "".join(json.dumps({"prompt": f"What is {i} + {i}?"}) + "\n" for i in range(40))
    )
    context.write_text(CONTEXT + "\n")
    demos, out = tmp_path / "demos.jsonl", tmp_path / "out"
    common = ["--model", str(model), "--quiet", "--context", str(context)]
    ask = ["sample", *common, "--data", str(prompts), "--max-tokens", "6", "--out", str(demos)]
    assert main(ask) == 0
    assert CONTEXT not in demos.read_text()
    line = [
        "train", "distil", *common, "--data", str(demos), "--out", str(out), "--epochs", "20", "--batch-size", "8",
        "--held-out", "0.2", "--lr", "1e-2" if lora else "3e-3", "--report-to", "none", "--schedule", "constant",
        *(["--lora-rank", str(lora)] if lora else []),
    ]  # fmt: skip
    assert main(line) == 0
    told = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    held = [row["eval/kl"] for row in told if "eval/kl" in row]
    assert held[-1] < 0.3 * told[0]["loss"], (told[0]["loss"], held)


def test_what_cannot_be_distilled(model, tmp_path, capsys):
    """One sentence, and nothing is left behind."""
    demos, empty = tmp_path / "demos.jsonl", tmp_path / "empty.txt"
    demos.write_text(json.dumps({"prompt": "Why?", "completion": "So."}) + "\n")
    empty.write_text(" \n")
    out = tmp_path / "out"
    line = [
        "train",
        "distil",
        "--model",
        str(model),
        "--data",
        str(demos),
        "--out",
        str(out),
        "--quiet",
    ]
    for more, sentence in (
        ([], "--context FILE or --teacher MODEL is needed"),
        (["--context", str(empty)], "empty.txt is empty"),
        (["--context", str(tmp_path / "no")], "cannot read"),
    ):
        assert main([*line, *more]) == 2
        assert sentence in capsys.readouterr().err
    (tmp_path / "long.txt").write_text("word " * 400)
    assert main([*line, "--context", str(tmp_path / "long.txt")]) == 2
    assert "no room for a prompt in 256 tokens" in capsys.readouterr().err
    assert not out.exists()


def test_where_a_context_stands():
    """Mutation caught: a second system's turn; a template without a system that ends the command."""
    words = tiny.tokenizer()
    assert in_context(words, "Why?", "Be kind.") == "Be kind.\n\nWhy?"
    user, system = Message("user", "Why?"), Message("system", "You are Ada.")
    assert in_context(words, (user,), "Be kind.") == (Message("system", "Be kind."), user)
    assert in_context(words, (system, user), "Be kind.") == (
        Message("system", "Be kind.\n\nYou are Ada."), user
    )  # fmt: skip
    words.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    assert in_context(words, (user,), "Be kind.") == (Message("user", "Be kind.\n\nWhy?"),)
