"""What those take that sample from what they train: engines of their own, on this machine or on others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from heedful.configs.common import Training
from heedful.errors import UserError
from heedful.fields import AT_LEAST_0
from heedful.tagged import ReadWith


@dataclass(frozen=True, kw_only=True)
class Clustered(Training):
    """Sampling elsewhere than in the process that learns."""

    cluster: str | None = None
    """Sample in engines of their own, which Ray places and watches: local:4 starts four here, ray://HOST:10001/4 takes
    four of a cluster; docs/scaling.md. Needs the extra `ray`."""


@dataclass(frozen=True, kw_only=True)
class Paced(Clustered):
    """Sampling elsewhere, while others learn."""

    staleness: Annotated[int, AT_LEAST_0, ReadWith("cluster")] = 0
    """Sample so many steps ahead, with weights that are so many updates behind; 0 samples with the newest."""

    def drawn_with(self, step: int) -> int:
        """Of which update the weights are that a step's samples are drawn with."""
        return behind(step, self.staleness)


def refuse_cluster(config: Clustered) -> None:
    """UserError for a cluster that nobody can mean."""
    if config.cluster is not None:
        parsed(config.cluster)
        if getattr(config, "engine", None):
            raise UserError("--cluster and --engine both say who samples; leave one of them out")


def parsed(spec: str) -> tuple[str | None, int]:
    """Where `--cluster` says that a Ray cluster is, None: it is to be started here; and how many engines are wanted, 0:
    as many as there is room for. UserError for what is neither."""
    if match := re.fullmatch(r"local:([1-9]\d*)", spec):
        return None, int(match[1])
    match = re.fullmatch(r"((?:ray://)?[\w.\-\[\]]+:\d+|auto)(?:/([1-9]\d*))?", spec)
    if match is None:
        raise UserError(
            f"--cluster {spec}: local:4 for four engines on this machine, ray://HOST:10001/4 for four on a Ray cluster "
            "(also HOST:6379/4 and auto/4)"
        )
    return match[1], int(match[2] or 0)


def behind(step: int, staleness: int) -> int:
    """The update whose weights draw a step's samples: the one before, or so many before that."""
    return max(0, step - 1 - staleness)
