"""The embedded engine: continuous batching over a slotted KV cache, any `transformers` decoder, one process.

Requests in flight at the same time share each decoding step; a sequence leaves the batch when it ends
and waiting ones take its place. The prompt of n samples is computed once. What a request samples
depends on its seed alone, not on its batch mates (up to the rounding of batched matrix products).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from heedful.engine.slots import SlotCache
from heedful.errors import UserError
from heedful.models.forward import lm_head
from heedful.models.load import context_length
from heedful.models.memory import keep_freed_memory
from heedful.models.sampling import derive_seed, draw, log_policy, uniforms
from heedful.types import Completion, Sampling


@dataclass
class _Request:
    prompt: list[int]
    n: int
    max_tokens: int
    sampling: Sampling
    stop: frozenset[int]
    seed: int
    done: asyncio.Future
    heard: Callable[[], None] | None
    results: dict[int, Completion] = field(default_factory=dict)


@dataclass
class _Row:
    """One sequence being decoded."""

    request: _Request
    index: int
    seed: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class TorchEngine:
    """`types.Engine` over a model in this process. `max_rows` sequences decode at a time."""

    def __init__(self, model: PreTrainedModel, *, max_rows: int = 256):
        keep_freed_memory()
        self.model, self.max_rows, self.version = model, max_rows, 0
        self._head = lm_head(model)
        self._cache = SlotCache(model.config.get_text_config().num_hidden_layers)
        self._waiting: deque[_Request] = deque()
        self._rows: list[_Row] = []
        self._driver: asyncio.Task | None = None

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Copy weights in (a no-op for tensors that the engine already shares with the learner)."""
        own = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in weights.items():
                if own[name].data_ptr() != tensor.data_ptr():
                    own[name].copy_(tensor)
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
        heard: Callable[[], None] | None = None,
    ) -> list[Completion]:
        """See `types.Engine.generate`. A prompt that leaves no room for a token is a `UserError`.

        `heard` is called after each token of each sequence, for those who show that something happens.
        """
        limit = exact_window(self.model)
        if not tokens:
            raise UserError("a prompt has no tokens at all; even an empty one needs a BOS token")
        if len(tokens) + max_tokens > limit:
            raise UserError(
                f"a prompt of {len(tokens)} tokens and {max_tokens} new ones exceed the model's "
                f"context of {limit}"
            )
        done = asyncio.get_running_loop().create_future()
        prompt = list(tokens)
        request = _Request(prompt, n, max_tokens, sampling, frozenset(stop), seed, done, heard)
        self._waiting.append(request)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.ensure_future(self._drive())
        return await done

    async def _drive(self) -> None:
        await asyncio.sleep(0)  # let everyone who asks at this moment get into the first batch
        try:
            with torch.inference_mode():
                queue: deque[_Row] = deque()
                while self._waiting or queue or self._rows:
                    while self._waiting:
                        request = self._waiting.popleft()
                        queue.extend(
                            _Row(request, i, derive_seed(request.seed, i)) for i in range(request.n)
                        )
                    free = self.max_rows - len(self._rows)
                    # Prefill in batches: not for each single row that becomes free.
                    batchful = max(1, min(len(queue), self.max_rows // 4))
                    if queue and free >= batchful:
                        self._admit([queue.popleft() for _ in range(min(free, len(queue)))])
                    else:
                        self._decode()
                    await asyncio.sleep(0)  # those who got an answer may ask their next question
        except BaseException as error:
            rows, self._rows = [*self._rows, *queue], []
            for request in [*self._waiting, *(row.request for row in rows)]:
                if not request.done.done():
                    request.done.set_exception(error)
            self._waiting.clear()
            if not isinstance(error, Exception):
                raise

    def _admit(self, rows: list[_Row]) -> None:
        """Prefill the distinct prompts of `rows`, draw each row's first token."""
        requests = list({id(row.request): row.request for row in rows}.values())
        place = {id(request): i for i, request in enumerate(requests)}
        lengths = torch.tensor([len(r.prompt) for r in requests])
        padded = torch.zeros(len(requests), int(lengths.max()), dtype=torch.long)
        for i, request in enumerate(requests):
            padded[i, : len(request.prompt)] = torch.tensor(request.prompt)
        prefill = DynamicCache()
        out = self.model.base_model(
            input_ids=padded.to(self.model.device), past_key_values=prefill, use_cache=True
        )
        last = out.last_hidden_state[torch.arange(len(requests)), lengths - 1]
        source = torch.tensor([place[id(row.request)] for row in rows])
        longest = max(len(r.prompt) + r.max_tokens for r in requests)
        start = len(self._rows)
        self._cache.reserve(start + len(rows), longest)
        self._cache.insert(prefill, source.to(self.model.device), start)
        self._rows.extend(rows)
        self._advance(self._head(last)[source.to(last.device)], start)

    def _decode(self) -> None:
        """One token for every active row."""
        device = self.model.device
        lengths = torch.tensor([len(r.request.prompt) + len(r.tokens) - 1 for r in self._rows])
        lengths = lengths.to(device)
        newest = torch.tensor([[row.tokens[-1]] for row in self._rows], device=device)
        mask = self._cache.aim(lengths)
        out = self.model.base_model(
            input_ids=newest,
            attention_mask=mask,
            position_ids=lengths[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._advance(self._head(out.last_hidden_state[:, -1]), 0)

    def _advance(self, logits: Tensor, start: int) -> None:
        """Append a drawn token to the rows from `start` on, and let the finished ones leave."""
        rows = self._rows[start:]
        ids, logprobs = self._choose(logits, rows)
        for row, token, logprob in zip(rows, ids.tolist(), logprobs.tolist(), strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            if row.request.heard is not None:
                row.request.heard()
        finished = [i for i, row in enumerate(self._rows) if self._finished(row)]
        if not finished:
            return
        for i in finished:
            self._deliver(self._rows[i])
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

    def _choose(self, logits: Tensor, rows: list[_Row]) -> tuple[Tensor, Tensor]:
        """Ids and their log-probs `[n]`; rows that share sampling parameters, mostly all, are drawn together."""
        kinds: dict[Sampling, list[int]] = {}
        for i, row in enumerate(rows):
            kinds.setdefault(row.request.sampling, []).append(i)
        seeds = torch.tensor([row.seed for row in rows])
        positions = torch.tensor([len(row.tokens) for row in rows])
        u = uniforms(seeds, positions).to(logits.device)
        ids = torch.empty(len(rows), dtype=torch.long, device=logits.device)
        chosen = torch.empty(len(rows), device=logits.device)
        for sampling, members in kinds.items():
            at = torch.tensor(members, device=logits.device)
            logp = log_policy(logits if len(kinds) == 1 else logits[at], sampling)
            token = logp.argmax(-1) if sampling.temperature == 0 else draw(logp, u[at])
            ids[at] = token
            chosen[at] = logp.gather(1, token[:, None]).squeeze(1)
        return ids, chosen

    @staticmethod
    def _finished(row: _Row) -> bool:
        return row.tokens[-1] in row.request.stop or len(row.tokens) == row.request.max_tokens

    @staticmethod
    def _deliver(row: _Row) -> None:
        request = row.request
        ended = row.tokens[-1] in request.stop
        request.results[row.index] = Completion(
            tuple(row.tokens), tuple(row.logprobs), "stop" if ended else "length"
        )
        if len(request.results) == request.n and not request.done.done():
            request.done.set_result([request.results[i] for i in range(request.n)])


def exact_window(model: PreTrainedModel) -> int:
    """Tokens within which the engine is exact: the context, or a shorter sliding window of the attention."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    window = getattr(config, "sliding_window", None)
    return min(context_length(model), int(window) if window and slides else 1 << 30)
