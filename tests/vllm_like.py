"""A server with the routes of vLLM 0.32 that `heedful.engine.vllm` asks, around a model in this process.

Written from vLLM's own source (entrypoints/rl/online, serve/lora, serve/dev/rpc, scale_out/token_in_token_out, and
v1/worker/gpu_worker.py for what is refused when). It stands for vLLM where that is not installed;
`engine/test_real_vllm.py` asks the real thing.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from safetensors.torch import load_file

from heedful.engine import local
from heedful.engine.local import LocalEngine
from heedful.engine.transfer import Offer, received
from heedful.models.adapter_files import START, attach
from heedful.models.sampling import derive_seed
from heedful.types import Sampling

# A request's seed is that of its one completion, which the embedded engine would derive once more.
local.derive_seed = lambda seed, number: seed if number < 0 else derive_seed(seed, number)


class VLLMLike:
    """One server; it can be killed and started again at the same address, and then has its first weights again."""

    def __init__(self, model: Any, *, transport: str = "gloo", release: str = "0.32.0"):
        self.first, self.transport, self.release = model, transport, release
        self.port, self.thread, self.asked, self.die_after = 0, None, 0, None
        self.stale: tuple[str, ...] = ()  # tensors that an update leaves as they were
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """With the first weights, whatever was sent before."""
        self.model = copy.deepcopy(self.first)
        self.version, self.updating, self.paused, self.adapters = "default", False, False, {}
        config = uvicorn.Config(self._app(), port=self.port, log_level="critical")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def kill(self) -> None:
        """Whoever waits for an answer gets none."""
        self.server.should_exit = self.server.force_exit = True
        for connection in list(self.server.server_state.connections):
            connection.transport.abort()
        self.thread.join()

    def _app(self) -> FastAPI:
        app, engine = FastAPI(), LocalEngine(self.model)

        def failed(what: str) -> JSONResponse:
            return JSONResponse({"error": {"message": what}}, 500)

        @app.get("/version")
        async def version():
            return {"version": self.release}

        @app.get("/v1/models")
        async def models():
            return {"data": [{"id": "base", "max_model_len": engine.window}]}

        @app.get("/get_world_size")
        async def world():
            return {"world_size": 1}

        @app.get("/weight_info")
        async def info():
            return {"weight_version": self.version}

        @app.post("/pause")
        async def pause():
            self.paused = True
            return {"status": "paused"}

        @app.post("/resume")
        async def resume():
            self.paused = False
            return {"status": "resumed"}

        @app.post("/init_weight_transfer_engine")
        async def init(request: Request):
            known = self.transport and (await request.json())["init_info"] == {"heedful": 1}
            return {} if known else failed("Weight transfer not configured.")

        @app.post("/start_weight_update")
        async def begin():
            if self.updating:
                return failed("start_weight_update called while a weight update is already active")
            self.updating = True
            return {}

        @app.post("/update_weights")
        async def update(request: Request):
            if not (self.updating and self.paused):
                return failed("start_weight_update must be called before update_weights.")
            offer = Offer(**(await request.json())["update_info"])
            taken = received(offer, 1, self.transport, torch.device("cpu"))
            await asyncio.to_thread(lambda: self._take(dict(taken)))
            return {}

        @app.post("/finish_weight_update")
        async def finish(request: Request):
            if not self.updating:
                return failed("finish_weight_update called without a matching start_weight_update.")
            self.updating = False
            self.version = (await request.json()).get("weight_version") or self.version
            return {}

        @app.post("/collective_rpc")
        async def rpc(request: Request):
            body = await request.json()
            assert body["method"] == "reload_weights" and self.paused
            self._take(load_file(Path(body["kwargs"]["weights_path"]) / "model.safetensors"))
            return {"results": [None]}

        @app.post("/update_weight_version")
        async def say(request: Request):
            self.version = (await request.json())["new_version"]
            return {"success": True}

        @app.post("/v1/load_lora_adapter")
        async def load_adapter(request: Request):
            body = await request.json()
            model = copy.deepcopy(self.first)
            attach(model, body["lora_path"])
            assert START in model.peft_config
            self.adapters[body["lora_name"]] = LocalEngine(model.eval())
            return {}

        @app.post("/v1/unload_lora_adapter")
        async def unload_adapter(request: Request):
            del self.adapters[(await request.json())["lora_name"]]
            return {}

        @app.post("/inference/v1/generate")
        async def generate(request: Request):
            body = await request.json()
            self.asked += 1
            if self.die_after is not None and self.asked > self.die_after:
                self.die_after = None
                threading.Thread(target=self.kill).start()
                await asyncio.sleep(30)
            if self.paused:
                return failed("paused")
            by = engine if body["model"] == "base" else self.adapters.get(body["model"])
            if by is None:
                return JSONResponse({"error": {"message": "The model does not exist."}}, 404)
            p = body["sampling_params"]
            assert p["n"] == 1 and p["ignore_eos"] and p["repetition_penalty"] == 1.0
            (c,) = await by.generate(
                body["token_ids"], max_tokens=p["max_tokens"], stop=p["stop_token_ids"], seed=p["seed"], first=-1,
                sampling=Sampling(p["temperature"], p["top_p"], p["top_k"]),
            )  # fmt: skip
            content = [
                {"token_id": t, "logprob": x} for t, x in zip(c.tokens, c.logprobs, strict=True)
            ]
            spans = [{"start": 0, "end": len(c.tokens), "version": self.version}]
            choice = {"index": 0, "token_ids": list(c.tokens), "logprobs": {"content": content}}
            return {
                "choices": [{**choice, "finish_reason": c.stop_reason, "weight_versions": spans}]
            }

        return app

    @torch.no_grad()
    def _take(self, weights: dict[str, torch.Tensor]) -> None:
        own = self.model.state_dict()
        for name, tensor in weights.items():
            if name not in self.stale:
                own[name].copy_(tensor)
