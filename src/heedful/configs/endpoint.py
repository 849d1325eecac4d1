"""What `heedful endpoint` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import Sampled
from heedful.configs.serve import loopback
from heedful.errors import UserError
from heedful.fields import AT_LEAST_1, POSITIONAL, Range
from heedful.tagged import refuse_numbers


@dataclass(frozen=True, kw_only=True)
class Config(Sampled):
    """Serve a model over the OpenAI API: chat and completions, log-probs, tools, streams."""

    model: Annotated[str, POSITIONAL]
    """The language model: a folder or a name on the hub."""
    host: str = "127.0.0.1"
    """Where to listen. Other addresses than this machine's own need --api-key."""
    port: Annotated[int, Range(0, 65535)] = 8000
    """The port; 0 takes a free one."""
    api_key: str | None = None
    """The key that requests must have; env:NAME takes it from an environment variable. Without it none is asked for."""
    name: str | None = None
    """The name under which requests ask for the model; default: MODEL as it is typed."""
    max_tokens: Annotated[int | None, AT_LEAST_1] = None
    """Longest answer of a chat request that names no limit; default: what there is room for."""
    device: str = "cpu"
    """Torch device, such as cpu, cuda or auto."""


def refuse_nonsense(config: Config) -> None:
    """Nobody lets other machines in by accident."""
    refuse_numbers(config)
    if not config.api_key and not loopback(config.host):
        raise UserError(f"--host {config.host} lets other machines in; --api-key says who may ask")
