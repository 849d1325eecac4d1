"""One server of vLLM as a learner sees it over HTTP: what it is, and how it comes to have the learner's weights.

The routes are those of vLLM's API for reinforcement learning (VLLM_SERVER_DEV_MODE=1). Everything here waits; an
engine calls it in threads.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch
from torch import Tensor

from heedful.engine import transfer
from heedful.engine.transports import PATIENCE
from heedful.errors import UserError
from heedful.types import Sampling

# Releases whose routes these are, as tests/engine/test_real_vllm.py has seen.
VERSIONS = ("0.32",)
STARTED = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode processed_logprobs"
)
GENERATE = "/inference/v1/generate"
KEY = "VLLM_API_KEY"
log = logging.getLogger("heedful")


class Lost(Exception):
    """A server does not answer, or not as one that works; why, for a line of the log."""


@dataclass(frozen=True)
class Given:
    """The weights of one version, as a server takes them: tensors for its own model, or the folder of an adapter for
    one that has the base. `folder` gives the place of them as files, which are written when it is asked for."""

    version: str
    weights: Mapping[str, Tensor]
    adapter: bool
    folder: Callable[[], Path]


@dataclass(eq=False)
class Served:
    """A server. `outstanding` requests are being answered; it is `behind` until it has the weights of the day."""

    url: str
    device: torch.device  # the learner's
    outstanding: int = 0
    behind: bool = True
    window: int = 0
    model: str = ""  # as the server calls it: its own name, or that of the adapter
    processes: int = 1
    receives: bool = False  # weights from process to process (`transfer`); else it reads files
    _adapter: str = field(default="", repr=False)
    _client: httpx.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Certificates take a tenth of a second to read, and are for https alone. Large models take their time.
        limit = httpx.Timeout(600.0, connect=20.0)
        secure = self.url.startswith("https:")
        self._client = httpx.Client(headers=headers(), timeout=limit, verify=secure)

    def meet(self) -> None:
        """Ask it who it is. `Lost` if nobody answers, UserError for what is no server of vLLM that is known here."""
        version = self._said(self._get("/version"), "version")
        refuse_unknown(version, self.url)
        models = self._get("/v1/models")
        if not models.is_success:  # a key that it does not know
            self._refuse(models, "/v1/models")
        served = models.json()["data"][0]
        self.window, self.model = int(served["max_model_len"]), served["id"]
        size = self._get("/get_world_size")
        if size.status_code != 200:
            raise UserError(f"--engine: {self.url} takes no weights; start it so: {STARTED}")
        self.processes = size.json()["world_size"]
        self._must("/resume", {})  # a run that was killed may have left it paused
        self.receives = self._post(
            "/init_weight_transfer_engine", {"init_info": {"heedful": 1}}
        ).is_success

    def give(self, given: Given, alone: bool) -> None:
        """Bring it to these weights. `alone`: nobody else can be doing the same at this moment."""
        if given.adapter:
            self._adapt(given)
        elif not self._has(given.version):
            with self._paused():
                if self.receives:
                    self._send(given, alone)
                else:
                    self._read(given)
        self.behind = False

    def _adapt(self, given: Given) -> None:
        body = {"lora_name": given.version, "lora_path": str(given.folder().resolve())}
        reply = self._post("/v1/load_lora_adapter", body)
        if reply.status_code in (404, 405):
            raise UserError(
                f"--engine: {self.url} takes no adapters; start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and "
                "--enable-lora, --max-lora-rank as large as --lora.rank"
            )
        if not reply.is_success and "already been loaded" not in reply.text:
            self._refuse(reply, "the adapter")
        if self._adapter not in ("", given.version):
            self._post("/v1/unload_lora_adapter", {"lora_name": self._adapter})
        self.model = self._adapter = given.version

    def _send(self, given: Given, alone: bool) -> None:
        self._begin(given.version, alone)
        if self._has(given.version):
            return
        with ThreadPoolExecutor(1) as thread:

            def tell(offer: dict[str, Any]) -> Any:
                return thread.submit(self._must, "/update_weights", {"update_info": offer})

            try:
                transfer.send(given.weights, self.url, self.processes, tell, self.device)
            except transfer.Unfit as error:
                if alone:
                    raise UserError(
                        f"--engine: {self.url}: {error}; the backend 'heedful' works everywhere"
                    ) from error
                raise Lost(str(error)) from error  # another rank may be where it can
            except RuntimeError as error:
                raise Lost(f"it does not come for its weights: {error}") from error
        self._must("/finish_weight_update", {"weight_version": given.version})

    def _begin(self, version: str, alone: bool) -> None:
        """One update at a time: vLLM refuses a second. It may be another rank's, or that of a run that has ended."""
        end = time.monotonic() + (0 if alone else PATIENCE.total_seconds())
        while not (reply := self._post("/start_weight_update", {})).is_success:
            if time.monotonic() >= end:
                self._post("/finish_weight_update", {})
                self._must("/start_weight_update", {})
                return
            time.sleep(1.0)
            if self._has(version):
                return
        assert reply.is_success

    def _read(self, given: Given) -> None:
        body = {
            "method": "reload_weights",
            "kwargs": {"weights_path": str(given.folder().resolve())},
        }
        self._must("/collective_rpc", body)
        self._must("/update_weight_version", {"new_version": given.version})

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Its caches are emptied: they hold keys and values of the weights before."""
        self._must("/pause?mode=wait", {})
        try:
            yield
        finally:
            self._must("/resume", {})

    def _has(self, version: str) -> bool:
        return self._said(self._get("/weight_info"), "weight_version") == version

    def _must(self, route: str, body: Mapping[str, Any]) -> httpx.Response:
        reply = self._post(route, body)
        if not reply.is_success:
            self._refuse(reply, route)
        return reply

    def _refuse(self, reply: httpx.Response, what: str) -> None:
        raise UserError(f"--engine: {self.url} refuses {what}: {reply.status_code} {short(reply)}")

    def _get(self, route: str) -> httpx.Response:
        with lost():
            return self._client.get(self.url + route, timeout=20.0)

    def _post(self, route: str, body: Mapping[str, Any]) -> httpx.Response:
        with lost():
            return self._client.post(self.url + route, json=body)

    @staticmethod
    def _said(reply: httpx.Response, key: str) -> str:
        try:
            return str(reply.json().get(key, ""))
        except (ValueError, AttributeError):
            return ""


@contextmanager
def lost() -> Iterator[None]:
    """`Lost` in place of what httpx raises where there is no server any more."""
    try:
        yield
    except httpx.TransportError as error:
        raise Lost(str(error) or type(error).__name__) from error


def headers() -> dict[str, str]:
    """With the key that VLLM_API_KEY holds, where there is one."""
    return {"Authorization": f"Bearer {key}"} if (key := os.environ.get(KEY)) else {}


def short(reply: httpx.Response) -> str:
    """What a server says of an error, in one line."""
    try:
        said = reply.json()
        said = said.get("error", said)
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError):
        said = reply.text
    return " ".join(str(said).split())[:300]


def refuse_unknown(version: str, where: str) -> None:
    """UserError for a release of vLLM whose interface nobody has tried."""
    if not version.startswith(tuple(f"{known}." for known in VERSIONS)):
        raise UserError(
            f"--engine: {where} is {f'vLLM {version}' if version else 'no server of vLLM'}; known here is "
            f"vLLM {' and '.join(VERSIONS)}, whose interface other releases may not have"
        )


def request(
    tokens: Sequence[int], max_tokens: int, sampling: Sampling, stop: Sequence[int], seed: int
) -> dict[str, Any]:
    """A prompt and how its completion is drawn, as vLLM takes it. All that shapes the distribution is said, since a
    server may have other defaults."""
    return {
        "token_ids": list(tokens),
        "sampling_params": {
            "n": 1,
            "max_tokens": max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": list(stop),
            "ignore_eos": True,
            "seed": seed,
            "logprobs": 0,
            "detokenize": False,
        },
    }
