"""Servers of vLLM as an engine: token ids in, ids and the log-probs of the very distribution they were drawn from out.

vllm itself is not imported. Of several servers each request goes to the one with the fewest outstanding; one that dies
has its requests asked again, of another or of itself once it is back, and is given the weights first. A request says
by its seed what is sampled, so that asking again is harmless.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from torch import Tensor
from transformers import PreTrainedModel

from heedful.configs.engines import MEMORY
from heedful.engine import handed
from heedful.engine.room import refuse_without_room
from heedful.engine.served import GENERATE, Given, Lost, Served, headers, lost, request, short
from heedful.errors import UserError
from heedful.models.adapter_files import has_adapter
from heedful.models.limits import context_length
from heedful.models.sampling import derive_seed
from heedful.ranks import ALONE, Ranks, seconds_of_patience
from heedful.registry import register
from heedful.types import Completion, Engine, Sampling
from heedful.waiting import all_of

PAUSE = 1.0  # seconds between two looks whether somebody is back
log = logging.getLogger("heedful")


class VLLMEngine:
    """`types.Engine` of the servers at these addresses, which have the model that `model` is, or its base.

    `folder` is where servers find adapters, and weights where they take no others: they must see it under this name.
    All `ranks` make one and load at the same time; the first brings the weights. UserError if there is nobody who
    answers for `patience` seconds (HEEDFUL_PATIENCE), or if a server is one that is not known here.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        servers: Sequence[str],
        folder: Path,
        ranks: Ranks = ALONE,
        patience: float | None = None,
    ):
        self.model, self.folder, self.ranks = model, folder, ranks
        self.patience = seconds_of_patience() if patience is None else patience
        self.servers = [Served(url, model.device) for url in servers]
        self._run = ranks.on_first(lambda: f"heedful-{uuid.uuid4().hex[:8]}")
        self._given = Given("", {}, False, lambda: folder)
        self._clients: WeakKeyDictionary[Any, httpx.AsyncClient] = WeakKeyDictionary()
        self._returning: WeakKeyDictionary[Any, dict[str, asyncio.Lock]] = WeakKeyDictionary()
        self._somebody(lambda server: server.meet(), patience=0.0)
        known = [server.window for server in self.servers if server.window]
        self.window = min(context_length(model), *known)

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Bring the weights to all servers that answer, on the first rank; it may take as long as it takes."""
        held = self._held(weights)
        name, adapter = f"{self._run}-{version}", has_adapter(self.model)
        place = self.folder / name

        @functools.cache
        def written() -> Path:
            return handed.written(self.model, place, held)

        self._given = Given(name, held, adapter, written)
        if adapter:
            self.ranks.on_first(lambda: str(written()))
        for server in self.servers:
            server.behind = True
        self.ranks.on_first(self._bring)
        if self.ranks.rank:  # a server that did not answer there is found out by asking it
            for server in self.servers:
                server.behind, server.model = False, name if adapter else server.model
        self.ranks.on_first(handed.forget, self.folder, self._run, place)

    async def generate(
        self,
        tokens: Sequence[int],
        *,
        n: int = 1,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[int],
        seed: int = 0,
        first: int = 0,
        keep: bool = False,
    ) -> list[Completion]:
        """See `types.Engine.generate`. vLLM keeps what it has read by itself, whatever `keep` says."""
        refuse_without_room(tokens, max_tokens, self.window)
        bodies = [
            request(tokens, max_tokens, sampling, stop, derive_seed(seed, first + i))
            for i in range(n)
        ]
        return list(await all_of(self._one(body, frozenset(stop)) for body in bodies))

    async def of_each(self, tokens: Sequence[int], **how: Any) -> list[tuple[str, Completion]]:
        """A completion by each server that answers, with its address: are they all what they should be?"""
        stop = how["stop"]
        body = request(tokens, how["max_tokens"], how["sampling"], stop, derive_seed(how["seed"]))
        answers = []
        for server in self.servers:
            try:
                answers.append((server.url, await self._asked(server, body, frozenset(stop))))
            except Lost as error:
                self._say_lost(server, error)
        return answers

    async def _one(self, body: dict[str, Any], stop: frozenset[int]) -> Completion:
        """Until somebody has answered."""
        began = time.monotonic()
        while True:
            server = min(self.servers, key=lambda s: (s.behind, s.outstanding))
            server.outstanding += 1
            try:
                if server.behind:
                    await self._return(server)
                return await self._asked(server, body, stop)
            except Lost as error:
                self._say_lost(server, error)
                if time.monotonic() - began > self.patience:
                    raise UserError(
                        f"--engine: nobody has answered for {self.patience:g} seconds; {server.url}: {error}"
                    ) from error
            finally:
                server.outstanding -= 1
            if all(other.behind for other in self.servers):
                await asyncio.sleep(PAUSE)

    async def _asked(
        self, server: Served, body: dict[str, Any], stop: frozenset[int]
    ) -> Completion:
        with lost():
            reply = await self._client().post(
                server.url + GENERATE, json={**body, "model": server.model}
            )
        if reply.status_code == 404 and self._given.adapter:
            raise Lost("it has lost the adapter")
        if reply.status_code >= 500:
            raise Lost(f"{reply.status_code} {short(reply)}")
        if not reply.is_success:
            raise UserError(f"--engine: {server.url} refuses: {reply.status_code} {short(reply)}")
        choice = reply.json()["choices"][0]
        spans = choice.get("weight_versions") or []
        if not self._given.adapter and any(s["version"] != self._given.version for s in spans):
            raise Lost("it has other weights")
        if choice["finish_reason"] not in ("stop", "length"):
            raise Lost(f"it ended a request by '{choice['finish_reason']}'")
        ids = tuple(choice["token_ids"])
        ended = bool(ids) and ids[-1] in stop
        if choice["finish_reason"] == "stop" and not ended:
            raise UserError(
                f"--engine: {server.url} stops where nobody asked it to; start it with --generation-config vllm"
            )
        drawn = tuple(float(t["logprob"]) for t in choice["logprobs"]["content"])
        return Completion(ids, drawn, "stop" if ended else "length")

    async def _return(self, server: Served) -> None:
        """A server that was away gets what the others have, once, whoever of those that wait for it asks first."""
        locks = self._returning.setdefault(asyncio.get_running_loop(), {})
        async with locks.setdefault(server.url, asyncio.Lock()):
            if server.behind:
                await asyncio.to_thread(self._welcome, server, self.ranks.world == 1)
                log.warning("--engine: %s is back, and has the weights", server.url)

    def _welcome(self, server: Served, alone: bool) -> None:
        if self.ranks.rank and not (self._given.weights or self._given.adapter):
            raise Lost("the first rank alone has the weights of a sharded model")
        server.meet()
        server.give(self._given, alone)

    def _bring(self) -> None:
        self._somebody(lambda server: self._welcome(server, alone=True), self.patience)

    def _somebody(self, work: Callable[[Served], None], patience: float) -> None:
        """`work(server)` of all at the same time, until it was done by one at least."""
        began = time.monotonic()
        while True:
            with ThreadPoolExecutor(len(self.servers)) as threads:
                done = list(threads.map(functools.partial(self._tried, work), self.servers))
            if None in done:
                return
            if time.monotonic() - began >= patience:
                raise UserError(f"--engine: nobody answers at {done[0]}")
            time.sleep(PAUSE)

    def _tried(self, work: Callable[[Served], None], server: Served) -> str | None:
        try:
            work(server)
        except Lost as error:
            self._say_lost(server, error)
            return f"{server.url} ({error})"
        return None

    def _say_lost(self, server: Served, error: Lost) -> None:
        if not server.behind or not server.window:
            log.warning("--engine: %s does not answer (%s); others are asked", server.url, error)
        server.behind = True

    def _held(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a server is to have. Of a sharded model the first rank alone keeps it."""
        own, first = isinstance(weights, dict), self.ranks.rank == 0
        tensors = handed.each_once(weights)
        return {name: t if own else t.cpu() for name, t in tensors if own or first}

    def _client(self) -> httpx.AsyncClient:
        """One for each event loop; a server has its own queue, so none is kept here."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient(
                headers=headers(),
                timeout=httpx.Timeout(self.patience, connect=20.0, pool=None),
                limits=httpx.Limits(max_connections=256 * len(self.servers)),
                verify=any(server.url.startswith("https:") for server in self.servers),
            )
        return self._clients[loop]


@register(
    "engine",
    "vllm",
    help="vLLM in this process, or servers of it over HTTP: vllm:http://HOST:8000,http://HOST:8001",
)
def vllm_engine(
    model: PreTrainedModel,
    *,
    folder: Path,
    ranks: Ranks = ALONE,
    servers: Sequence[str] = (),
    memory: float = MEMORY,
) -> Engine:
    """See `VLLMEngine` of servers and, where none are named, `colocated.Colocated`."""
    if servers:
        return VLLMEngine(model, servers=servers, folder=folder, ranks=ranks)
    from heedful.engine.colocated import Colocated

    return Colocated(model, folder=folder, ranks=ranks, memory=memory)
