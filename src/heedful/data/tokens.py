"""Text → token ids. Prompt and response meet as ids.

Their joined text is never encoded, and sampled ids are never decoded and encoded again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from heedful.data.templates import conversation_text, opening_ids, render
from heedful.errors import UserError
from heedful.types import Demonstration, Message, Prompt, Sample

_PREFILLED = re.compile(r"<think>\s*(?:</think>\s*)?\Z")

_ends: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, ...]] = WeakKeyDictionary()
# By the template as well, which users replace: its text and the id that closes its turns.
_chat_ends: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, int]] = WeakKeyDictionary()
_spaces: WeakKeyDictionary[PreTrainedTokenizerBase, bool] = WeakKeyDictionary()
_unseen: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, frozenset[int]]] = (
    WeakKeyDictionary()
)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """Ids of a prompt, ready for the response to follow. BOS once, if the tokenizer has the habit; no EOS behind it.

    Nothing at all, which is how a model writes unconditionally, begins with `start_id`.
    """
    if isinstance(prompt, str):
        ids = list(tokenizer(prompt)["input_ids"])
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
    else:
        ids = opening_ids(tokenizer, prompt)
    return one_bos(tokenizer, ids) or [start_id(tokenizer)]


def start_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What stands before a text that follows nothing: BOS or, in a tokenizer without one, EOS, which stands between the
    documents that models are pre-trained on."""
    bos: Any = tokenizer.bos_token_id
    return eos_id(tokenizer) if bos is None else int(bos)


def one_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Without the second BOS that a template and a tokenizer write between them."""
    bos = tokenizer.bos_token_id
    if bos is not None:
        while len(ids) > 1 and ids[0] == ids[1] == bos:
            del ids[0]
    return ids


def end_token(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> int:
    """The id that ends a response: eos after plain text, in a chat what the template puts behind a turn."""
    eos = eos_id(tokenizer)
    if isinstance(prompt, str):
        return eos
    template, token = _chat_ends.get(tokenizer, (None, eos))
    if template is None or template != tokenizer.chat_template:
        token = _chat_end(tokenizer, eos)
        _chat_ends[tokenizer] = (tokenizer.chat_template, token)
    return token


def _chat_end(tokenizer: PreTrainedTokenizerBase, eos: int) -> int:
    """The first special token behind an answer that the template renders.

    Its place is found in the text: a generation prompt may say more than the finished exchange does
    (such as an empty thought), so its length is no guide. `all_special_ids` leaves out what is special
    only among the added tokens, as `<|end|>` of Phi-3 is.
    """
    answer = "heedful"
    exchange = (Message("user", "?"), Message("assistant", answer))
    _, _, tail = render(tokenizer, exchange, tokenize=False).rpartition(answer)
    special = special_ids(tokenizer)
    behind = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    return next((t for t in behind if t in special), eos)


def stop_tokens(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> tuple[int, ...]:
    """Ids at which sampling stops: the end of a response, eos, and every other end that the model's folder names."""
    known = _ends.get(tokenizer, ())
    return tuple(dict.fromkeys((end_token(tokenizer, prompt), eos_id(tokenizer), *known)))


