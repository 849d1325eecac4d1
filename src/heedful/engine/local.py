"""The embedded engine: continuous batching over a slotted KV cache, any `transformers` decoder, one process.

Requests in flight at the same time share each decoding step; a sequence leaves the batch when it ends
and waiting ones take its place. The prompt of n samples is computed once. What a request samples
depends on its seed alone, not on its batch mates (up to the rounding of batched matrix products).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.engine.grouped import Grouped
from heedful.engine.kept import Cells, Kept
from heedful.engine.passes import Passes, Plain, passes
from heedful.engine.room import refuse_without_room
from heedful.engine.slots import SlotCache
from heedful.engine.trial import cache_of
from heedful.fast import process
from heedful.models.limits import context_length
from heedful.models.sampling import choose, derive_seed, uniforms
from heedful.registry import register
from heedful.types import Completion, Sampling

PREFILL = 4096  # prompt tokens of one prefill: more at a time leave the processor's caches and gain nothing
AHEAD = 16  # steps for which random numbers are made at once
KEPT_BYTES = 1 << 30  # of keys and values that wait for the next turn of their episodes


@dataclass
class _Request:
    given: tuple[int, ...]  # the prompt; requests that were given the same share its computation
    prompt: list[int]
    n: int
    first: int
    keep: Kept | None  # where its keys and values go, unless new weights have come meanwhile
    max_tokens: int
    sampling: Sampling
    stop: frozenset[int]
    seed: int
    done: asyncio.Future
    heard: Callable[[int, int], None] | None
    results: dict[int, Completion] = field(default_factory=dict)
    kept: tuple[int, Cells] | None = None  # so many tokens of the prompt, and their keys and values


@dataclass
class _Row:
    """One sequence being decoded."""

    request: _Request
    index: int
    seed: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass
class _Batch:
    """The rows as they are until one leaves or others enter: what the next step needs of them, kept in tensors."""

    newest: Tensor  # the tokens drawn last, `[n]`
    lengths: Tensor  # of what is in the cache, `[n]`
    kinds: list[
        tuple[Sampling, Tensor | None]
    ]  # which rows are drawn with which parameters; None: all of them
    uniforms: Iterator[Tensor]  # for the next steps


@register("engine", "local", help="continuous batching in this process, any transformers decoder")
class LocalEngine:
    """`types.Engine` over a model in this process. `max_rows` sequences decode at a time."""

    def __init__(self, model: PreTrainedModel, *, max_rows: int = 256):
        process.tune()
        self.model, self.max_rows, self.version = model, max_rows, 0
        self.window = context_length(model)
        self._cache = cache_of(model)
        self._passes = self._fastest()
        self._kept, self._filled = Kept(KEPT_BYTES), False
        self._waiting: deque[_Request] = deque()
        self._rows: list[_Row] = []
        self._batch: _Batch | None = None
        self._driver: asyncio.Task | None = None

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Copy weights in (a no-op for tensors that the engine already shares with the learner)."""
        self._kept = Kept(self._kept.most_bytes)  # the others are keys and values of another policy
        parameters = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in weights.items():
                if parameters[name].data_ptr() != tensor.data_ptr():
                    parameters[name].copy_(tensor)
        self.version = version

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
        heard: Callable[[int, int], None] | None = None,
    ) -> list[Completion]:
        """See `types.Engine.generate`. A prompt that leaves no room for a token is a `UserError`.

        `heard` is called with the number of a sequence and each token of it, for those who show what happens.
        Nobody who has been cancelled is decoded for any longer.
        """
        refuse_without_room(tokens, max_tokens, self.window)
        done = asyncio.get_running_loop().create_future()
        prompt = list(tokens)
        slots = isinstance(self._cache, SlotCache)
        request = _Request(
            tuple(tokens), prompt, n, first, self._kept if keep and slots else None,
            max_tokens, sampling, frozenset(stop), seed, done, heard,
        )  # fmt: skip
        self._waiting.append(request)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.ensure_future(self._drive())
        return await done

    async def _drive(self) -> None:
        await asyncio.sleep(0)  # let everyone who asks at this moment get into the first batch
        queue: deque[_Row] = deque()
        entering: list[_Row] = []
        try:
            self._passes = self._fastest(*self._asked())
            self._filled = False
            while self._waiting or queue or self._rows:
                while self._waiting:
                    request = self._waiting.popleft()
                    queue.extend(
                        _Row(request, i, derive_seed(request.seed, request.first + i))
                        for i in range(request.n)
                    )
                free = self.max_rows - len(self._rows)
                # Prefill in batches: not for each single row that becomes free.
                batchful = max(1, min(len(queue), self.max_rows // 4))
                # The mode belongs to the thread: held across an await, another engine would leave it for us.
                with torch.inference_mode():
                    self._passes.refresh()
                    if queue and free >= batchful:
                        entering = [queue.popleft() for _ in range(min(free, len(queue)))]
                        self._admit(entering)
                    else:
                        self._decode()
                await asyncio.sleep(0)  # those who got an answer may ask their next question
        except BaseException as error:
            rows, self._rows = [*self._rows, *entering, *queue], []
            for request in [*self._waiting, *(row.request for row in rows)]:
                if not request.done.done():
                    request.done.set_exception(error)
            self._waiting.clear()
            if not isinstance(error, Exception):
                raise
        finally:
            self._passes = self._fastest()  # without copies of weights, or graphs

    def _fastest(self, rows: int = 1, tokens: int = 1) -> Passes:
        """The fastest exact passes for the model as it is now; see `passes`."""
        if isinstance(self._cache, Grouped):
            return self._cache
        return passes(self.model, self._cache, rows, tokens)

    def _asked(self) -> tuple[int, int]:
        """How many rows the requests that wait want at a time, and how many tokens at most."""
        rows = min(self.max_rows, sum(request.n for request in self._waiting))
        return rows, max(request.max_tokens for request in self._waiting)

    def _admit(self, rows: list[_Row]) -> None:
        """Read the prompts of `rows` and draw first tokens; of what continues an episode only that which is new."""
        need = max(len(row.request.prompt) + row.request.max_tokens for row in rows)
        self._cache.reserve(len(self._rows) + len(rows), need)
        if need > self._passes.reads and isinstance(self._cache, SlotCache):
            self._passes = Plain(self.model, self._cache)  # beyond the window of the fast ones
        for request in {id(row.request): row.request for row in rows}.values():
            request.kept = self._remembered(request)
        if new := [row for row in rows if row.request.kept is None]:
            self._prefill(new)
        if old := [(*row.request.kept, row) for row in rows if row.request.kept is not None]:
            self._extend(old)

    def _remembered(self, request: _Request) -> tuple[int, Cells] | None:
        """What is kept of a prompt, in the type that the slots have."""
        if not isinstance(self._cache, SlotCache):
            return None
        # On a CPU the slots of a model in bfloat16 are of one or the other type, as the first prompt of a queue has it.
        settled = self.model.dtype == torch.float32 or self.model.device.type != "cpu"
        if not (settled or self._filled):
            return None
        prefix = self._kept.longest(request.prompt)
        fits = prefix and prefix[1][0][0].dtype == self._cache.slot_layers[0].keys.dtype
        return prefix if fits else None

    def _extend(self, rows: list[tuple[int, Cells, _Row]]) -> None:
        """Give rows what is kept of them and read the rest of their prompts, those of like lengths together."""
        rows.sort(key=lambda old: len(old[2].request.prompt) - old[0])
        most = len(rows[-1][2].request.prompt) - rows[-1][0]
        self._cache.reserve(len(self._rows) + len(rows), max(old[0] for old in rows) + most)
        size = max(1, PREFILL // most)
        for first in range(0, len(rows), size):
            part, start = rows[first : first + size], len(self._rows)
            assert isinstance(self._cache, SlotCache)
            for i, (_, cells, _) in enumerate(part, start):
                self._cache.put_back(i, cells)
            lengths = torch.tensor([length for length, *_ in part]).to(self.model.device)
            news = [row.request.prompt[length:] for length, _, row in part]
            logits = self._passes.extend(news, lengths, start)
            mine = [row for *_, row in part]
            self._rows.extend(mine)
            self._append(self._draw(logits, self._assembled(mine)), start)
            self._batch = None

    def _prefill(self, rows: list[_Row]) -> None:
        """Prefill the distinct prompts of `rows`, those of like lengths together, and draw first tokens."""
        rows.sort(
            key=lambda row: len(row.request.prompt)
        )  # stable: those of one request stay together
        longest = len(rows[-1].request.prompt)
        size = max(1, PREFILL // longest)
        requests = list({row.request.given: row.request for row in rows}.values())
        for first in range(0, len(requests), size):
            part = requests[first : first + size]
            place = {request.given: i for i, request in enumerate(part)}
            mine = [row for row in rows if row.request.given in place]
            where = [place[row.request.given] for row in mine]
            source = torch.tensor(where).to(self.model.device)
            start = len(self._rows)
            logits = self._passes.prefill([r.prompt for r in part], source, start)
            self._rows.extend(mine)
            self._append(self._draw(logits[source], self._assembled(mine)), start)
            self._batch, self._filled = None, True

    def _decode(self) -> None:
        """One token for every active row."""
        batch = self._batch = self._batch or self._assembled(self._rows)
        logits = self._passes.decode(batch.newest, batch.lengths)
        self._append(self._draw(logits, batch), 0)

    def _assembled(self, rows: list[_Row]) -> _Batch:
        newest = [row.tokens[-1] if row.tokens else 0 for row in rows]
        lengths = [len(row.request.prompt) + len(row.tokens) - 1 for row in rows]
        kinds: dict[Sampling, list[int]] = {}
        for i, row in enumerate(rows):
            kinds.setdefault(row.request.sampling, []).append(i)
        alike = len(kinds) == 1
        device = self.model.device
        members = [
            (s, None if alike else torch.tensor(at, device=device)) for s, at in kinds.items()
        ]
        at = torch.tensor([newest, lengths]).to(device)
        return _Batch(at[0], at[1], members, self._random(rows))

    def _random(self, rows: list[_Row]) -> Iterator[Tensor]:
        """The random numbers `[n]` of the next tokens of these rows."""
        seeds, at = torch.tensor([[row.seed, len(row.tokens)] for row in rows]).T
        while True:
            several = uniforms(seeds, at + torch.arange(AHEAD)[:, None])
            yield from several.to(self.model.device).unbind()
            at = at + AHEAD

    @staticmethod
    def _draw(logits: Tensor, batch: _Batch) -> tuple[list[int], list[float]]:
        """Ids and their log-probs; the batch then stands before the next step."""
        u = next(batch.uniforms)
        ids = torch.empty(len(logits), dtype=torch.long, device=logits.device)
        logprobs = torch.empty(len(logits), device=logits.device)
        for sampling, members in batch.kinds:
            if members is None:
                ids, logprobs = choose(logits, sampling, u)
            else:
                ids[members], logprobs[members] = choose(logits[members], sampling, u[members])
        batch.newest, batch.lengths = ids, batch.lengths + 1
        return ids.tolist(), logprobs.tolist()

    def _append(self, drawn: tuple[list[int], list[float]], start: int) -> None:
        """Append drawn tokens to the rows from `start` on, and let the finished ones leave."""
        finished = []
        for i, (token, logprob) in enumerate(zip(*drawn, strict=True), start):
            row = self._rows[i]
            row.tokens.append(token)
            row.logprobs.append(logprob)
            if row.request.heard is not None:
                row.request.heard(row.index, token)
            request = row.request
            ended = token in request.stop or len(row.tokens) == request.max_tokens
            if ended or request.done.cancelled():
                finished.append(i)
        if finished:
            self._leave(finished)

    def _leave(self, finished: list[int]) -> None:
        """Deliver these rows; the last ones take their places."""
        self._batch = None
        for i in finished:
            row = self._rows[i]
            if row.request.keep is self._kept and isinstance(self._cache, SlotCache):
                tokens = (*row.request.prompt, *row.tokens[:-1])
                cells = self._cache.copied(i, len(tokens))
                self._kept.put(tokens, cells, row.request.kept[0] if row.request.kept else 0)
            self._deliver(row)
        left = len(self._rows) - len(finished)
        gone = set(finished)
        holes = [i for i in finished if i < left]
        movers = [i for i in range(left, len(self._rows)) if i not in gone]
        if holes:
            width = max(
                len(self._rows[i].request.prompt) + len(self._rows[i].tokens) for i in movers
            )
            self._cache.move(torch.tensor(movers), torch.tensor(holes), width)
            for hole, mover in zip(holes, movers, strict=True):
                self._rows[hole] = self._rows[mover]
        del self._rows[left:]

    @staticmethod
    def _deliver(row: _Row) -> None:
        request = row.request
        ended = row.tokens[-1] in request.stop
        request.results[row.index] = Completion(
            tuple(row.tokens), tuple(row.logprobs), "stop" if ended else "length"
        )
        if len(request.results) == request.n and not request.done.done():
            request.done.set_result([request.results[i] for i in range(request.n)])
