"""What `heedful.engine.colocated` calls of vLLM 0.32 in its own process, around a model of transformers.

Written from vLLM's own source (entrypoints/llm.py, v1/engine/llm_engine.py, model_executor/model_loader/reload); it
holds the caller to what vLLM asks of one: one thread, nothing asked of what sleeps. It stands for vLLM where that is
not installed; `engine/test_real_colocated.py` calls the real thing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import vllm_like  # noqa: F401  a request's seed is that of its one completion
from heedful.engine.local import LocalEngine
from heedful.models.adapter_files import attach
from heedful.types import Sampling

MEMORY = {"weights", "kv_cache"}


class LLM:
    """A model with random weights; `calls` are what was asked of it, in order."""

    newest: LLM

    def __init__(self, model: str, *, load_format: str = "auto", **how: Any):
        LLM.newest, self.how, self.place = self, how, model
        self.thread = threading.current_thread()
        if load_format == "dummy":
            torch.manual_seed(1)
            self.model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model)).eval()
        else:
            self.model = AutoModelForCausalLM.from_pretrained(model).eval()
        self.awake, self.calls, self.batches = set(MEMORY), list[str](), list[int]()
        self.adapters: dict[int, LocalEngine] = {}
        self.waiting: list[tuple[str, dict, Any, Any]] = []
        self.fails_with: Exception | None = None
        text = self.model.config.get_text_config()
        window = SimpleNamespace(max_model_len=64, hf_text_config=text)
        self.llm_engine = SimpleNamespace(
            model_config=window, add_request=self.add_request, step=self.step, add_lora=self.add_lora,
            remove_lora=self.remove_lora, abort_request=self.abort_request,
        )  # fmt: skip
        self.model.load_weights = self.load_weights
        self.sent: set[str] = set()

    def called(self, what: str) -> None:
        assert threading.current_thread() is self.thread, "vLLM is no thing for several threads"
        self.calls.append(what)

    def sleep(self, level: int) -> None:
        self.called(f"sleep {level}")
        self.awake.clear()
        if level == 2:
            with torch.no_grad():
                for p in self.model.parameters():
                    p.fill_(float("nan"))

    def wake_up(self, tags: list[str]) -> None:
        self.called(f"wake {' '.join(tags)}")
        assert not self.awake & {*tags}
        self.awake |= {*tags}

    def reset_prefix_cache(self) -> None:
        self.called("reset")

    def apply_model(self, function: Any) -> list[Any]:
        assert "weights" in self.awake
        return [function(self.model)]

    def load_weights(self, weights: list[tuple[str, torch.Tensor]]) -> None:
        tensors = dict(weights)
        self.sent |= tensors.keys()
        self.model.load_state_dict(tensors, strict=False)
        self.model.tie_weights()

    def add_lora(self, adapter: Any) -> bool:
        self.called(f"adapter {adapter.lora_int_id}")
        assert self.awake == MEMORY and len(self.adapters) < self.how["max_loras"]
        own = AutoModelForCausalLM.from_pretrained(self.place)
        attach(own, adapter.lora_path)
        self.adapters[adapter.lora_int_id] = LocalEngine(own.eval())
        return True

    def remove_lora(self, number: int) -> bool:
        return self.adapters.pop(number) is not None

    def add_request(self, name: str, prompt: dict, how: Any, *, lora_request: Any) -> None:
        assert threading.current_thread() is self.thread and self.awake == MEMORY
        self.waiting.append((name, prompt, how, lora_request))

    def abort_request(self, names: list[str]) -> None:
        self.waiting = [one for one in self.waiting if one[0] not in names]

    def step(self) -> list[Any]:
        """Of all that wait, whole; what has not finished comes before."""
        if self.fails_with:
            raise self.fails_with
        self.batches.append(len(self.waiting))
        waiting, self.waiting = self.waiting, []
        return [
            SimpleNamespace(finished=done, request_id=name, outputs=[self.answer(prompt, p, lora)] if done else [])
            for name, prompt, p, lora in waiting
            for done in (False, True)
        ]  # fmt: skip

    def answer(self, prompt: dict, p: Any, adapter: Any) -> Any:
        by = self.adapters[adapter.lora_int_id] if adapter else LocalEngine(self.model)
        (c,) = asyncio.run(
            by.generate(
                prompt["prompt_token_ids"], max_tokens=p.max_tokens, stop=p.stop_token_ids, seed=p.seed, first=-1,
                sampling=Sampling(p.temperature, p.top_p, p.top_k),
            )
        )  # fmt: skip
        told = [{i: SimpleNamespace(logprob=x)} for i, x in zip(c.tokens, c.logprobs, strict=True)]
        return SimpleNamespace(token_ids=list(c.tokens), logprobs=told)


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


def install(monkeypatch: Any, release: str = "0.32.0") -> None:
    """Make it what `import vllm` finds."""
    no = SimpleNamespace(ParallelLMHead=())
    reload = SimpleNamespace(
        initialize_layerwise_reload=lambda model: None, finalize_layerwise_reload=lambda model, config: None
    )  # fmt: skip
    whole = ("vllm", {"LLM": LLM, "SamplingParams": SimpleNamespace, "__version__": release})
    modules = (
        whole,
        ("vllm.lora", {}),
        ("vllm.lora.request", {"LoRARequest": LoRARequest}),
        ("vllm.model_executor", {}),
        ("vllm.model_executor.layers", {}),
        ("vllm.model_executor.layers.vocab_parallel_embedding", vars(no)),
        ("vllm.model_executor.model_loader", {"reload": reload}),
    )
    for name, inside in modules:
        module = ModuleType(name)
        vars(module).update(inside)
        monkeypatch.setitem(sys.modules, name, module)
