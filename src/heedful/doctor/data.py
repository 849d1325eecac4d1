"""Checks of the data itself, as text: what is empty, twice, contradictory, cut, or in another form than it seems."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from heedful.data.columns import prompt_text
from heedful.doctor.context import Context
from heedful.doctor.finding import (
    Finding,
    NotApplicable,
    failed,
    graded,
    passed,
    quoted,
    share,
    warned,
)
from heedful.doctor.material import Example, texts_of
from heedful.types import Comparison

FEW = 20  # rows below which a share says nothing
MARKERS = re.compile(
    r"<\|im_start\|>|<\|im_end\|>|<\|start_header_id\|>|<\|eot_id\|>|<\|user\|>|<\|assistant\|>"
    r"|<\|endoftext\|>|<start_of_turn>|<end_of_turn>|\[/?INST\]|<<SYS>>|<s>|</s>"
    r"|(?m:^### (?:Instruction|Response|Human|Assistant)\b)|\n\n(?:Human|Assistant):"
)
ENTITIES = re.compile(r"&(?:amp|lt|gt|quot|nbsp|apos|#\d+|#x[0-9a-fA-F]+);|<br ?/?>|</?p>")
MOJIBAKE = re.compile("\ufffd|Ã[\x80-\xbf©¨¤¶¼]|â€[™œ“\x9d]")


def readable(context: Context) -> Finding:
    """Every row fits the form of the first one; a row that does not is told by line and column."""
    m = context.material
    if not m.rows:
        raise NotApplicable("no DATA")
    if m.refused:
        return failed(
            f"{share(len(m.refused), len(m.rows))} rows are unusable, the first: {m.refused[0]}",
            "mend these rows, or train with --on-bad-row drop",
            float(len(m.refused)),
        )
    more = "" if m.whole else ", the first ones of more"
    return passed(f"{len(m.rows):,} rows of {m.form}{more}, all readable", float(len(m.rows)))


def empty(context: Context) -> Finding:
    """No prompt and no response is empty."""
    empties = sum(not all(t.strip() for t in texts_of([e])) for e in context.data)
    empties += sum("empty response" in reason for reason in context.material.refused)
    return graded(
        f"{share(empties, max(len(context.data), empties))} rows have an empty prompt or response",
        float(empties),
        warn=0.0,
        fail=0.0,
        remedy="leave these rows out",
    )


def duplicates(context: Context) -> Finding:
    """No row is there twice: it would count twice, and may be trained and evaluated on."""
    seen = Counter((prompt_text(e.prompt), tuple(sorted(e.responses))) for e in context.data)
    again = sum(n - 1 for n in seen.values())
    return graded(
        f"{share(again, len(context.data))} rows repeat an earlier one",
        again / len(context.data),
        warn=0.01,
        remedy="keep one of each",
    )


def contradictions(context: Context) -> Finding:
    """The same responses to the same prompt are not ranked both ways."""
    wins: dict[tuple, set[tuple[str, str]]] = defaultdict(set)
    pairs, against = 0, 0
    for c in context.comparisons:
        prompt = prompt_text(c.prompt)
        for better, worse in _ordered(c):
            pairs += 1
            against += (worse, better) in wins[prompt,]
            wins[prompt,].add((better, worse))
    return graded(
        f"{share(against, pairs)} pairs contradict an earlier one",
        against / max(1, pairs),
        warn=0.02,
        fail=0.4,
        remedy="people may differ; if one wrote all of it, look whether labels are swapped",
    )


def nothing_compared(context: Context) -> Finding:
    """The responses of a comparison still differ once they are cut and trimmed."""
    same = sum("the same" in r for r in context.material.refused)
    same += sum(
        len({t.strip() for t in c.responses}) < len(c.responses) for c in context.comparisons
    )
    cut = 0
    groups: dict[tuple, list[tuple[int, ...]]] = defaultdict(list)
    for e in context.encoded:
        groups[prompt_text(e.prompt),].append(e.sample.tokens[: context.limit])
    for tokens in groups.values():
        cut += len(set(tokens)) < len(tokens) and any(len(t) == context.limit for t in tokens)
    total = len(context.comparisons)
    return graded(
        f"{share(same, total)} comparisons are between duplicates, {cut} more once truncated to "
        f"{context.limit:,} tokens",
        (same + cut) / total,
        warn=0.0,
        fail=0.1,
        remedy="leave such rows out (--on-bad-row drop), or raise --max-length",
    )


def tied(context: Context) -> Finding:
    """Not most comparisons are ties, which teach little."""
    ties = sum(len(set(c.ranking)) == 1 for c in context.comparisons)
    total = len(context.comparisons)
    return graded(
        f"{share(ties, total)} comparisons are ties",
        ties / total,
        warn=0.5,
        fail=0.999,
        remedy="compare responses that differ more: raise the temperature, or mix models",
    )


def longer_wins(context: Context) -> Finding:
    """The better response is not simply the longer one."""
    pairs = [p for c in context.comparisons for p in _ordered(c) if len(p[0]) != len(p[1])]
    if len(pairs) < FEW:
        raise NotApplicable(
            f"{len(pairs)} pairs of different lengths are too few; {FEW} say something"
        )
    longer = sum(len(better) > len(worse) for better, worse in pairs)
    rate = longer / len(pairs)
    return graded(
        f"the longer response wins in {share(longer, len(pairs))} pairs",
        abs(rate - 0.5),
        warn=0.2,
        remedy="a reward model will learn length; balance the pairs, or watch mean_length",
    )


def first_wins(context: Context) -> Finding:
    """What was shown first does not win for that."""
    shown = [c for c in context.comparisons if c.order_shown and len(c.responses) == 2]
    decided = [c for c in shown if len(set(c.ranking)) == 2]
    if len(decided) < FEW:
        raise NotApplicable("no column order_shown, or too few pairs with it")
    first = sum(c.ranking[c.order_shown[0]] == 1 for c in decided if c.order_shown)
    return graded(
        f"the response shown first wins in {share(first, len(decided))} pairs",
        abs(first / len(decided) - 0.5),
        warn=max(0.1, 1 / len(decided) ** 0.5),
        remedy="shuffle the order that people see, and tell them",
    )


def labels(context: Context) -> Finding:
    """Both thumbs up and thumbs down are there, in numbers that balance."""
    if not (found := context.material.labels):
        raise NotApplicable("no column label in DATA" if context.material.form else "no DATA")
    up = sum(found)
    return graded(
        f"{share(up, len(found))} responses are labelled good",
        abs(up / len(found) - 0.5),
        warn=0.4,
        fail=0.4999,
        remedy="collect more of the rarer label, or weigh it higher",
    )


def cut(context: Context) -> Finding:
    """No row is longer than the model's context, or --max-length: training would stop there, or cut it."""
    if not context.answered:
        raise NotApplicable("no responses in DATA")
    reasons, total = context.too_long, len(context.data)
    such = f", the first: {reasons[0]}" if reasons else ""
    return graded(
        f"{share(len(reasons), total)} rows are longer than {context.limit:,} tokens{such}",
        len(reasons) / total,
        warn=0.0,
        fail=0.0,
        remedy="raise --max-length, mend them, or train with --on-bad-row drop or cut",
    )


