"""Checks of the tokenizer: what begins and ends a sequence, what survives the way to ids and back."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from itertools import takewhile
from typing import Any

from heedful.data.templates import OWN_WORDS
from heedful.data.tokens import (
    decode_response,
    encode_prompt,
    end_token,
    no_room,
    special_ids,
    stop_tokens,
    without_end,
)
from heedful.doctor.context import Context, render
from heedful.doctor.finding import (
    Finding,
    NotApplicable,
    elsewhere,
    failed,
    graded,
    passed,
    quoted,
    share,
    warned,
)
from heedful.doctor.material import texts_of
from heedful.errors import UserError
from heedful.types import Message, Prompt

PLAIN = "The weather is fine today"
PROBES = {  # what: an example
    "capital letters": "Lima is in Peru, isn't it?",
    "digits": "2 + 2 = 4; 1,000.50",
    "a leading space": " one",
    "two spaces": "one  two",
    "a newline": "one\n\ntwo\n",
    "a tab": "def f():\n\treturn 1",
    "spaces before commas": "a , b .",
    "accents": "Zoë née Ångström",
    "a combining accent": "cafe\u0301",
    "Cyrillic": "Привет, мир",
    "Chinese": "你好，世界",
    "an emoji": "👩‍🚀🙂",
}


def end_of_sequence(context: Context) -> Finding:
    """There is an eos token, it is in the vocabulary, and its text is that one id."""
    tok = context.tokenizer
    eos: Any = tok.eos_token_id
    remedy = "set eos_token in tokenizer_config.json to the token that ends a text"
    if eos is None:
        return failed("there is no eos token, so no response could ever end", remedy)
    if eos == tok.unk_token_id and eos not in tok.get_vocab().values():
        return failed(
            f"the eos token {quoted(str(tok.eos_token))} is not in the vocabulary", remedy
        )
    ids = tok(str(tok.eos_token), add_special_tokens=False)["input_ids"]
    if list(ids) != [eos]:
        return failed(
            f"the eos token {quoted(str(tok.eos_token))} (id {eos}) is encoded as {list(ids)[:6]}",
            "add it as a special token: tokenizer.add_special_tokens({'eos_token': …})",
            float(eos),
        )
    return passed(f"responses can end: eos is {quoted(str(tok.eos_token))}, id {eos}", float(eos))


def begin_of_sequence(context: Context) -> Finding:
    """Exactly one BOS, or none, whether a prompt is text or a chat."""
    tok = context.tokenizer
    bos: Any = tok.bos_token_id
    if bos is None:
        return passed("the tokenizer has no BOS token", 0.0)
    name = quoted(str(tok.bos_token))

    def count(ids: list[int]) -> int:
        """At the beginning: a token that opens each turn may be BOS, too (ChatML's, in SmolLM2)."""
        first = takewhile(lambda i: i == bos or not str(tok.decode([i])).strip(), ids)
        return list(first).count(bos)

    counts, written = [count(encode_prompt(tok, PLAIN))], 0
    if tok.chat_template:
        with suppress(UserError):  # told by the checks of the template
            rendered = render(tok, (Message("user", PLAIN),))
            counts.append(count(list(tok(rendered, add_special_tokens=False)["input_ids"])))
            written = count(list(tok(rendered)["input_ids"]))
    most = max(counts)
    if most > 1:
        remedy = "leave the BOS to either the chat template or the tokenizer (add_bos_token=False)"
        return failed(f"{name} begins a prompt {most} times", remedy, float(most))
    if written > 1:
        says = f"both the template and the tokenizer write {name}; heedful keeps one"
        remedy = "nothing here; elsewhere encode rendered chats with add_special_tokens=False"
        return elsewhere(says, remedy, float(written))
    if len(set(counts)) > 1:
        without = "the chat template" if counts[0] else "plain text, too (add_bos_token=True),"
        there = any(isinstance(e.prompt, str) != bool(counts[0]) for e in context.data)
        return (warned if there else elsewhere)(
            f"plain prompts begin with {counts[0]} BOS, chats with {counts[1]}",
            f"if the model was pre-trained with {name}, begin {without} with it",
            float(most),
        )
    return passed(f"a prompt begins with {most} BOS ({name})", float(most))


def vocabulary_fits(context: Context) -> Finding:
    """Every id of the tokenizer has a row in the embedding, and not too many rows have no token."""
    model, tok = context.model, context.tokenizer
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
    vocabulary = tok.get_vocab().values()
    ids, outside = max(vocabulary) + 1, sum(i >= rows for i in vocabulary)
    says = f"{ids:,} ids of the tokenizer, {rows:,} rows of the embedding"
    if outside:
        met: set[int] = set()
        with suppress(NotApplicable):
            met = {t for e in context.encoded for t in e.sample.tokens if t >= rows}
        # Some tokenizer classes bring a token that the model never had; it harms where it is met.
        make = failed if met or outside > 0.01 * ids else warned
        return make(
            f"{says}: {outside:,} ids are out of range, {len(met) or 'none'} of them in your text",
            "model.resize_token_embeddings(len(tokenizer)), or use the model's own tokenizer",
            float(outside),
        )
    if rows > 1.25 * ids + 512:
        return warned(
            f"{says}: is it the tokenizer of this model?",
            "use the tokenizer that the model was trained with",
            float(rows - ids),
        )
    return passed(says, float(rows - ids))


def padding(context: Context) -> Finding:
    """heedful masks by length, so that no pad id matters; other programs need one that is no ordinary token."""
    tok = context.tokenizer
    pad: Any = tok.pad_token_id
    if pad is None:
        return warned(
            "there is no pad token; heedful needs none, transformers does for batches",
            "set pad_token in tokenizer_config.json (eos will do)",
        )
    embedding: Any = context.model.get_input_embeddings()
    if pad >= embedding.weight.shape[0]:
        return failed(
            f"the pad id {pad} is outside the embedding of {embedding.weight.shape[0]:,} rows",
            "set pad_token to a token that the model has, such as eos",
            float(pad),
        )
    if pad in _ends(context) and getattr(embedding, "padding_idx", None) == pad:
        return warned(
            f"the end token is the pad token {quoted(str(tok.pad_token))}: its embedding never learns",
            "set pad_token_id in config.json to null or to a token that is used for nothing else",
            float(pad),
        )
    if pad in _ends(context):
        return passed(
            f"pad and end are the same token (id {pad}); heedful masks by length, so it counts",
            float(pad),
        )
    return passed(f"pad is {quoted(str(tok.pad_token))}, id {pad}, and nothing else", float(pad))


def ends_agree(context: Context) -> Finding:
    """The token that a response is trained to end with stops sampling here and in other programs."""
    tok, model = context.tokenizer, context.model
    _has_eos(context)
    if model.get_output_embeddings() is None:
        raise NotApplicable("a reward model writes nothing")
    ours: set[int] = set()
    for prompt in {isinstance(e.prompt, str): e.prompt for e in context.examples}.values():
        ours |= {end_token(tok, prompt)}
        if end_token(tok, prompt) not in stop_tokens(tok, prompt):
            return failed("sampling does not stop at the end token", "report this as a bug")
    generation: Any = getattr(model, "generation_config", None)
    named = getattr(generation, "eos_token_id", None)
    named = model.config.eos_token_id if named is None else named
    theirs = set(named) if isinstance(named, list | tuple) else {named} - {None}
    names = ", ".join(quoted(str(tok.convert_ids_to_tokens(i))) for i in sorted(ours))
    if missing := sorted(ours - theirs):
        return warned(
            f"responses end with {names}, but generation_config.json stops at {sorted(theirs)}",
            f"add {missing} to eos_token_id there, or other programs will not stop",
            float(len(missing)),
        )
    return passed(f"responses end with {names}, and generation_config.json stops there", 0.0)


def deterministic(context: Context) -> Finding:
    """The same text gives the same ids: no BPE dropout is left on."""
    text = " ".join(PROBES.values())
    kinds = {tuple(context.tokenizer(text)["input_ids"]) for _ in range(8)}
    if len(kinds) > 1:
        return failed(
            f"the same text gave {len(kinds)} different encodings in 8 attempts",
            "switch the tokenizer's dropout off (model.dropout in tokenizer.json)",
            float(len(kinds)),
        )
    return passed("the same text always gives the same ids", 1.0)


def round_trip(context: Context) -> Finding:
    """Spaces, lines, accents and other scripts come back from ids as they were."""
    tok = context.tokenizer
    changed = {
        what: decode_response(tok, list(tok(text, add_special_tokens=False)["input_ids"]))
        for what, text in PROBES.items()
    }
    changed = {what: back for what, back in changed.items() if back != PROBES[what]}
    remedy = "rewards and people will see the changed text; a byte-level tokenizer changes nothing"
    if lost := [
        w for w in changed if PROBES[w].isascii() and _core(PROBES[w]) != _core(changed[w])
    ]:
        return failed(
            f"loses {', '.join(lost)}: {quoted(PROBES[lost[0]])} becomes {quoted(changed[lost[0]])}",
            remedy,
            float(len(changed)),
        )
    if changed:
        return warned(
            f"{len(changed)} of {len(PROBES)} texts come back changed: {', '.join(changed)}",
            remedy,
            float(len(changed)),
        )
    return passed(f"all {len(PROBES)} texts come back as they were: spaces, scripts, emoji", 0.0)


def masked_span(context: Context) -> Finding:
    """What the loss sees decodes to the response and closes with the end token."""
    tok = context.tokenizer
    spaces, lost, example = 0, 0, ""
    cut: list[str] = []
    for e in context.encoded:
        end = end_token(tok, e.prompt)
        if e.written[-1] != end or e.sample.tokens != (*encode_prompt(tok, e.prompt), *e.written):
            return failed(
                f"the mask of {quoted(e.response)} is not the response and its end token",
                "report this as a bug, with the tokenizer",
            )
        # With the ends that stand in its middle: here it is asked what the tokenizer loses.
        back = str(tok.decode(e.written[:-1], clean_up_tokenization_spaces=False))
        said = without_end(tok, e.prompt, e.response)
        if set(stop_tokens(tok, e.prompt)) & set(e.written[:-1]):
            cut.append(e.response)
        if back in (said, said.removeprefix(" ")):
            continue
        if _core(back) == _core(said):
            spaces += 1
        else:
            lost += 1
            example = example or f": {quoted(e.response)} becomes {quoted(back)}"
    total = len(context.encoded)
    remedy = "use a tokenizer that has these characters, or clean such responses"
    if lost:
        make = failed if lost > 0.01 * total else warned
        return make(
            f"{share(lost, total)} responses lose characters{example}", remedy, lost / total
        )
    if cut:  # a warning: what comes before it is learned rightly
        return warned(
            f"the end token stands inside {share(len(cut), total)} responses, such as {quoted(cut[0])}",
            "cut them there: what follows is trained on, though sampling never gets that far",
            len(cut) / total,
        )
    if spaces:
        return warned(
            f"{share(spaces, total)} responses change their spaces, case or accents",
            "the tokenizer normalises; rewards see the changed text",
            spaces / total,
        )
    return passed(f"the loss sees exactly the responses and their ends ({total:,} looked at)", 0.0)


def unknown_tokens(context: Context) -> Finding:
    """How much of the text the tokenizer has no token for."""
    tok = context.tokenizer
    ids = [i for text in texts_of(context.examples) for i in _ids(context, text)]
    unknown = sum(i == tok.unk_token_id for i in ids)
    if tok.unk_token_id is None or tok.unk_token_id == tok.eos_token_id:
        return passed("every text has tokens: there is no unknown token", 0.0)
    return graded(
        f"{share(unknown, len(ids))} tokens of the text are unknown",
        unknown / max(1, len(ids)),
        warn=0.0,
        fail=0.05,
        remedy="use a tokenizer that knows the characters of your data",
    )


def characters_per_token(context: Context) -> Finding:
    """Text that is spelt out in bytes is a sign of a tokenizer for other languages."""
    texts = [t for t in texts_of(context.examples) if t]
    ids = [i for text in texts for i in _ids(context, text)]
    if not ids:
        raise NotApplicable("no text")
    names = context.tokenizer.convert_ids_to_tokens(ids)
    bytes_ = sum(str(n).startswith("<0x") and str(n).endswith(">") for n in names)
    rate = sum(map(len, texts)) / len(ids)
    says = f"{rate:.1f} characters a token, {share(bytes_, len(ids))} tokens are single bytes"
    if rate < 1 or bytes_ > 0.2 * len(ids):
        return warned(
            says,
            "the tokenizer spells your text; a model for its language would be faster and better",
            rate,
        )
    return passed(says, rate)


def control_tokens_in_text(context: Context) -> Finding:
    """A system's or assistant's turn that holds a control token means it.

    What users and tools say is text in any case; special tokens in responses are what is to be learned, but for ends,
    which `masked_span` finds.
    """
    tok = context.tokenizer
    special = set(special_ids(tok))
    if tok.unk_token_id != tok.eos_token_id:
        special.discard(tok.unk_token_id)
    chats = [e.prompt for e in context.examples if not isinstance(e.prompt, str)]
    texts = [m.content for chat in chats for m in chat if m.role in OWN_WORDS]
    hits = [held for text in texts if (held := special & set(_ids(context, text)))]
    if not hits:
        return passed(f"none of {len(texts):,} such turns holds the name of a control token", 0.0)
    name = tok.convert_ids_to_tokens(min(hits[0]))
    return warned(
        f"{share(len(hits), len(texts))} turns in prompts hold a control token, such as {quoted(str(name))}",
        "remove it from the text: it ends or begins turns in the middle of one",
        len(hits) / len(texts),
    )


def border(context: Context) -> Finding:
    """Prompt and response are encoded apart, so the prompt must not end in the middle of a word or in a space."""
    tok = context.tokenizer
    apart, total, example = 0, 0, ""
    for e in context.encoded:
        if isinstance(e.prompt, str):
            total += 1
            joined = list(tok(e.prompt + e.response, add_special_tokens=False)["input_ids"])
            before = list(tok(e.prompt, add_special_tokens=False)["input_ids"])
            if joined[: len(before)] != before:
                apart += 1
                example = example or f", as {quoted(e.prompt[-12:])} + {quoted(e.response[:12])}"
    if not total:
        raise NotApplicable("all prompts are chats, which end with a control token")
    return graded(
        f"{share(apart, total)} prompts would melt into the response{example}",
        apart / total,
        warn=0.0,
        remedy="end prompts at a word's end, and begin the response with the space",
    )


def prompts_fit(context: Context) -> Finding:
    """Every prompt leaves room for max_tokens."""
    tok, window, most = context.tokenizer, context.window, context.max_tokens

    def reason(prompt: Prompt) -> str | None:
        length = len(encode_prompt(tok, prompt))
        said = no_room(prompt, length, 1, context.limit)
        return said or no_room(prompt, length, most, window)

    reasons, total = context.without_room(reason)
    such = f", the first: {reasons[0]}" if reasons else ""
    return graded(
        f"{share(len(reasons), total)} prompts leave no room for {most} tokens in {window:,}{such}",
        len(reasons) / max(1, total),
        warn=0.0,
        fail=0.0,
        remedy="lower --max-tokens, mend them, or train with --on-bad-row drop or cut",
    )


def _ids(context: Context, text: str) -> list[int]:
    return list(context.tokenizer(text, add_special_tokens=False)["input_ids"])


def _core(text: str) -> str:
    """The characters themselves, without spaces, accents and case, which some tokenizers do away with on purpose."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if not c.isspace() and not unicodedata.combining(c))


def _has_eos(context: Context) -> None:
    if context.tokenizer.eos_token_id is None:
        raise NotApplicable("the tokenizer has no eos token")


def _ends(context: Context) -> set[int]:
    """The ids that end the responses of the examples."""
    _has_eos(context)
    kinds = {isinstance(e.prompt, str): e.prompt for e in context.examples}
    return {end_token(context.tokenizer, prompt) for prompt in kinds.values()}
