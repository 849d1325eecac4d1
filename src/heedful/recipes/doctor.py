"""A check-up: the traps that depend on one's own model, tokenizer, template, reward model and data."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from heedful import doctor
from heedful.configs.doctor import Config
from heedful.data.files import write_json
from heedful.doctor.context import Context
from heedful.doctor.finding import Finding
from heedful.doctor.material import Material, read_material
from heedful.errors import UserError
from heedful.models.load import load_policy, load_reference, load_tokenizer
from heedful.models.merging import merge
from heedful.rewards.model import ModelReward
from heedful.tagged import refuse_numbers
from heedful.transfer.sources import materialise
from heedful.types import Sampling

COLOURS = {"pass": "green", "warning": "yellow", "fail": "bold red", "not applicable": "dim"}
WORDS = {"not applicable": "n/a"}
WIDTH, INDENT = 80, 8


def run(config: Config) -> int:
    """Prints the findings; 1 if a check failed, else 0. What cannot be read at all is a `UserError`."""
    refuse_numbers(config)
    started = time.monotonic()
    context = patient(config)
    console = Console(highlight=False, width=_width())
    page = Page(console, quiet=config.json)
    if not config.json:
        page.title(_title(config, context))
    findings = doctor.examine(context, heard=page.add)
    counts = Counter(f.kind for f in findings)
    seconds = time.monotonic() - started
    result = {
        "model": config.model,
        "data": config.data,
        "seconds": round(seconds, 2),
        "counts": {kind: counts[kind] for kind in COLOURS},
        "findings": [asdict(f) for f in findings],
    }
    if config.json:
        sys.stdout.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    else:
        page.close(counts, seconds)
    if config.out is not None:
        write_json(config.out, result)
    return 1 if counts["fail"] else 0


def patient(config: Config) -> Context:
    """Everything loaded. What loads but is not sound is left to the checks; what is not there at all is refused."""
    material, held = Material(), None
    if config.data is not None:
        material = read_material(_file(config.data), config.limit, config.columns)
    if config.eval_data is not None:
        held = read_material(_file(config.eval_data), config.limit, config.columns)
    refused: dict[str, str] = {}
    tokenizer = _tokenizer(config.model)
    policy = _sound("model", refused, config.model, load_policy, config)
    reference = None
    if config.reference is not None:
        near = partial(load_reference, policy=config.model)
        reference = _sound("reference", refused, config.reference, near, config)
    if policy is not None:  # an adapter is examined as the model that it makes of its base
        policy = merge(policy)
    rm = None
    if config.reward_model is not None:
        rm = _sound("reward model", refused, config.reward_model, _reward, config)
    return Context(
        tokenizer=tokenizer,
        policy=policy,
        reference=reference,
        rm=rm,
        material=material,
        held_out=held,
        sampling=Sampling(config.temperature, config.top_p, config.top_k),
        max_tokens=config.max_tokens,
        max_length=config.max_length,
        learning_rate=config.learning_rate,
        seed=config.seed,
        refused=refused,
    )


class Page:
    """Findings as lines as they come: a heading for each group, the remedy below what is no pass.

    Checks in succession that do not apply for the same reason are one line.
    """

    def __init__(self, console: Console, *, quiet: bool):
        self.console, self.quiet, self.group = console, quiet, ""
        self.waiting: list[Finding] = []

    def title(self, text: str) -> None:
        for line in textwrap.wrap(text, self.console.width):
            self.console.print(Text(line, style="bold"))

    def add(self, f: Finding) -> None:
        if self.quiet:
            return
        if self.waiting and (f.group, f.says) != (self.group, self.waiting[0].says):
            self._flush()
        if f.group != self.group:
            self.group = f.group
            self.console.print(Text(f"\n{f.group}", style="bold"))
        if f.kind == "not applicable":
            self.waiting.append(f)
        else:
            self._print(f, f.says)

    def _flush(self) -> None:
        if self.waiting:
            many = f"{len(self.waiting)} checks: " if len(self.waiting) > 1 else ""
            self._print(self.waiting[0], many + self.waiting[0].says)
        self.waiting = []

    def _print(self, f: Finding, says: str) -> None:
        first, *rest = self._lines(says)
        line = Text(f"{WORDS.get(f.kind, f.kind):<{INDENT}}", style=COLOURS[f.kind])
        self.console.print(
            line.append(first, style="dim" if f.kind == "not applicable" else "default")
        )
        remedy = self._lines(f"→ {f.remedy} [{f.check}]") if f.kind in ("warning", "fail") else []
        for text in (*rest, *remedy):
            self.console.print(Text(" " * INDENT + text))

    def _lines(self, text: str) -> list[str]:
        return textwrap.wrap(text, self.console.width - INDENT, break_on_hyphens=False) or [""]

    def close(self, counts: Counter, seconds: float) -> None:
        self._flush()
        said = (
            f"{counts['fail']} failed, {counts['warning']} with a warning, {counts['pass']} passed, "
            f"{counts['not applicable']} do not apply; {seconds:.1f} seconds"
        )
        style = COLOURS["fail" if counts["fail"] else "warning" if counts["warning"] else "pass"]
        self.console.print(Text(f"\n{said}", style=style))


def _width() -> int:
    """The terminal's, up to a hundred; files get lines of a fixed width."""
    return min(100, Console().width) if sys.stdout.isatty() else WIDTH


def _title(config: Config, context: Context) -> str:
    said = config.model
    if context.policy is not None:
        count = sum(p.numel() for p in context.policy.parameters())
        size = f"{count / 1e6:.3g}M" if count < 1e9 else f"{count / 1e9:.3g}B"
        said += f" ({context.policy.config.model_type}, {size} parameters, {config.dtype})"
    m = context.material
    return f"{said}, {len(m.rows):,} rows of {m.form or 'data'}" if m.rows else said


def _file(source: str) -> str:
    """`db:` sources hold several things; comparisons are what is mostly trained on."""
    reasons = []
    for what in ("rankings", "demonstrations", "prompts"):
        try:
            return materialise(source, what)
        except UserError as error:
            reasons.append(error)
    raise reasons[0]


def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Also one without an eos token: that is something to find."""
    try:
        return load_tokenizer(name)
    except UserError:
        with suppress(Exception):
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            if tokenizer.eos_token_id is None:
                return tokenizer
        raise


def _sound(what: str, refused: dict[str, str], name: str, load: Any, config: Config) -> Any:
    """What loads, or None with the reason, where there is a model that is refused for something worth a finding."""
    try:
        return load(name, dtype=config.dtype, device=config.device)
    except UserError as error:
        try:
            AutoConfig.from_pretrained(name, trust_remote_code=False)
        except Exception:
            raise error from None
        refused[what] = str(error)
        return None


def _reward(name: str, *, dtype: str, device: str) -> ModelReward:
    return ModelReward.load(name, device=device)
