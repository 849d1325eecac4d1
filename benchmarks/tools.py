"""`tools`: a policy that calls a calculator and then answers, in TRL's tool-calling GRPO and in heedful's.

The model has learned a few conversations by heart, so that on either side each episode is a call, its result and an
answer, of as many tokens; what is measured is how fast episodes are played and learned from. Its chat template is
Qwen 2.5's, one of those whose calls TRL can read, taken from the installed TRL.
"""

from __future__ import annotations

import importlib.util
import json
import operator
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.inputs import Size, causal

NAME = "tools"  # the task, and the folder beside the other inputs
CALLS = 1.0  # an episode
STEPS, SURE = 1500, 2e-3  # of learning by heart; nats that the least likely token may have
TURN, TURNS = 96, 3  # tokens of a turn, turns of an episode
# Of the tokens that were planned, and of the last batch's calls: a model that is sure errs now and then, and TRL tells
# of the 32 episodes of one batch alone.
TOLERANCE, ERRING = 0.02, 0.07
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def calculate(expression: str) -> str:
    """Works out an arithmetic expression.

    Args:
        expression: two whole numbers with a sign between them, such as 12 * 34
    """
    found = re.fullmatch(r"\s*(\d+)\s*([-+*])\s*(\d+)\s*", expression)
    return str(SIGNS[found[2]](int(found[1]), int(found[3]))) if found else "Error: no expression"


def short(completions: list[Any], **_: Any) -> list[float]:
    """The reward of both sides: nothing that would cost time."""
    texts = (c if isinstance(c, str) else c[-1]["content"] or "" for c in completions)
    return [-0.01 * len(text) for text in texts]


def conversations(number: int) -> list[list[dict[str, Any]]]:
    """A question, a call, what it gives, and an answer."""
    made = []
    for i in range(number):
        expression = f"{17 + 7 * i} * {23 + 5 * i}"
        function = {"name": "calculate", "arguments": {"expression": expression}}
        made.append(
            [
                {"role": "user", "content": f"What is {expression}?"},
                {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]},
                {"role": "tool", "name": "calculate", "content": calculate(expression)},
                {"role": "assistant", "content": f"It is {calculate(expression)}."},
            ]
        )  # fmt: skip
    return made


def build(folder: Path, size: Size, seed: int) -> None:
    """The model, its prompts, and how many tokens the policy writes in each conversation, in a folder of the inputs."""
    if (folder / NAME).exists():
        return
    aside = folder / f".{NAME}"
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "model").mkdir(parents=True)
    talks = conversations(size.responses // size.group)
    tokenizer = _tokenizer(talks)
    lines = [_tokens(tokenizer, talk) for talk in talks]
    model = _by_heart(size, seed, tokenizer, [(ids, start) for ids, start, _ in lines])
    model.save_pretrained(aside / "model")
    tokenizer.save_pretrained(aside / "model")
    rows = "".join(json.dumps({"prompt": talk[:1]}) + "\n" for talk in talks)
    (aside / "prompts.jsonl").write_text(rows, encoding="utf-8")
    (aside / "planned.json").write_text(json.dumps([own for *_, own in lines]), encoding="utf-8")
    aside.rename(folder / NAME)


def planned(folder: Path, size: Size) -> int:
    """Tokens that the policy writes in all rounds."""
    counts = json.loads((folder / NAME / "planned.json").read_text(encoding="utf-8"))
    return size.rounds * size.group * sum(counts)


def _template() -> str:
    """Qwen 2.5's, as the installed TRL has it."""
    trl = importlib.util.find_spec("trl")
    if trl is None or trl.origin is None:
        sys.exit("the task tools needs the chat template of an installed TRL")
    return (Path(trl.origin).parent / "chat_templates" / "qwen2_5.jinja").read_text("utf-8")


def _tokenizer(talks: list[list[dict[str, Any]]]) -> Any:
    from heedful.models.new import train_tokenizer

    template = _template()
    draft: Any = train_tokenizer(["x"], 261)
    draft.chat_template = template
    texts = [draft.apply_chat_template(t, tools=[calculate], tokenize=False) for t in talks]
    tokenizer: Any = train_tokenizer(texts, 600)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = template
    return tokenizer


def _tokens(tokenizer: Any, talk: list[dict[str, Any]]) -> tuple[list[int], int, int]:
    """Of a whole conversation, where the policy begins, and how many of them it writes, ends of turns included."""

    def text(messages: list[dict[str, Any]], ask: bool) -> str:
        return tokenizer.apply_chat_template(
            messages, tools=[calculate], tokenize=False, add_generation_prompt=ask
        )

    def count(said: str) -> int:
        return len(tokenizer(said)["input_ids"])

    whole = text(talk, False)
    whole = whole[: whole.rindex("<|im_end|>") + len("<|im_end|>")]
    own = 0
    for i in (1, 3):
        before = text(talk[:i], True)
        own += count(
            whole[len(before) : whole.index("<|im_end|>", len(before)) + len("<|im_end|>")]
        )
    return tokenizer(whole)["input_ids"], count(text(talk[:1], True)), own


def _by_heart(size: Size, seed: int, tokenizer: Any, lines: list[tuple[list[int], int]]) -> Any:
    """A model of a size that writes these conversations behind their first turns, token by token."""
    import torch
    from torch.nn.functional import cross_entropy

    ids: dict[str, Any] = {"vocab_size": len(tokenizer), "bos_token_id": None}
    ids |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = causal(size, seed, **ids)
    longest = max(len(tokens) for tokens, _ in lines)
    rows = torch.full((len(lines), longest), tokenizer.pad_token_id)
    wanted = torch.full((len(lines), longest), -100)
    for i, (tokens, start) in enumerate(lines):
        rows[i, : len(tokens)] = torch.tensor(tokens)
        wanted[i, start : len(tokens)] = torch.tensor(tokens[start:])
    adam = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    model.train()
    for _ in range(STEPS):
        logits = model(rows[:, :-1]).logits
        each = cross_entropy(logits.flatten(0, 1), wanted[:, 1:].flatten(), reduction="none")
        if float(each.detach().max()) < SURE:
            break
        adam.zero_grad()
        (each.sum() / (wanted >= 0).sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    return model.eval()
