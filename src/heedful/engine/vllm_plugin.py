"""Other weights for a model that vLLM has: inside its servers by its weight-transfer API, over `transports`.

vLLM finds that by the entry point `vllm.general_plugins` where heedful is installed in its environment, for which
`pip install --no-deps heedful` is enough: `--weight-transfer-config '{"backend": "heedful"}'`, over gloo, or
heedful-nccl or heedful-ipc. vLLM's own backends nccl and ipc are not used: a learner would need vLLM's communicator for
the first and a server that unpickles what it is sent for the second, and the tied output layer (`end_reload`) would
stay as it was in both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from heedful.engine.transports import BACKENDS


def register() -> None:
    """Called by vLLM in each of its processes."""
    from vllm.distributed.weight_transfer.factory import (  # type: ignore[import-not-found]
        WeightTransferEngineFactory,
    )

    for backend in BACKENDS:
        if backend not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(backend, __name__, "Transfer")


def begin_reload(model: Any) -> None:
    """Before `model.load_weights` is given the first of new weights."""
    from vllm.model_executor.model_loader import reload  # type: ignore[import-not-found]

    reload.initialize_layerwise_reload(model)


def end_reload(model: Any, config: Any) -> None:
    """After the last; `config` is vLLM's of the model.

    Where embedding and output layer are one tensor no weight is loaded for the second, so vLLM 0.32 leaves the copy of
    it that its CPU kernels read as it was, and samples from an old output layer.
    """
    import torch
    from vllm.model_executor.layers.vocab_parallel_embedding import (  # type: ignore[import-not-found]
        ParallelLMHead,
    )
    from vllm.model_executor.model_loader import reload  # type: ignore[import-not-found]

    reload.finalize_layerwise_reload(model, config)
    if getattr(config.hf_text_config, "tie_word_embeddings", False):
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, ParallelLMHead):
                    module.quant_method.process_weights_after_loading(module)


def __getattr__(name: str) -> Any:
    if name != "Transfer":
        raise AttributeError(name)
    return _transfer()


def _transfer() -> type:
    from vllm.distributed.weight_transfer.base import (  # type: ignore[import-not-found]
        WeightTransferEngine,
        WeightTransferInitInfo,
        WeightTransferUpdateInfo,
    )

    from heedful.engine.transfer import Offer, received

    @dataclass
    class Init(WeightTransferInitInfo):
        """That it is this plugin which answers: no other one knows the word."""

        heedful: int

    @dataclass
    class Update(WeightTransferUpdateInfo):
        """The fields of `transfer.Offer`."""

        address: str
        port: int
        world: int
        names: list[str] = field(default_factory=list)
        dtypes: list[str] = field(default_factory=list)
        shapes: list[list[int]] = field(default_factory=list)

    class Transfer(WeightTransferEngine[Init, Update]):
        """One short-lived group for each update, so that there is nothing to set up and nothing to end."""

        init_info_cls, update_info_cls = Init, Update

        def init_transfer_engine(self, init_info: Init) -> None:
            pass

        def start_weight_update(self) -> None:
            begin_reload(self.model)

        def receive_weights(self, update_info: Update) -> None:
            parallel = self.parallel_config
            rank = 1 + parallel.data_parallel_index * parallel.world_size + parallel.rank
            transport = BACKENDS[self.config.backend]
            offer = Offer(**vars(update_info))
            for name, tensor in received(offer, rank, transport, self.device):
                self.model.load_weights([(name, tensor.to(self.device))])

        def finish_weight_update(self) -> None:
            end_reload(self.model, self.model_config)

        def shutdown(self) -> None:
            pass

    return Transfer
