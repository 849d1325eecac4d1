"""How families of models write calls of tools; and what each environment that ships must fulfil."""

from __future__ import annotations

import pytest

import games
from heedful.envs.formats import FORMATS, Call, Hermes, Llama3, Mistral, format_of

ADD, NOW = '{"name": "add", "ARGS": {"a": 1, "b": "x"}}', '{"name": "now", "ARGS": {}}'
CALLS = (Call("add", {"a": 1, "b": "x"}),)
TWO = (*CALLS, Call("now", {}))


@pytest.mark.parametrize(
    "form, text, words, calls",
    [
        (Hermes, 'Well. <tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "x"}}\n</tool_call>', "Well.", CALLS),
        (Llama3, '{"name": "add", "parameters": {"a": 1, "b": "x"}}', "", CALLS),
        (Llama3, '{"type": "function", "function": "add", "parameters": {"a": 1, "b": "x"}}', "", CALLS),
        (Llama3, f"<|python_tag|>{ADD}; {NOW}".replace("ARGS", "parameters"), "", TWO),
        (Llama3, '<|python_tag|>add.call(a=1, b="x")', "", CALLS),
        (Llama3, '[add(a=1, b="x"), now()]', "", TWO),
        (Llama3, '<function=add>{"a": 1, "b": "x"}</function>', "", CALLS),
        (Mistral, f"So: [TOOL_CALLS] [{ADD}, {NOW}]".replace("ARGS", "arguments"), "So:", TWO),
        (Mistral, '[TOOL_CALLS]add[ARGS]{"a": 1, "b": "x"}[TOOL_CALLS]now[ARGS]{}', "", TWO),
        (Mistral, '[TOOL_CALLS]add[CALL_ID]123456789[ARGS]{"a": 1, "b": "x"}', "", CALLS),
        (Mistral, '[TOOL_CALLS]add{"a": 1, "b": "x"}', "", CALLS),
    ],
)  # fmt: skip
def test_calls_are_read(form, text, words, calls):
    assert form().parse(text) == (words, calls)


@pytest.mark.parametrize("form", FORMATS.values())
@pytest.mark.parametrize("text", ["It is 4.", "[1, 2] and {3}", "f(x) = 2", '{"a": 1}', ""])
def test_an_answer_is_no_call(form, text):
    """Mutation caught: an answer in JSON or with brackets taken for a call."""
    assert form().parse(text) == (text, ())


@pytest.mark.parametrize(
    "form, text, says",
    [
        (Hermes, '<tool_call>{"name": "add"', "not closed"),
        (Llama3, '{"name": "add", "parameters": {"a": 1', "is no JSON"),
        (Llama3, '{"name": 3, "parameters": {}}', "needs"),
        (Llama3, '<|python_tag|>import os', "cannot be read"),
        (Llama3, '<|python_tag|>__import__("os").system("ls")', "need their names"),
        (Llama3, '[add(a=open("x"))]', "plain values"),
        (Llama3, "<function=add>{}", "not closed"),
        (Mistral, '[TOOL_CALLS] [{"name": "add"', "is no JSON"),
        (Mistral, "[TOOL_CALLS]add[ARGS]", "is no JSON"),
        (Mistral, "[TOOL_CALLS] [3]", "needs"),
        (Mistral, '[TOOL_CALLS] [{"name": "add", "arguments": [1]}]', "must be an object"),
        (Mistral, "[TOOL_CALLS]" + "[" * 5000, "is no JSON"),
    ],
)  # fmt: skip
def test_a_malformed_call_says_what_is_wrong(form, text, says):
    """Mutation caught: an exception, a call that is dropped, code that is run."""
    _, calls = form().parse(text)
    assert calls and any(says in (call.error or "") for call in calls), calls


def test_the_template_says_which():
    mistral = "{% for m in messages %}{{ '[TOOL_CALLS] [' if m.tool_calls }}{% endfor %}"
    llama = '{{ \'{"name": "\' + call.name + \'", "parameters": \' }}'
    for template, form in ((mistral, Mistral), (llama, Llama3), (games.CHAT_WITH_TOOLS, Hermes)):
        assert type(format_of(games.tokenizer(template))) is form
    assert type(format_of(games.tokenizer(None), "llama3")) is Llama3
