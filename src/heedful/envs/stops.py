"""Texts at which a turn stops, for engines that know of tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from heedful.data.tokens import decode_response

_texts: WeakKeyDictionary[PreTrainedTokenizerBase, list[str]] = WeakKeyDictionary()


def may_end(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> list[int]:
    """The ids with which one of these texts may become complete: those that hold its last character."""
    if tokenizer not in _texts:
        _texts[tokenizer] = [decode_response(tokenizer, [i]) for i in range(len(tokenizer))]
    last = {text[-1] for text in stop if text}
    wanted = last | ({"\ufffd"} if any(not c.isascii() for c in last) else set())
    return [i for i, text in enumerate(_texts[tokenizer]) if wanted.intersection(text)]


def ends_with(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stop: Sequence[str]) -> bool:
    """Whether one of these texts has been written."""
    text = decode_response(tokenizer, ids)
    return any(s in text for s in stop if s)