def remember_ends(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> None:
    """These end responses too, where they are control tokens: an id may be left over from another tokenizer."""
    special = special_ids(tokenizer)
    _ends[tokenizer] = tuple(i for i in ids if i in special)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of control tokens, those included that are special only among the added tokens."""
    added: Any = tokenizer.added_tokens_decoder
    mapped: Any = tokenizer.all_special_ids
    return {*mapped, *(i for i, token in added.items() if token.special)}


def all_stop_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids at which sampling stops after any prompt, plain or, where the tokenizer has a template, in a chat."""
    if not tokenizer.chat_template:
        return stop_tokens(tokenizer, "")
    try:
        return stop_tokens(tokenizer, (Message("user", "?"),))
    except UserError:  # a template that renders nothing has not been trained with
        return stop_tokens(tokenizer, "")


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end-of-sequence id; `models.load_tokenizer` has made sure that there is one."""
    eos: Any = tokenizer.eos_token_id
    return int(eos)


def encode_response(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, text: str, *, ended: bool = True
) -> list[int]:
    """Ids of a response; `ended` adds the end token, which a truncated response must not get.

    Special tokens in it are such: what is to be learned may be to write `<think>`. An end that stands behind the text
    already is not written twice.
    """
    if isinstance(prompt, str) and text.startswith(" ") and _prepends_space(tokenizer):
        text = text[1:]
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ended:
        return ids
    ends = stop_tokens(tokenizer, prompt)
    return [*(ids[:-1] if ids and ids[-1] in ends else ids), ends[0]]


def without_end(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, text: str) -> str:
    """A response's text without an end that stands behind it already, whichever: `encode_response` writes one."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids or ids[-1] not in stop_tokens(tokenizer, prompt):
        return text
    before, end, _ = text.rpartition(str(tokenizer.convert_ids_to_tokens(ids[-1])))
    return before if end else text


def _prepends_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Older SentencePiece tokenizers write a space before every text, also before one that has its own."""
    known = _spaces.get(tokenizer)
    if known is None:
        bare, spaced = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("x", " x"))
        first = str(tokenizer.convert_ids_to_tokens(bare[0]))
        known = _spaces[tokenizer] = first.startswith("▁") and bare != spaced
    return known


def encode_example(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    response: str,
    *,
    ended: bool = True,
    max_length: int | None = None,
) -> Sample:
    """Prompt and response as one sequence, masked on the response; what is too long loses its end and end token."""
    return encode_group(tokenizer, prompt, [response], ended=[ended], max_length=max_length)[0]


def encode_group(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    responses: Sequence[str],
    *,
    ended: Sequence[bool] | None = None,
    max_length: int | None = None,
) -> list[Sample]:
    """Several responses to one prompt, which is encoded once; each as `encode_example` has it."""
    before = encode_prompt(tokenizer, prompt)
    if max_length is not None and (reason := no_room(prompt, len(before), 1, max_length)):
        raise UserError(reason)
    samples = []
    for response, end in zip(responses, ended or [True] * len(responses), strict=True):
        after = encode_response(tokenizer, prompt, response, ended=end)
        if max_length is not None and len(before) + len(after) > max_length:
            after, end = after[: max_length - len(before)], False
        samples.append(
            Sample(
                tokens=(*before, *after),
                mask=(False,) * len(before) + (True,) * len(after),
                logprobs=(0.0,) * (len(before) + len(after)),
                stop_reason="stop" if end else "length",
            )
        )
    return samples


def encode_demonstration(
    tokenizer: PreTrainedTokenizerBase, shown: Demonstration, *, max_length: int | None = None
) -> Sample:
    """A demonstration as `encode_example` has it; calls of tools are written by the chat template."""
    text = as_written(tokenizer, shown)
    return encode_example(tokenizer, shown.prompt, text, ended=shown.ended, max_length=max_length)


def as_written(tokenizer: PreTrainedTokenizerBase, shown: Demonstration) -> str:
    """What the policy would write; of an answer that calls tools what the template does, without its end."""
    if not shown.tool_calls:
        return shown.completion
    if isinstance(shown.prompt, str):
        raise UserError("an answer that calls tools needs a conversation as its prompt")
    said = Message("assistant", shown.completion, shown.tool_calls)
    before = conversation_text(tokenizer, shown.prompt)
    whole = render(tokenizer, (*shown.prompt, said), tokenize=False)
    if not whole.startswith(before):
        raise UserError(
            "the chat template opens a turn otherwise than it writes one that calls tools, so that the model "
            f"would not learn to write it: {excerpt(shown.prompt)!r}"
        )
    end = str(tokenizer.convert_ids_to_tokens(end_token(tokenizer, shown.prompt)))
    text, found, _ = whole[len(before) :].rpartition(end)
    return text if found else whole[len(before) :]


def decode_response(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """The text of response ids, special tokens too, but for those that end it; without tidying spaces."""
    unseen = _ends_and_fillers(tokenizer)
    text = tokenizer.decode(
        [t for t in tokens if t not in unseen],
        skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )
    return text if isinstance(text, str) else "".join(text)


def prefilled(tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> str:
    """What a prompt has written of the response already: a thought that a chat template opens, or opens and closes."""
    text = tokenizer.decode(list(prompt_ids[-24:]), clean_up_tokenization_spaces=False)
    match = _PREFILLED.search(text if isinstance(text, str) else "".join(text))
    return match[0].lstrip() if match else ""


def _ends_and_fillers(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that are no part of what was said: ends, and what stands before and behind sequences."""
    template, ids = _unseen.get(tokenizer, ("", frozenset[int]()))
    if not ids or template != tokenizer.chat_template:
        outer: Any = (tokenizer.bos_token_id, tokenizer.pad_token_id)
        ids = frozenset((*all_stop_tokens(tokenizer), *(i for i in outer if i is not None)))
        _unseen[tokenizer] = (tokenizer.chat_template, ids)
    return ids


def no_room(prompt: Prompt, length: int, wanted: int, limit: int, whose: str = "") -> str | None:
    """Why a prompt of `length` tokens leaves no room for so many more within `limit`; None where it does."""
    if length + wanted <= limit:
        return None
    response = "a response" if wanted == 1 else f"{wanted} more"
    return (
        f"a prompt of {length} tokens leaves no room for {response} within {limit} tokens{whose}: "
        f"{excerpt(prompt)!r}"
    )


def excerpt(prompt: Prompt) -> str:
    """The beginning of a prompt, or of a conversation's last turn, for a message."""
    text = prompt if isinstance(prompt, str) else prompt[-1].content
    return text[:60] + ("…" if len(text) > 60 else "")
