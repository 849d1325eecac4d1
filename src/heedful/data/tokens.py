"""Text → token ids. Prompt and response meet as ids.

Their joined text is never encoded, and sampled ids are never decoded and encoded again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from heedful.errors import UserError
from heedful.types import Message, Prompt, Sample

_PREFILLED = re.compile(r"<think>\s*(?:</think>\s*)?\Z")

# By the template as well, which users replace: its text and the id that closes its turns.
_chat_ends: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, int]] = WeakKeyDictionary()


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """Ids of a prompt, ready for the response to follow. BOS once, if the tokenizer has the habit; never EOS."""
    if isinstance(prompt, str):
        ids = list(tokenizer(prompt)["input_ids"])
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
    else:
        messages = [as_turn(m) for m in prompt]
        ids = list(render(tokenizer, messages, add_generation_prompt=True))
    ids = one_bos(tokenizer, ids)
    if not ids:
        raise UserError(
            "an empty prompt has no token that a response could follow, as this tokenizer adds no BOS"
        )
    return ids


def one_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Without the second BOS that a template and a tokenizer write between them."""
    bos = tokenizer.bos_token_id
    if bos is not None:
        while len(ids) > 1 and ids[0] == ids[1] == bos:
            del ids[0]
    return ids


def as_turn(message: Message) -> dict[str, Any]:
    """A message as chat templates take it."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [dict(call) for call in message.tool_calls]
    optional = {"name": message.name, "tool_call_id": message.tool_call_id}
    return turn | {key: value for key, value in optional.items() if value is not None}


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
    exchange = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    _, _, tail = render(tokenizer, exchange, tokenize=False).rpartition(answer)
    added: Any = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(i for i, t in added.items() if t.special)}
    behind = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    return next((t for t in behind if t in special), eos)


def stop_tokens(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> tuple[int, ...]:
    """Ids at which sampling stops: the end of a response, and eos."""
    return tuple(dict.fromkeys((end_token(tokenizer, prompt), eos_id(tokenizer))))


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
    """Ids of a response; `ended` adds the end token, which a truncated response must not get."""
    if isinstance(prompt, str) and text.startswith(" ") and _prepends_space(tokenizer):
        text = text[1:]
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return [*ids, end_token(tokenizer, prompt)] if ended else ids


def _prepends_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Older SentencePiece tokenizers write a space before every text, also before one that has its own."""
    bare, spaced = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("x", " x"))
    return str(tokenizer.convert_ids_to_tokens(bare[0])).startswith("▁") and bare != spaced


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
    if max_length is not None and len(before) >= max_length:
        raise UserError(
            f"a prompt of {len(before)} tokens leaves no room for a response within {max_length} tokens: "
            f"{_shown(prompt)!r}"
        )
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


def decode_response(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """The text of response ids, without special tokens and without tidying spaces."""
    text = tokenizer.decode(
        list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text if isinstance(text, str) else "".join(text)


def prefilled(tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> str:
    """What a prompt has written of the response already: a thought that a chat template opens, or opens and closes."""
    text = tokenizer.decode(list(prompt_ids[-24:]), clean_up_tokenization_spaces=False)
    match = _PREFILLED.search(text if isinstance(text, str) else "".join(text))
    return match[0].lstrip() if match else ""


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, Any]],
    *,
    add_generation_prompt: bool = False,
    tokenize: bool = True,
    tools: Sequence[Any] = (),
) -> Any:
    """What the chat template makes of turns: ids, or the text where `tokenize` is False. `UserError` if it refuses."""
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template, and the "
            "data is conversational; use plain-text prompts or add a chat_template to the tokenizer"
        )
    try:
        return tokenizer.apply_chat_template(  # a dict is what transformers 5 returns by default
            messages,
            tools=list(tools) or None,
            tokenize=tokenize,
            add_generation_prompt=add_generation_prompt,
            return_dict=False,
        )
    except Exception as error:  # jinja2 errors, raised by the template itself
        reason = " ".join(str(error).split())
        roles = ", ".join(m["role"] for m in messages)
        raise UserError(f"the chat template refuses turns of roles {roles}: {reason}") from error


def _shown(prompt: Prompt) -> str:
    text = prompt if isinstance(prompt, str) else prompt[-1].content
    return text[:60] + ("…" if len(text) > 60 else "")
