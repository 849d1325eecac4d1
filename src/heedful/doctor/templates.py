"""Checks of the chat template: what it adds, what it takes away, and whether training sees what sampling sees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from transformers.utils import chat_template_utils

from heedful.data.templates import controls
from heedful.data.tokens import encode_example, encode_prompt, end_token
from heedful.data.turns import continuation
from heedful.doctor.context import Context, render
from heedful.doctor.finding import (
    Finding,
    NotApplicable,
    elsewhere,
    failed,
    passed,
    quoted,
    share,
    warned,
)
from heedful.errors import UserError
from heedful.types import Message

ASK, ANSWER, AGAIN = "What is an aardvark?", "A bergamot.", "And a cormorant?"
RULE = "Speak like a dulcimer."
USER, ASSISTANT = Message("user", ASK), Message("assistant", ANSWER)
NOON = datetime(2031, 3, 7, 12, 0)
DATE = re.compile(
    r"\b\d{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w* (?:19|20)\d\d\b"
    r"|\b(?:19|20)\d\d-\d\d-\d\d\b"
)


def renders(context: Context) -> Finding:
    """Every conversation of the data can be rendered."""
    chats = [e.prompt for e in context.examples if not isinstance(e.prompt, str)]
    if not context.tokenizer.chat_template:
        if chats:
            return failed(
                f"no chat template, but {share(len(chats), len(context.examples))} prompts are chats",
                "add a chat_template to the tokenizer, or use plain-text prompts",
                float(len(chats)),
            )
        raise NotApplicable("no chat template, and no chats that need one")
    refused, reason = 0, ""
    for chat in chats or [(USER,)]:
        try:
            encode_prompt(context.tokenizer, chat)
        except UserError as error:
            refused, reason = refused + 1, reason or str(error)
    if refused:
        return failed(
            f"{share(refused, len(chats) or 1)} chats are refused: {reason}",
            "give the turns the order and roles that the template wants, or change the template",
            float(refused),
        )
    return passed(f"renders all {len(chats) or 1:,} conversations looked at", 0.0)


def plain_prompts(context: Context) -> Finding:
    """What is asked of an assistant goes through the chat template; a prompt that is a text is continued without it."""
    if not context.tokenizer.chat_template:
        raise NotApplicable("no chat template")
    total = len(context.data)
    plain = sum(_asks(e.prompt, e.responses) for e in context.data if isinstance(e.prompt, str))
    says = f"{share(plain, total)} prompts ask in plain text, which is continued without the chat template"
    if 2 * plain > total:
        remedy = "--columns question=prompt makes each a user's turn"
        return warned(says, remedy, float(plain))
    return passed(says, float(plain))


def _asks(prompt: str, responses: Sequence[str]) -> bool:
    """Whether a text is answered, not continued: it would run together with its responses, is a question, or, where
    there are no responses to see, ends a sentence."""
    if prompt != prompt.rstrip():
        return prompt.rstrip().endswith("?")
    if not responses:
        return prompt.endswith(("?", ".", "!"))
    return all(response == response.lstrip() for response in responses)


def end_of_turn(context: Context) -> Finding:
    """A control token closes an answer, so that the response can be trained to end with it."""
    tok = context.tokenizer
    text = _rendered(context, USER, ASSISTANT)
    end = end_token(tok, (USER,))
    name = quoted(str(tok.convert_ids_to_tokens(end)))
    behind = text.rpartition(ANSWER)[2]
    if str(tok.convert_ids_to_tokens(end)) not in behind:
        return warned(
            f"no control token closes an answer, only {quoted(behind)}; heedful ends it with {name}",
            "let the template write eos_token behind the assistant's turns",
            0.0,
        )
    return passed(f"{name} closes an answer, in the template as in training", 1.0)


def clock(context: Context) -> Finding:
    """Neither today's date nor the time is in a prompt, and two renderings are equal."""
    texts = []
    for minutes in (0, 1, 24 * 60, 367 * 24 * 60):
        with _clock_at(NOON + timedelta(minutes=minutes)):
            texts.append(_rendered(context, USER))
    now, next_minute, tomorrow, next_year = texts
    remedy = "write a fixed text in its place, before the first run; else no run can be repeated"
    with _clock_at(NOON):
        kinds = {_rendered(context, USER) for _ in range(5)}
    if len(kinds) > 1:
        return failed(
            f"the template renders the same turn in {len(kinds)} ways in 5 attempts",
            "take what is random out of the template",
            float(len(kinds)),
        )
    if now != next_minute:
        return failed(
            f"the template writes the time of day: {_difference(now, next_minute)}", remedy, 1.0
        )
    if now != tomorrow or now != next_year:
        other = tomorrow if now != tomorrow else next_year
        return warned(f"the template writes today's date: {_difference(now, other)}", remedy, 1.0)
    if found := DATE.search(now):
        return warned(
            f"the template says that it is {quoted(found[0])}, always",
            "harmless where the model was trained so; otherwise take it out of the template",
            1.0,
        )
    return passed("writes no date and no time, and always the same", 0.0)


