"""vLLM in the learner's own process and on its own device, an engine for each rank: what TRL calls colocate.

Learner and engine share a GPU by turns: after sampling vLLM is put to sleep, which gives up its weights, keys and
values, and `load` wakes it with the next ones. On CPUs it keeps them. vLLM itself is called by one thread alone, in
which requests that come together are batched.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedful.engine import handed
from heedful.engine.room import refuse_without_room
from heedful.engine.served import VERSIONS, refuse_unknown, request
from heedful.engine.vllm_plugin import begin_reload, end_reload
from heedful.errors import UserError
from heedful.models.adapter_files import adapter_base, has_adapter
from heedful.models.limits import context_length
from heedful.models.sampling import derive_seed
from heedful.ranks import ALONE, Ranks
from heedful.types import Completion, Sampling
from heedful.waiting import all_of

# Read by vLLM when it is imported: the engine's loop is ours to call, and it is not to take cores for itself.
SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, for which vLLM has room


class Colocated:
    """`types.Engine` of vLLM in this process. It has the model that `model` is: its whole weights, or the base and the
    adapter, which is never merged.

    `memory`: the share of the device that vLLM takes for weights, keys and values. Adapters go by files in `folder`.
    UserError where vLLM is absent, or a release that is not known here, or does not take the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        folder: Path,
        memory: float,
        ranks: Ranks = ALONE,
    ):
        self.model, self.folder, self.ranks = model, folder, ranks
        self._adapted, self._asleep = has_adapter(model), False
        self._adapter: Any = None  # as vLLM knows it
        self._run = ranks.on_first(lambda: f"heedful-{uuid.uuid4().hex[:8]}")
        if getattr(model, "is_quantized", False):
            raise UserError(
                "--engine vllm: a base in four bits is sampled by a server alone: --engine vllm:http://HOST:8000"
            )
        os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
        vllm = needed()
        self._requested = deque[tuple[dict[str, Any], Future]]()
        self._calls, self._lock, self._at_work = (
            ThreadPoolExecutor(1, "vllm"),
            threading.Lock(),
            False,
        )
        self._llm = self._calls.submit(self._started, vllm, memory).result()
        self.window = min(context_length(model), self._llm.llm_engine.model_config.max_model_len)

    def _started(self, vllm: Any, memory: float) -> Any:
        with TemporaryDirectory() as form:
            self.model.config.save_pretrained(form)
            # `load` brings all weights to a model of this form, or adapters to the base as it lies in its files.
            what = self._base() if self._adapted else {"model": form, "load_format": "dummy"}
            try:
                return vllm.LLM(
                    **what,
                    skip_tokenizer_init=True,
                    dtype=str(self.model.dtype).removeprefix("torch."),
                    max_model_len=-1,  # what the memory holds
                    gpu_memory_utilization=memory,
                    enable_sleep_mode=torch.cuda.is_available(),
                    enforce_eager=not torch.cuda.is_available(),  # compiling takes minutes on a CPU
                    logprobs_mode="processed_logprobs",
                    generation_config="vllm",
                    # Ranks have a process group already, in which each is an engine by itself.
                    distributed_executor_backend="external_launcher"
                    if self.ranks.world > 1
                    else "uni",
                )
            except Exception as error:  # whatever vLLM says of a model or of memory
                said = " ".join(str(error).split())[:300]
                raise UserError(f"--engine vllm does not start with this model: {said}") from error

    def _base(self) -> dict[str, Any]:
        rank = max(config.r for config in self.model.peft_config.values())  # type: ignore[union-attr]
        room = next((size for size in RANKS if size >= rank), None)
        if room is None:
            raise UserError(
                f"vLLM has no room for adapters of rank {rank}; {RANKS[-1]} is the most"
            )
        base = {"model": adapter_base(self.model), "max_lora_rank": room, "max_loras": 1}
        return base | {"enable_lora": True}

    async def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Bring the weights; every rank does, at the same time, for its own engine."""
        if not self._adapted:
            return await self._call(self._take, handed.each_once(weights))
        place = self.folder / f"{self._run}-{version}"
        held = dict(handed.each_once(weights))
        self.ranks.on_first(lambda: str(handed.written(self.model, place, held)))
        await self._call(self._take_adapter, place, version)
        self.ranks.on_first(handed.forget, self.folder, self._run, place)
        return None

    async def sleep(self) -> None:
        """Leave the device's memory to the learner until `load`."""
        await self._call(self._fall_asleep)

    async def of_each(self, tokens: Sequence[int], **how: Any) -> list[tuple[str, Completion]]:
        """A completion by this rank's engine: is it what it should be?"""
        return [("vLLM", one) for one in await self.generate(tokens, n=1, **how)]

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
        return list(await all_of(self._one(body) for body in bodies))

    async def _one(self, body: dict[str, Any]) -> Completion:
        answer: Future[Completion] = Future()
        with self._lock:
            self._requested.append((body, answer))
            if not self._at_work:
                self._at_work = True
                self._calls.submit(self._work)
        return await asyncio.wrap_future(answer)

    def _work(self) -> None:
        """Step until all that was asked is answered."""
        from vllm import SamplingParams  # type: ignore[import-not-found]

        engine, waiting = self._llm.llm_engine, dict[str, tuple[Future, frozenset[int]]]()
        try:
            while True:
                with self._lock:
                    new, self._requested = self._requested, deque()
                    if not (new or waiting):
                        self._at_work = False
                        return
                for body, answer in new:
                    if answer.set_running_or_notify_cancel():  # else nobody waits for it any more
                        how = SamplingParams(**body["sampling_params"])
                        name, prompt = uuid.uuid4().hex, {"prompt_token_ids": body["token_ids"]}
                        waiting[name] = answer, frozenset(how.stop_token_ids or ())
                        engine.add_request(name, prompt, how, lora_request=self._adapter)
                for output in engine.step():
                    if output.finished:
                        answer, stop = waiting.pop(output.request_id)
                        answer.set_result(_completion(output.outputs[0], stop))
        except Exception as error:
            engine.abort_request([*waiting])
            with self._lock:
                new, self._requested, self._at_work = self._requested, deque(), False
            for answer in (answer for answer, _ in waiting.values()):
                answer.set_exception(error)
            for _, answer in new:
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(error)

    async def _call(self, work: Callable[..., None], *of: Any) -> None:
        """In vLLM's thread, once nobody waits for an answer there."""
        await asyncio.wrap_future(self._calls.submit(work, *of))

    def _take(self, tensors: Iterator[tuple[str, Tensor]]) -> None:
        self._wake("weights")
        config = self._llm.llm_engine.model_config

        def replace(model: Any) -> None:
            device = next(model.parameters()).device
            begin_reload(model)
            for name, tensor in tensors:  # of a sharded model each is gathered here, and let go
                model.load_weights([(name, tensor.to(device))])
            end_reload(model, config)

        self._llm.apply_model(replace)
        self._wake("kv_cache")
        self._asleep = False
        self._llm.reset_prefix_cache()  # keys and values of the weights before

    def _take_adapter(self, place: Path, version: int) -> None:
        from vllm.lora.request import LoRARequest  # type: ignore[import-not-found]

        self._wake("weights", "kv_cache")
        self._asleep = False
        if self._adapter is not None:
            self._llm.llm_engine.remove_lora(self._adapter.lora_int_id)
        self._adapter = LoRARequest(place.name, version + 1, str(place.resolve()))
        self._llm.llm_engine.add_lora(self._adapter)
        self._llm.reset_prefix_cache()

    def _wake(self, *what: str) -> None:
        if self._asleep:
            self._llm.wake_up(tags=[*what])

    def _fall_asleep(self) -> None:
        if not self._asleep:
            self._llm.sleep(
                level=1 if self._adapted else 2
            )  # 2: weights are forgotten, not put aside
            self._asleep = True


def needed() -> Any:
    """vllm, of a release that is known here."""
    try:
        import vllm  # type: ignore[import-not-found]
    except ImportError:
        raise UserError(
            "--engine vllm samples with vLLM in this process, and there is none: pip install 'vllm=="
            f"{VERSIONS[-1]}.*', or name servers: --engine vllm:http://HOST:8000"
        ) from None
    refuse_unknown(vllm.__version__, "in this process")
    return vllm


def _completion(output: Any, stop: frozenset[int]) -> Completion:
    ids = tuple(output.token_ids)
    drawn = tuple(float(of[i].logprob) for i, of in zip(ids, output.logprobs, strict=True))
    return Completion(ids, drawn, "stop" if ids and ids[-1] in stop else "length")
