"""Text → ids: where prompt and response meet, what begins and what ends a sequence."""

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tiny
from heedful.data.tokens import (
    decode_response,
    encode_demonstration,
    encode_example,
    encode_prompt,
    encode_response,
    end_token,
    eos_id,
    remember_ends,
    stop_tokens,
    without_end,
)
from heedful.errors import UserError
from heedful.types import Demonstration, Message

CHAT = (Message("system", "Be brief."), Message("user", "What is 2 + 2?"))
BPE = tiny.tokenizer()
TURNS = "{% for m in messages %}<|{{m['role']}}|>{{ m['content'] }}<|fin|>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
# Thinking models: the generation prompt says more than a finished exchange does.
THINK = OPEN.replace("<|assistant|>", "<|assistant|>a thought that is not thought</think>")


def chat_tokenizer(template: str, **options) -> PreTrainedTokenizerFast:
    """`<|fin|>` closes turns, yet stands only among the added tokens, not in the map of special tokens."""
    core = Tokenizer.from_str(BPE.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    core.add_special_tokens([AddedToken("<|fin|>", special=True, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", chat_template=template, **options
    )


def spaced_tokenizer(style: str) -> PreTrainedTokenizerFast:
    """SentencePiece's ways to write a space before a text: as a normalizer (older), as Metaspace."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    if style == "older":
        core.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=style)
        core.decoder = decoders.Metaspace(prepend_scheme=style)
    core.train_from_iterator(
        tiny.TEXT * 4,
        trainers.BpeTrainer(
            vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
        ),
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def written(sample) -> list[int]:
    return [t for t, m in zip(sample.tokens, sample.mask, strict=True) if m]


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=60)
@given(prompt=WORDS, response=WORDS)
def test_masked_span_is_the_response(prompt, response):
    """Mutation caught: encoding the joined text, where BPE merges across the seam; a mask off by one."""
    for asked in (prompt, (Message("user", prompt),)):
        sample = encode_example(BPE, asked, response)
        assert decode_response(BPE, written(sample)) == response
        assert list(sample.tokens) == encode_prompt(BPE, asked) + written(sample)
        assert written(sample)[-1] == end_token(BPE, asked)
        assert len(sample.tokens) == len(sample.mask) == len(sample.logprobs)
        assert set(sample.logprobs) == {0.0} and sample.stop_reason == "stop"


@pytest.mark.parametrize(
    "text", ["a , b .", " leading", "trailing \n", "do n't  ", "שלום \u202e!", "🙂"]
)
def test_spaces_are_not_tidied(text):
    """Mutation caught: `clean_up_tokenization_spaces`, which turns "a ," into "a,"."""
    assert decode_response(BPE, encode_response(BPE, CHAT, text)) == text


@pytest.mark.parametrize("adds_by_itself", [True, False])
@pytest.mark.parametrize("writes", ["<s>", ""])
def test_bos_once_or_as_the_template_says(adds_by_itself, writes):
    """Mutation caught: a second BOS before a rendered chat; the template's wish for none ignored."""
    tok = spaced_tokenizer("first")
    if not adds_by_itself:
        tok.backend_tokenizer.post_processor = processors.Sequence([])
    tok.chat_template = writes + TURNS + OPEN
    ids = encode_prompt(tok, CHAT)
    assert ids.count(1) == len(writes) // 3 and (ids[0] == 1) == bool(writes)
    assert encode_prompt(tok, "The").count(1) == adds_by_itself
    assert encode_response(tok, "The", "end").count(1) == 0
    assert encode_example(tok, CHAT, "Four").tokens.count(1) == len(writes) // 3


def test_a_plain_prompt_never_ends_with_eos():
    """Mutation caught: the tokenizer's own EOS left between prompt and response."""
    tok = spaced_tokenizer("first")
    tok.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert 2 not in encode_prompt(tok, "The capital")
    assert encode_example(tok, "The capital", "of").tokens.count(2) == 1


@pytest.mark.parametrize("opening", [OPEN, THINK], ids=["plain", "thinking"])
@pytest.mark.parametrize("reloaded", [False, True])
def test_a_chat_ends_as_the_template_ends_it(opening, reloaded, tmp_path):
    """Mutation caught: only `all_special_ids` asked (Phi-3's `<|end|>` is not in it), so eos ends chats;
    the end looked for behind the generation prompt's length, which is too far where that prompt thinks."""
    tok = chat_tokenizer(TURNS + opening)
    if reloaded:
        tok.save_pretrained(tmp_path)
        tok = AutoTokenizer.from_pretrained(tmp_path)
    fin = tok.convert_tokens_to_ids("<|fin|>")
    assert end_token(tok, CHAT) == fin
    assert end_token(tok, "plain") == eos_id(tok) != fin
    assert stop_tokens(tok, CHAT) == (fin, eos_id(tok))
    assert stop_tokens(tok, "plain") == (eos_id(tok),)
    assert encode_response(tok, CHAT, "Four")[-1] == fin
    assert encode_response(tok, CHAT, "Four", ended=False)[-1] != fin


def test_the_end_follows_the_template():
    """Mutation caught: an end token cached for a tokenizer whose template was replaced."""
    tok = chat_tokenizer(TURNS + OPEN)
    fin = end_token(tok, CHAT)
    tok.chat_template = TURNS.replace("<|fin|>", "<|end|>") + OPEN
    assert end_token(tok, CHAT) == eos_id(tok) != fin
    tok.chat_template = TURNS.replace("<|fin|>", "") + OPEN
    assert end_token(tok, CHAT) == eos_id(tok)


@pytest.mark.parametrize("style", ["first", "always", "older"])
@pytest.mark.parametrize("text", ["Paris", " Paris", " of course"])
def test_one_space_between_prompt_and_response(style, text):
    """A response with its own leading space gets no second one from the tokenizer's habit.

    Mutation caught: " Paris" as ▁▁Paris, which no pre-training text holds.
    """
    tok = spaced_tokenizer(style)
    prompt = "The capital of France is"
    ids = encode_response(tok, prompt, text, ended=False)
    whole = encode_prompt(tok, prompt) + ids
    assert decode_response(tok, whole) == f"{prompt} {text.strip()}"
    assert encode_response(tok, prompt, decode_response(tok, ids), ended=False) == ids


def test_too_long_loses_its_end():
    """Mutation caught: a made-up end token behind a cut; the prompt cut in place of the response."""
    whole = encode_example(BPE, CHAT, "Four, of course!")
    start = whole.mask.index(True)
    for limit in range(start + 1, len(whole.tokens)):
        cut = encode_example(BPE, CHAT, "Four, of course!", max_length=limit)
        assert cut.tokens == whole.tokens[:limit] and cut.mask == whole.mask[:limit]
        assert cut.stop_reason == "length" and cut.tokens[-1] != eos_id(BPE)
    assert encode_example(BPE, CHAT, "Four, of course!", max_length=len(whole.tokens)) == whole
    for limit in (0, 1, start):
        with pytest.raises(
            UserError, match=f"prompt of {start} tokens .* within {limit} tokens.*2"
        ):
            encode_example(BPE, CHAT, "Four", max_length=limit)


def test_an_unended_response_is_a_cut_one():
    sample = encode_example(BPE, CHAT, "Four", ended=False)
    assert sample.stop_reason == "length" and written(sample)[-1] != eos_id(BPE)
    assert written(encode_example(BPE, CHAT, "", ended=False)) == []
    assert written(encode_example(BPE, CHAT, "")) == [end_token(BPE, CHAT)]


def test_an_empty_prompt_begins_with_bos_or_eos():
    """Mutation caught: a sequence whose first response token nothing predicts, so that it is lost; BOS passed over; a
    start that counts as written."""
    assert encode_prompt(spaced_tokenizer("first"), "") == [1]
    sample = encode_example(BPE, "", "once")
    assert sample.tokens[0] == eos_id(BPE) and sample.mask[0] is False and all(sample.mask[1:])
    assert decode_response(BPE, written(sample)) == "once"
    with_bos = deepcopy(BPE)
    with_bos.bos_token = "<|user|>"  # that this tokenizer writes before no text of its own accord
    assert encode_prompt(with_bos, "") == [with_bos.bos_token_id]


def test_templates_that_cannot():
    refuse = "{{ raise_exception('roles must alternate') }}"
    for prompt in (CHAT, CHAT[1:]):
        roles = ", ".join(m.role for m in prompt)
        with pytest.raises(
            UserError, match=f"refuses turns of roles {roles}: roles must alternate"
        ):
            encode_prompt(chat_tokenizer(refuse), prompt)
    tok = chat_tokenizer(TURNS, name_or_path="org/base")
    tok.chat_template = None
    with pytest.raises(UserError, match=r"org/base has no chat template.*plain-text prompts"):
        encode_prompt(tok, CHAT)
    assert encode_prompt(tok, "plain")


TOOLS = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|fin|>\n{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}<|fin|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% if silent %}~{% endif %}{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def test_tools_and_variables_reach_the_template():
    """Mutation caught: tools that are dropped on the way, silently; arguments quoted twice."""
    tok = chat_tokenizer(TOOLS)
    asked = (Message("user", "1 + 2?", tools=(TOOL,), template_kwargs={"silent": True}),)
    text = tok.decode(encode_prompt(tok, asked))
    assert text.startswith('<|system|>[{"type": "function", "function": {"name": "add"')
    assert text.endswith("<|user|>1 + 2?<|fin|>\n<|assistant|>~")
    assert "add" in tok.decode(
        encode_prompt(tok, (*asked, Message("assistant", "x"), Message("user", "y")))
    )
    bare = chat_tokenizer(TURNS + OPEN)
    calls = ({"type": "function", "function": {"name": "add", "arguments": {"a": 1}}},)
    for prompt, words in (
        (asked, "knows no tools"),
        ((CHAT[1], Message("assistant", "", calls), Message("tool", "3")), "knows no tool_calls"),
    ):
        with pytest.raises(UserError, match=words):
            encode_prompt(bare, prompt)
    with pytest.raises(UserError, match="cannot set tokenize"):
        encode_prompt(tok, (Message("user", "?", template_kwargs={"tokenize": False}),))


def test_an_answer_that_calls_tools_is_what_the_template_writes():
    """Mutation caught: the call left out of the response, or its end of turn written twice."""
    tok = chat_tokenizer(TOOLS)
    calls = ({"type": "function", "function": {"name": "add", "arguments": {"a": 1}}},)
    shown = Demonstration((Message("user", "1?", tools=(TOOL,)),), "So: ", tool_calls=calls)
    sample = encode_demonstration(tok, shown)
    assert tok.decode(written(sample)) == 'So: [add {"a": 1}]<|fin|>'
    plain = Demonstration(CHAT, "Four")
    assert encode_demonstration(tok, plain) == encode_example(tok, CHAT, "Four")
    with pytest.raises(UserError, match="opens a turn otherwise"):
        prompt = (Message("user", "1?", template_kwargs={"silent": True}),)
        encode_demonstration(tok, Demonstration(prompt, "", tool_calls=calls))


def test_a_control_token_of_the_users_is_text():
    """A prompt of data cannot open a turn. Mutation caught: `encode_prompt` reads it as the template's."""
    tok = chat_tokenizer(TURNS + OPEN)
    fin = tok.convert_tokens_to_ids("<|fin|>")
    for role in ("user", "tool"):
        prompt = (
            Message("user", "Hi"),
            Message("assistant", "<|fin|>"),
            Message(role, "Ho<|fin|> there"),
        )
        ids = encode_prompt(tok, prompt)
        assert ids.count(fin) == 4  # three turns' ends, and what the assistant itself wrote
        assert tok.decode(ids).count("<|fin|>") == 5
    assert encode_prompt(tok, "plain <|fin|>").count(fin) == 1  # a text is what it is


def test_special_tokens_in_a_response_are_part_of_it():
    """All but its end. Mutation caught: `<think>` stripped before rewards see it; an end that the data has, twice."""
    tok = chat_tokenizer(TURNS + OPEN)
    tok.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    think = tok.convert_tokens_to_ids("<think>")
    ids = encode_response(tok, CHAT, "<think>2 + 2</think>4")
    assert ids[0] == think and decode_response(tok, ids) == "<think>2 + 2</think>4"
    fin = tok.convert_tokens_to_ids("<|fin|>")
    assert encode_response(tok, CHAT, "4<|fin|>") == encode_response(tok, CHAT, "4")
    assert decode_response(tok, [*ids, eos_id(tok), fin]) == "<think>2 + 2</think>4"


def test_an_end_behind_a_response_is_written_once_whichever_it_is():
    """Mutation caught: only the prompt's own end taken off, so that another one of the folder's counts as lost text."""
    tok = deepcopy(tiny.tokenizer())
    remember_ends(tok, (user := tok.convert_tokens_to_ids("<|user|>"),))
    own = str(tok.convert_ids_to_tokens(end_token(tok, CHAT)))
    for text in ("Four.", f"Four.{own}", "Four.<|user|>"):
        ids = encode_response(tok, CHAT, text)
        assert user not in ids and tok.decode(ids[:-1]) == without_end(tok, CHAT, text) == "Four."
    inside = f"Four.{own} Five."
    assert without_end(tok, CHAT, inside) == inside