def training_is_generation(context: Context) -> Finding:
    """What is trained on is token for token what the template makes of the whole conversation."""
    tok = context.tokenizer
    prompt = (USER,)
    closed = _rendered(context, USER)
    opened = _rendered(context, USER, generate=True)
    text = _rendered(context, USER, ASSISTANT)
    whole = list(tok(text, add_special_tokens=False)["input_ids"])
    ours = list(encode_example(tok, prompt, ANSWER).tokens)
    if len(whole) > 1 and whole[0] == whole[1] == tok.bos_token_id:
        del whole[0]
    if whole[: len(ours)] == ours:
        return passed(f"prompt, response and end are the template's own {len(ours)} tokens", 0.0)
    position = next(
        i for i, (a, b) in enumerate(zip([*ours, -1], [*whole, -2], strict=False)) if a != b
    )
    ids = ours[position:], whole[position:]
    says, others = (quoted(_text(context, part)) for part in ids)
    if says == others:  # the same text in other tokens
        says, others = (str(tok.convert_ids_to_tokens(part[:4])) for part in ids)
    # `[/INST]` of Llama 2 and Mistral ends the user's turn: there is no header to open another one with.
    header = text.removeprefix(opened).partition(ANSWER)[0]
    if opened == closed and text.startswith(opened) and header.strip():
        return failed(
            f"ignores add_generation_prompt: {quoted(header)} is missing before the response",
            "end the template with {% if add_generation_prompt %}… the assistant's header",
            float(position),
        )
    return warned(
        f"differs from token {position + 1} on: trained on {says}, the template has {others}",
        "a turn looks different once it is history; make the template write both alike",
        float(position),
    )


def system_message(context: Context) -> Finding:
    """The system message reaches the model."""
    uses = sum("system" in roles for roles in context.roles)
    has = f"{uses} of your chats have one" if context.roles else "there are no chats in DATA"
    make, remedy = _severity(uses), "put these words into the first user's turn, or the template"
    try:
        text = render(_with_template(context), (Message("system", RULE), USER), generate=True)
    except UserError as error:
        return make(f"refuses a system message ({error}); {has}", remedy, float(uses))
    if RULE not in text:
        return make(f"drops the system message; {has}", remedy, float(uses))
    return passed("keeps the system message", 0.0)


def consecutive_turns(context: Context) -> Finding:
    """Two turns of the user in a row, as people write them."""
    found = [any(a == b for a, b in pairwise(r)) for r in context.roles]
    has = f"{sum(found)} of your chats have them" if found else "there are no chats in DATA"
    try:
        text = render(_with_template(context), (USER, Message("user", AGAIN)), generate=True)
    except UserError as error:
        return _severity(sum(found), nothing=passed)(
            f"refuses two user's turns in a row ({error}); {has}",
            "join such turns into one",
            float(sum(found)),
        )
    if ASK not in text or AGAIN not in text:
        return _severity(sum(found))(
            f"drops one of two user's turns in a row; {has}",
            "join such turns into one",
            float(sum(found)),
        )
    return passed("keeps two user's turns in a row", 0.0)


def earlier_turns(context: Context) -> Finding:
    """The conversation so far is there, in its order and once."""
    text = _rendered(context, USER, ASSISTANT, Message("user", AGAIN), generate=True)
    missing = [t for t in (ASK, ANSWER, AGAIN) if t not in text]
    make = _severity(sum(len(roles) > 2 for roles in context.roles))
    if missing:
        return make(
            f"{len(missing)} of 3 turns are missing, the first {quoted(missing[0])}",
            "let the template write every message",
            float(len(missing)),
        )
    places = [text.index(t) for t in (ASK, ANSWER, AGAIN)]
    repeated = sum(text.count(t) > 1 for t in (ASK, ANSWER, AGAIN))
    if places != sorted(places) or repeated:
        return make(
            f"turns change their order or are repeated ({repeated} of 3)",
            "let the template write every message once, in order",
            float(repeated),
        )
    return passed("keeps all earlier turns, in order", 0.0)