def forms_mixed(context: Context) -> Finding:
    """All prompts are chats, or all are plain text."""
    chats = sum(not isinstance(e.prompt, str) for e in context.data)
    total = len(context.data)
    if 0 < chats < total:
        return warned(
            f"{share(chats, total)} prompts are chats, the others plain text",
            "give all prompts one form: the model sees two languages",
            chats / total,
        )
    return passed(f"all {total:,} prompts are {'chats' if chats else 'plain text'}", chats / total)


def already_templated(context: Context) -> Finding:
    """No text brings the marks of a chat template with it, which would then be there twice."""
    return _matches(
        context,
        MARKERS,
        "hold marks of a chat template",
        fail=0.5,
        remedy="split such text into messages; the template adds its own marks",
    )


def entities(context: Context) -> Finding:
    """No text is HTML that nobody decoded."""
    return _matches(
        context,
        ENTITIES,
        "hold HTML",
        remedy="decode it (html.unescape), or the model will write it",
    )


def broken_characters(context: Context) -> Finding:
    """No text was read in the wrong encoding."""
    return _matches(
        context,
        MOJIBAKE,
        "hold broken characters",
        remedy="read the source as UTF-8 and write the file again",
    )


def overlap(context: Context) -> Finding:
    """No prompt of the held-out data is in the training data."""
    if context.held_out is None:
        raise NotApplicable("no --eval-data")
    ours = {_bare(e.prompt) for e in context.data}
    theirs = {_bare(e.prompt) for e in context.held_out.examples}
    if not theirs:
        raise NotApplicable("no prompts in --eval-data")
    both = len(ours & theirs)
    return graded(
        f"{share(both, len(theirs))} held-out prompts are in the training data",
        both / len(theirs),
        warn=0.0,
        fail=0.01,
        remedy="leave them out of one of the two; split by prompt",
    )


def _bare(prompt: Any) -> str:
    return " ".join(prompt_text(prompt).lower().split())


def _matches(
    context: Context, pattern: re.Pattern[str], what: str, *, remedy: str, fail: float = 2.0
) -> Finding:
    examples: Iterable[Example] = context.data
    found = [
        next(m for t in texts_of([e]) if (m := pattern.search(t)))
        for e in examples
        if any(pattern.search(t) for t in texts_of([e]))
    ]
    total = len(context.data)
    such = f", such as {quoted(found[0][0])}" if found else ""
    return graded(
        f"{share(len(found), total)} rows {what}{such}",
        len(found) / total,
        warn=0.0,
        fail=fail,
        remedy=remedy,
    )


def _ordered(c: Comparison) -> Iterable[tuple[str, str]]:
    """(better, worse) of every pair that is no tie."""
    for i, a in zip(c.places, c.responses, strict=True):
        for j, b in zip(c.places, c.responses, strict=True):
            if i < j:
                yield a, b
