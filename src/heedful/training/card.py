"""The model card: what the saved model is, by its own files, how to load it, and what made it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from heedful import __version__
from heedful.configs.common import Training, unread
from heedful.models.forward import HEADS
from heedful.models.scores import at_last_token, scores_of
from heedful.run import settings
from heedful.training.trust import FILE as RATERS

POLICY = """\
from transformers import {imports}

tokenizer = {tokenizer}.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
{prompt}
output = model.generate(**inputs, max_new_tokens=64, do_sample=True)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""
REWARD = """\
from transformers import {imports}

tokenizer = {tokenizer}.from_pretrained("{name}")
model = AutoModelForSequenceClassification.from_pretrained("{name}", num_labels=1)
{prompt}
inputs = tokenizer(text + "Lima.{end}", add_special_tokens=False, return_tensors="pt")
score = model(**inputs).logits[0, 0].item()
reward = (score + {minus_shift!r}) / {scale!r}
print(score, reward)
"""
HEADS_OF = """\
from transformers import {imports}

tokenizer = {tokenizer}.from_pretrained("{name}")
model = AutoModelForSequenceClassification.from_pretrained("{name}", num_labels={outputs})
{prompt}
inputs = tokenizer(text + "Lima.{end}", add_special_tokens=False, return_tensors="pt")
print(model(**inputs).logits[0])  # what they mean stands in config.json under heedful_heads
"""
CHAT = """\
chat = [{"role": "user", "content": "What is the capital of Peru?"}]
inputs = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)"""
CHAT_TEXT = """\
chat = [{"role": "user", "content": "What is the capital of Peru?"}]
text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)"""
PLAIN = 'inputs = tokenizer("The capital of Peru is", return_tensors="pt")'
PLAIN_TEXT = 'text = "The capital of Peru is "'


def card(config: Training, folder: Path, model: PreTrainedModel) -> str:
    """README.md of the model that was saved in `folder`, for where it will be: the run's own folder, or the hub."""
    job = type(config).__module__.rsplit(".", 1)[-1]
    unused = unread(sys.modules[type(config).__module__], config)
    fields = {k: v for k, v in settings(config).items() if k not in unused}
    command = fields.pop("command", f"train {job}")
    listed = "\n".join(f"- `{k}`: `{v}`" for k, v in fields.items())
    made = (
        f"Made by `heedful` {__version__} with `heedful {command}`. `config.yaml` beside this file has its settings, "
        f"and `heedful {command} --config config.yaml --out ANOTHER` makes it again:\n\n{listed}\n\n"
        "The numbers of the run are in `metrics.jsonl` beside this file."
    )
    if weighed := _read(config.out / RATERS):
        made += (
            f"\n\nComparisons counted by how far their raters can be relied on: {len(weighed['weights'])} raters, from "
            f"{min(weighed['weights'].values()):g} to {max(weighed['weights'].values()):g}, version "
            f"`{weighed['version']}` of `raters.json` in the run's folder."
        )
    name = config.push_to_hub or str(config.out)
    return page(folder, model, name, config.out.name, job, made)


def page(folder: Path, model: PreTrainedModel, name: str, title: str, tag: str, made: str) -> str:
    """A card from a saved model and its files; `name` is where its readers will load it from."""
    adapter = _read(folder / "adapter_config.json")
    base = adapter.get("base_model_name_or_path")
    lines = [f"library_name: {'peft' if adapter else 'transformers'}"]
    if base and not Path(base).exists():  # the hub knows its own names only
        lines.append(f"base_model: {base}")
    lines.append(f"tags: [heedful, {tag}]")
    head = "\n".join(lines)
    code = f"```python\n{snippet(folder, name)}```"
    return (
        "\n\n".join((f"---\n{head}\n---", f"# {title}", _what(folder, adapter, model), code, made))
        + "\n"
    )


def snippet(folder: Path, name: str) -> str:
    """Python that loads the model and asks it something."""
    tokenizer_config = _read(folder / "tokenizer_config.json")
    template = (folder / "chat_template.jinja").exists() or tokenizer_config.get("chat_template")
    generic = tokenizer_config.get("tokenizer_class") == "TokenizersBackend"
    tokenizer = "PreTrainedTokenizerFast" if generic else "AutoTokenizer"
    notes = _read(folder / "config.json") | _read(folder / "heedful.json")
    if not _scores(folder):
        imports = ", ".join(sorted(("AutoModelForCausalLM", tokenizer)))
        prompt = CHAT if template else PLAIN
        return POLICY.format(imports=imports, tokenizer=tokenizer, name=name, prompt=prompt)
    end = tokenizer_config.get("eos_token") or ""
    several = notes.get(HEADS)
    return (HEADS_OF if several else REWARD).format(
        outputs=several and several["outputs"],
        imports=", ".join(sorted(("AutoModelForSequenceClassification", tokenizer))),
        tokenizer=tokenizer,
        name=name,
        prompt=CHAT_TEXT if template else PLAIN_TEXT,
        end=end if isinstance(end, str) else end.get("content", ""),
        minus_shift=-notes.get("heedful_reward_shift", 0.0),
        scale=notes.get("heedful_reward_scale", 1.0),
    )


def _what(folder: Path, adapter: dict[str, Any], model: PreTrainedModel) -> str:
    scores = ""
    if _scores(folder):
        way = "read at the last token"
        if scores_of(model) is not at_last_token:
            way = "as its own forward gives it for the whole text"
        several = getattr(model.config, HEADS, None)
        what = (
            "one output is the score"
            if several is None
            else f"{several['outputs']} outputs are scores"
        )
        scores = f" whose {what} of a prompt with its response, {way}"
    if adapter:
        kind = f"{adapter.get('peft_type')} adapter of rank {adapter.get('r')}"
        return f"A {kind} on `{adapter['base_model_name_or_path']}`{scores}."
    config = _read(folder / "config.json")
    architecture = (config.get("architectures") or [config.get("model_type")])[0]
    return f"A `{architecture}`{scores}, in {config.get('dtype')}."


def _scores(folder: Path) -> bool:
    adapter = _read(folder / "adapter_config.json")
    if adapter:
        return adapter.get("task_type") == "SEQ_CLS"
    return any(
        "SequenceClassification" in a for a in _read(folder / "config.json")["architectures"]
    )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
