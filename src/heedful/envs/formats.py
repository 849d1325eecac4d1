"""How models write that they call tools, by family, behind one interface, `CallFormat`.

What cannot be read becomes a `Call` with an `error`, so that whoever wrote it is told in words.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from heedful.errors import UserError

LITERALS = "arguments must be plain values"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the policy calls. `error` says what is wrong with a call that cannot be read; `id` tells the calls of
    a conversation apart."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    id: str | None = None


class CallFormat(Protocol):
    """How a model writes that it calls tools."""

    def parse(self, text: str) -> tuple[str, tuple[Call, ...]]:
        """The words around the calls, and the calls."""
        ...


def as_template(call: Call) -> dict[str, Any]:
    """A call in the form that chat templates take."""
    return {
        "type": "function",
        "id": call.id,
        "function": {"name": call.name, "arguments": call.arguments},
    }


class Hermes:
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen write."""

    CALL = re.compile(r"<tool_call>(.*?)(?:(</tool_call>)|(?=<tool_call>)|\Z)", re.DOTALL)

    def parse(self, text: str) -> tuple[str, tuple[Call, ...]]:
        """See `CallFormat`."""
        calls = tuple(self._call(m[1], closed=m[2] is not None) for m in self.CALL.finditer(text))
        return self.CALL.sub("", text).strip() if calls else text, calls

    @staticmethod
    def _call(text: str, *, closed: bool) -> Call:
        if not closed:
            return Call("", error="a <tool_call> is not closed by </tool_call>")
        return from_json(text, "a <tool_call>")


class Llama3:
    """Llama 3's: the whole reply is `{"name": …, "parameters": {…}}`, several behind semicolons, mostly after
    `<|python_tag|>`; or behind that tag `tool.call(key="value")`; or `[f(x=1), g()]`, as the smaller ones write; or
    `<function=name>{…}</function>`."""

    TAG = "<|python_tag|>"
    FUNCTION = re.compile(r"<function=([\w.-]+)>(.*?)(?:(</function>)|\Z)", re.DOTALL)
    OPEN = re.compile(r'\s*\{\s*"(?:type|name|function|parameters)"')
    LIST = re.compile(r"\s*\[\s*[A-Za-z_][\w.]*\(.*\)\s*\]\s*", re.DOTALL)

    def parse(self, text: str) -> tuple[str, tuple[Call, ...]]:
        """See `CallFormat`."""
        if self.FUNCTION.search(text):
            calls = tuple(self._function(m) for m in self.FUNCTION.finditer(text))
            return self.FUNCTION.sub("", text).strip(), calls
        words, tag, called = text.partition(self.TAG)
        if not tag:
            words, called = "", text
        if self.OPEN.match(called):
            return words.strip(), tuple(several_json(called, "a call of a tool", ";"))
        if self.LIST.fullmatch(called) or tag:
            return words.strip(), tuple(from_python(called.strip()))
        return text, ()

    @staticmethod
    def _function(found: re.Match[str]) -> Call:
        if found[3] is None:
            return Call(found[1], error="a <function=…> is not closed by </function>")
        return arguments_of(found[1], found[2], "a <function=…>")


class Mistral:
    """`[TOOL_CALLS] [{"name": …, "arguments": {…}}, …]`, and as later models write it `[TOOL_CALLS]name[ARGS]{…}`."""

    MARK, ARGUMENTS = "[TOOL_CALLS]", "[ARGS]"

    def parse(self, text: str) -> tuple[str, tuple[Call, ...]]:
        """See `CallFormat`."""
        words, mark, called = text.partition(self.MARK)
        if not mark:
            return text, ()
        if called.lstrip().startswith(("[", "{")) and self.ARGUMENTS not in called:
            return words.strip(), tuple(several_json(called, "what follows [TOOL_CALLS]", ","))
        calls = []
        for one in called.split(self.MARK):
            name, marked, arguments = one.partition(self.ARGUMENTS)
            if not marked:  # between the two forms: name{…}
                name, brace, rest = one.partition("{")
                arguments = brace + rest
            name = name.partition("[CALL_ID]")[0].strip()
            calls.append(arguments_of(name, arguments, "what follows [TOOL_CALLS]"))
        return words.strip(), tuple(calls)


FORMATS: dict[str, type[CallFormat]] = {"hermes": Hermes, "llama3": Llama3, "mistral": Mistral}


def format_of(tokenizer: PreTrainedTokenizerBase, name: str = "auto") -> CallFormat:
    """The format of a name; `auto` is the one that the chat template writes calls in, Hermes' where it says nothing."""
    if name != "auto":
        if name not in FORMATS:
            raise UserError(f"there is no format of tool calls '{name}': {', '.join(FORMATS)}")
        return FORMATS[name]()
    template = str(tokenizer.chat_template or "")
    if Mistral.MARK in template:
        return Mistral()
    if "<tool_call>" not in template and ('"parameters": ' in template or Llama3.TAG in template):
        return Llama3()
    return Hermes()


def from_json(text: str, what: str) -> Call:
    """A call of an object with `name` and `arguments`, or `parameters`; `what` begins the sentence of its error."""
    try:
        return from_object(json.loads(text), what)
    except (ValueError, RecursionError) as error:
        return Call("", error=f"{what} is no JSON: {error}")


def from_object(call: Any, what: str) -> Call:
    """The same of what JSON has said."""
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = call["function"]
    name = call.get("name", call.get("function")) if isinstance(call, dict) else None
    if not isinstance(name, str):
        return Call("", error=f'{what} needs {{"name": …, "arguments": {{…}}}}')
    return _checked(name, call.get("arguments", call.get("parameters", {})), what)


def arguments_of(name: str, text: str, what: str) -> Call:
    """A call of a name whose arguments stand in JSON."""
    if not name:
        return Call("", error=f"{what} needs the name of a tool")
    try:
        return _checked(name, json.loads(text), what)
    except (ValueError, RecursionError) as error:
        return Call(name, error=f"{what} is no JSON: {error}")


def _checked(name: str, arguments: Any, what: str) -> Call:
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        return Call(name, error=f"{what} is no JSON: {error}")
    if not isinstance(arguments, dict):
        return Call(name, error=f"the arguments of {what} must be an object")
    return Call(name, arguments)


def several_json(text: str, what: str, between: str) -> Iterator[Call]:
    """The calls in a list, or in objects one behind the other."""
    decoder, text = json.JSONDecoder(), text.strip()
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError) as error:
            yield Call("", error=f"{what} is no JSON: {error}")
            return
        yield from (from_object(v, what) for v in (value if isinstance(value, list) else [value]))
        text = text[end:].strip().removeprefix(between).strip()


def from_python(text: str) -> Iterator[Call]:
    """Calls as Python writes them, of which nothing is run: `f(x=1)`, `f.call(x="a")`, `[f(x=1), g()]`."""
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield Call("", error=f"a call of a tool cannot be read: {error}")
        return
    for node in body.elts if isinstance(body, ast.List) else [body]:
        if not isinstance(node, ast.Call):
            yield Call("", error="a call of a tool must have the form name(argument=value)")
            continue
        name = ast.unparse(node.func).removesuffix(".call")
        if node.args or any(k.arg is None for k in node.keywords):
            yield Call(
                name, error=f"the arguments of '{name}' need their names: name(argument=value)"
            )
            continue
        try:
            yield Call(name, {str(k.arg): ast.literal_eval(k.value) for k in node.keywords})
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            yield Call(name, error=f"of '{name}' the {LITERALS}")