def speakers(context: Context) -> Finding:
    """Who speaks makes a difference."""
    mine = _rendered(context, USER, ASSISTANT, Message("user", AGAIN))
    blind = mine.replace(ASK, "•").replace(ANSWER, "•").replace(AGAIN, "•").split("•")
    if len(blind) == 4 and blind[1] == blind[2]:
        return warned(
            f"the user's and the assistant's turns begin alike, with {quoted(blind[1])}",
            "let the template write the role before each turn",
            0.0,
        )
    return passed("tells the user's turns from the assistant's", 1.0)


def spaces(context: Context) -> Finding:
    """Indentation and empty lines of a turn stay."""
    content = "  first\n\n    second \n"
    text = _rendered(context, Message("user", content), generate=True)
    if content not in text:
        said = [
            m.content for e in context.examples if not isinstance(e.prompt, str) for m in e.prompt
        ]
        make = warned if any(words != words.strip() for words in said) else elsewhere
        return make(
            "strips the spaces or lines around a turn",
            "take the trim out of the template if indentation matters to your task",
            1.0,
        )
    return passed("leaves the spaces and lines of a turn as they are", 0.0)


def thoughts(context: Context) -> Finding:
    """What an assistant thought in an earlier turn is still there."""
    thinking = Message("assistant", f"<think>\nIt is a quince.\n</think>\n\n{ANSWER}")
    text = _rendered(context, USER, thinking, Message("user", AGAIN), generate=True)
    if "quince" not in text:
        make = warned if any(len(roles) > 2 for roles in context.roles) else elsewhere
        return make(
            "drops <think> parts of earlier turns: sampled history is not what was written",
            "train on the last turn only, or keep the thoughts in the template",
            1.0,
        )
    return passed("keeps the thoughts in earlier turns", 0.0)


def later_turns(context: Context) -> Finding:
    """Behind an answer comes what the template writes next, and the answer stays: episodes of several turns need it."""
    tok = _with_template(context)
    text = _rendered(context, USER, generate=True) + ANSWER
    talk = (USER, ASSISTANT, Message("user", AGAIN))
    _rendered(context, *talk, generate=True)
    between = continuation(tok, text, talk, 1, last=end_token(tok, (USER,)))
    if between is None:
        return warned(
            "writes an answer anew once it is history: each turn of an episode becomes a sample of its own",
            "let the template write an answer as it was generated, header and all",
            0.0,
        )
    if not controls(tok).intersection(between.ids):
        return warned(
            f"no control token stands between turns, only {quoted(_text(context, between.ids))}: what "
            "is heard can pretend to be a turn",
            "let the template open its turns with special tokens",
            float(len(between.ids)),
        )
    return passed("keeps an answer as it was generated, and adds what comes between turns", 1.0)


@contextmanager
def _clock_at(moment: datetime) -> Iterator[None]:
    """Templates know the time from `strftime_now`, which asks the `datetime` of this module of transformers."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    chat_template_utils.datetime = Clock  # type: ignore[assignment]
    try:
        yield
    finally:
        chat_template_utils.datetime = datetime


def _with_template(context: Context):
    """The tokenizer, once it is known to render a single turn at all."""
    tokenizer, _ = context.tokenizer, context.template
    try:
        render(tokenizer, (USER,))
    except UserError:
        raise NotApplicable("the template refuses a single turn of the user") from None
    return tokenizer


def _rendered(context: Context, *messages: Message, **options: Any) -> str:
    """Text of turns; whether the template refuses them is the business of other checks."""
    tokenizer = _with_template(context)
    try:
        return render(tokenizer, messages, **options)
    except UserError as error:
        raise NotApplicable(f"the template refuses such turns: {error}") from None


def _severity(uses: int, nothing: Callable[..., Finding] = elsewhere) -> Callable[..., Finding]:
    """A failure where the data needs it; `nothing` where it does not."""
    if not uses and nothing is passed:
        return lambda says, remedy, measured: passed(says, measured)
    return failed if uses else nothing


def _difference(a: str, b: str) -> str:
    """What stands where two texts differ, widened to whole words."""
    position = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    start = max((a.rfind(s, 0, position) for s in (" ", "\n", ">")), default=-1) + 1
    return f"{quoted(re.split(r'[<]|$', a[start : start + 24])[0])}"


def _text(context: Context, ids: list[int]) -> str:
    text = context.tokenizer.decode(ids[:12], skip_special_tokens=False)
    return text if isinstance(text, str) else "".join(text)
