"""What requests may say, and what that means: `Asked`.

Whatever would change the answer and cannot be done is refused, as OpenAI does; what changes nothing is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heedful.endpoint.errors import Refused
from heedful.types import Message, Prompt

MOST_CHOICES = 128
MOST_ALTERNATIVES = 20  # of a token
COMPLETION_TOKENS = 16  # OpenAI's default of /v1/completions
SOME_CHOICE = "this server cannot make a model call a tool; tool_choice is 'auto' or 'none'"
# Fields that change nothing here.
IGNORED = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
    "stream_options", "prompt_cache_retention",
}  # fmt: skip
# Fields that would change the answer and cannot be done → the values with which they change nothing.
IDLE: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "suffix": ("",),
    "modalities": (["text"],),
    "functions": ([],),
    "function_call": ("auto", "none"),
    "ignore_eos": (False,),
    "best_of": (1,),
}


@dataclass(frozen=True)
class Asked:
    """One prompt's share of a request. `prompt` is a conversation, text, or ids; `max_tokens` None: what there is room
    for. What `temperature`, `top_p`, `top_k` and `seed` do not say is the server's affair; `logprobs` None: none, else
    so many alternatives; `echo`: the prompt's too."""

    prompt: Prompt | tuple[int, ...]
    tools: tuple[dict[str, Any], ...] = ()
    number: int = 0  # of this prompt among those of the request
    n: int = 1
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo: bool = False


class _Form(BaseModel):
    """What both kinds of requests may say."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None
    return_token_ids: bool | None = None

    @property
    def usage_at_the_end(self) -> bool:
        """Whether a stream shall end with what was used."""
        options = (self.model_extra or {}).get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    def asked(self) -> list[Asked]:
        """One for each prompt; `Refused` for what is not understood."""
        raise NotImplementedError

    def _common(self) -> dict[str, Any]:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if "" in stop:
            raise Refused("a stop sequence is empty", param="stop")
        return {
            "n": self.n or 1,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": max(0, self.top_k) if self.top_k is not None else None,
            "seed": self.seed,
            "stop": tuple(stop),
        }


class ChatForm(_Form):
    """A request to `/v1/chat/completions`."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None

    def asked(self) -> list[Asked]:
        if self.tool_choice not in (None, "auto", "none"):
            raise Refused(SOME_CHOICE, param="tool_choice")
        if self.top_logprobs and not self.logprobs:
            raise Refused("top_logprobs needs logprobs to be true", param="top_logprobs")
        tools = () if self.tool_choice == "none" else tuple(map(_tool, self.tools or ()))
        return [
            Asked(
                tuple(conversation(self.messages)),
                tools,
                max_tokens=self.max_completion_tokens or self.max_tokens,
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                **self._common(),
            )
        ]


class CompletionForm(_Form):
    """A request to `/v1/completions`: one text, several, or the same as token ids."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None
    echo: bool | None = None

    def asked(self) -> list[Asked]:
        given: list[Any] = [self.prompt]
        if isinstance(self.prompt, list) and not (self.prompt and isinstance(self.prompt[0], int)):
            given = self.prompt
        if not given or any(p == [] for p in given):
            raise Refused("a prompt has no tokens", param="prompt")
        echo = bool(self.echo)
        if self.max_tokens == 0 and not echo:
            raise Refused("max_tokens may be 0 only with echo", param="max_tokens")
        one = Asked(
            "",
            max_tokens=COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens,
            logprobs=self.logprobs,
            echo=echo,
            **self._common(),
        )
        return [
            replace(one, prompt=p if isinstance(p, str) else tuple(p), number=i)
            for i, p in enumerate(given)
        ]


Form = TypeVar("Form", bound=_Form)


def read(form: type[Form], body: bytes) -> Form:
    """A request's body; `Refused` for what is no JSON, unknown or out of range."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("the body is no JSON") from None
    if not isinstance(said, dict):
        raise Refused("the body must be a JSON object")
    try:
        request = form.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:1])
        raise Refused(f"{where}: {first['msg']}", param=where or None) from None
    for name, value in (request.model_extra or {}).items():
        if name in IGNORED or value is None:
            continue
        if name not in IDLE:
            raise Refused(f"Unrecognized request argument supplied: {name}", param=name)
        if value not in IDLE[name] and not (name == "best_of" and value == request.n):
            raise Refused(f"this server cannot do {name}; leave it out", param=name)
    return request


def conversation(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages as OpenAI writes them. A tool's answer gets the name of the function that was called."""
    names: dict[str, str] = {}
    read = []
    for i, said in enumerate(messages):
        message = _message(said, f"messages[{i}]", names)
        names |= {
            str(call.get("id")): call["function"]["name"]
            for call in message.tool_calls
            if call.get("id")
        }
        read.append(message)
    return read


def _message(said: Mapping[str, Any], where: str, names: Mapping[str, str]) -> Message:
    role = said.get("role")
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise Refused(f"{where}: the role {role!r} is unknown", param=f"{where}.role")
    calls = said.get("tool_calls") or ()
    if not isinstance(calls, list | tuple) or (calls and role != "assistant"):
        raise Refused(f"{where}: only the assistant has tool_calls, a list", param=where)
    call_id = said.get("tool_call_id") if role == "tool" else None
    name = said.get("name") or names.get(str(call_id))
    return Message(
        role,
        _content(said.get("content"), where),
        tuple(_call(call, where) for call in calls),
        name if isinstance(name, str) else None,
        call_id if isinstance(call_id, str) else None,
    )


def _content(content: Any, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise Refused(f"{where}: this model reads text only", param=f"{where}.content")
        texts.append(text)
    return "".join(texts)


def _call(call: Any, where: str) -> dict[str, Any]:
    """A call of a tool in the form that chat templates take."""
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise Refused(
            f'{where}: a tool call is {{"function": {{"name": …, "arguments": "{{…}}"}}}}',
            param=f"{where}.tool_calls",
        )
    known = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {"type": "function", **known, "function": {"name": name, "arguments": arguments}}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, dict):
        raise Refused("tools are functions with a name and parameters", param="tools")
    if not isinstance(function.get("name"), str):
        raise Refused("a tool has no name", param="tools")
    return {"type": "function", "function": function}
