"""The process that models talk from: requests and replies as lines of JSON, so that the server needs no torch.

    → {"id": 1, "model": "runs/dpo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64,
       "temperature": 1.0, "seed": 7}
    ← {"id": 1, "heard": 12}                                       so many tokens so far
    ← {"id": 1, "text": "…", "tokens": […], "logprobs": […], "finish_reason": "stop"}
    ← {"id": 1, "error": "one sentence"}

Requests to the same model decode in one batch. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from typing import Any

from heedful.data.tokens import decode_response, encode_prompt, stop_tokens
from heedful.engine.local import LocalEngine
from heedful.errors import UserError
from heedful.models.limits import context_length
from heedful.models.load import load_policy, load_tokenizer
from heedful.remote.lines import Send, answer_lines
from heedful.types import Sampling
from heedful.types.messages import message_from_json

MOST_MODELS = 4  # kept in memory; the one that was not used for longest goes
EVERY = 4  # tokens between two signs of life


class Models:
    """Engines and tokenizers by the model's folder, loaded when first asked for."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[str, tuple[LocalEngine, Any]] = OrderedDict()

    def get(self, name: str) -> tuple[LocalEngine, Any]:
        if name not in self._loaded:
            self._loaded[name] = (LocalEngine(load_policy(name)), load_tokenizer(name))
        self._loaded.move_to_end(name)
        while len(self._loaded) > MOST_MODELS:
            self._loaded.popitem(last=False)
        return self._loaded[name]


async def reply(models: Models, request: dict[str, Any], send: Send) -> None:
    """Answer one request; what goes wrong is an answer too."""
    key, heard = request["id"], 0

    def hear(index: int, token: int) -> None:
        nonlocal heard
        heard += 1
        if heard % EVERY == 1:
            send({"id": key, "heard": heard})

    try:
        engine, tokenizer = models.get(request["model"])
        prompt = tuple(map(message_from_json, request["messages"]))
        tokens = encode_prompt(tokenizer, prompt)
        room = context_length(engine.model) - len(tokens)
        if room < 1:
            raise UserError("this conversation has become too long for the model")
        (said,) = await engine.generate(
            tokens,
            n=1,
            max_tokens=min(request["max_tokens"], room),
            sampling=Sampling(request["temperature"]),
            stop=stop_tokens(tokenizer, prompt),
            seed=request["seed"],
            heard=hear,
        )
    except UserError as error:
        send({"id": key, "error": str(error)})
    except Exception as error:
        # One conversation must not end the others. What libraries say names files of the server, so its log has it.
        print(f"{request['model']}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        send({"id": key, "error": "the model failed; the server's log says why"})
    else:
        send(
            {
                "id": key,
                "text": decode_response(tokenizer, list(said.tokens)),
                "tokens": list(said.tokens),
                "logprobs": [round(x, 6) for x in said.logprobs],
                "finish_reason": said.stop_reason,
            }
        )


if __name__ == "__main__":
    loaded = Models()
    asyncio.run(answer_lines(lambda request, send: reply(loaded, request, send)))
