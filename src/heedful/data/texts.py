"""What a policy wrote on the way, as rows that somebody may read later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.data.tokens import decode_response
from heedful.types import Sample


def some_texts(
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    prompts: int = 4,
    most: int = 2000,
) -> list[dict[str, Any]]:
    """Rows to read later: of the first prompts the responses with the highest and the lowest reward, of each text at
    `most` characters, a prompt's last and a response's first."""
    groups: dict[Any, list[Sample]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(i if sample.group is None else sample.group, []).append(sample)
    rows = []
    for group in list(groups.values())[:prompts]:
        best, *others = sorted(group, key=lambda s: -s.reward)
        length = best.mask.index(True) if any(best.mask) else len(best.tokens)
        prompt = str(tokenizer.decode(list(best.tokens[:length]), skip_special_tokens=True))
        for sample in (best, *others[-1:]):
            row = {
                "prompt": prompt[-most:],
                "completion": written(tokenizer, sample)[:most],
                "reward": sample.reward + sum(turn.reward for turn in sample.steps),
                "truncated": sample.stop_reason == "length",
            }
            rows.append(row | ({"reward_extra": dict(sample.extra)} if sample.extra else {}))
    return rows


def written(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> str:
    """All that the policy wrote in a sample, decoded."""
    own = [token for token, own in zip(sample.tokens, sample.mask, strict=True) if own]
    return decode_response(tokenizer, own)
