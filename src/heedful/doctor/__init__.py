"""The traps of a user's own model, tokenizer, template, reward model and data, each a function `(Context) -> Finding`.

A public function of one of the modules in `GROUPS` is a check; there is no other registry. `preflight` is the
few that cost nothing, for recipes to call before they train.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import ModuleType

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.doctor import data, probabilities, rewards, templates, tokens, updates, ways, weights
from heedful.doctor.context import Context
from heedful.doctor.finding import Finding, NotApplicable
from heedful.doctor.material import Item, of_items, spread
from heedful.errors import UserError

GROUPS: tuple[ModuleType, ...] = (
    tokens,
    templates,
    weights,
    ways,
    probabilities,
    updates,
    rewards,
    data,
)
CHEAP = (tokens, templates)  # and they say what would ruin a run: these are checked before training
LOOKED_AT = 32  # examples, before training
log = logging.getLogger("heedful")

# A check looks at a model, a tokenizer or data, and changes none of them.
Check = Callable[[Context], Finding]


def checks(group: ModuleType) -> list[Check]:
    """The checks of a module, in the order in which they stand there."""
    return [
        f
        for name, f in vars(group).items()
        if not name.startswith("_")
        and inspect.isfunction(inspect.unwrap(f))
        and inspect.unwrap(f).__module__ == group.__name__
    ]


def group_name(group: ModuleType) -> str:
    return group.__name__.rpartition(".")[2]


def examine(
    context: Context,
    groups: Sequence[ModuleType] = GROUPS,
    *,
    heard: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Every check of the groups; `heard` is told of each finding as it comes. A check that breaks is a failure."""

    def findings() -> Iterator[Finding]:
        for group in groups:
            for check in checks(group):
                started = time.monotonic()
                finding = replace(
                    diagnose(check, context), group=group_name(group), check=check.__name__
                )
                finding = replace(finding, seconds=round(time.monotonic() - started, 3))
                heard(finding)
                yield finding

    return list(findings())


def diagnose(check: Check, context: Context) -> Finding:
    """What a check finds. Nothing but an interrupt gets out of it."""
    try:
        return check(context)
    except NotApplicable as reason:
        return Finding("not applicable", str(reason))
    except UserError as error:
        return Finding("fail", str(error), "see the sentence; the other checks may say more")
    except Exception as error:  # the models and templates are the user's: anything may be raised
        sentence = " ".join(str(error).split())[:200]
        return Finding(
            "fail",
            f"the check broke: {type(error).__name__}: {sentence}",
            "mend what the other checks name first; if it stays, please report it",
        )


def preflight(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    items: Sequence[Item],
    *,
    max_tokens: int = 1,
    max_length: int | None = None,
) -> None:
    """Before training: `UserError` for what would ruin the run, a logged warning for the rest that bears on it.

    items are prompts, demonstrations or comparisons, of which a few are looked at; max_tokens is what will be
    sampled. Tokenizer and template only, without a forward pass: a fraction of a second.
    """
    context = Context(
        tokenizer=tokenizer,
        policy=model,
        material=of_items(spread(items, LOOKED_AT)),
        max_tokens=max_tokens,
        max_length=max_length,
    )
    found = examine(context, CHEAP)
    for f in found:
        if f.kind == "warning" and f.here:
            log.warning("%s.%s: %s; %s", f.group, f.check, f.says, f.remedy)
    ruinous = [f for f in found if f.kind == "fail"]
    if ruinous:
        sentence = "; ".join(f"{f.says} ({f.group}.{f.check}): {f.remedy}" for f in ruinous[:3])
        raise UserError(f"a check of this run failed: {sentence}; `heedful doctor` says more")
