"""Several processes for one command: started here on one machine (`--nproc`), or found as SLURM has started them.

What torchrun has started finds itself (`ranks.joined`).
"""

from __future__ import annotations

import logging
import os
import re
import sys
import uuid
from collections.abc import Mapping, MutableMapping, Sequence

from heedful.errors import UserError

FIRST_PORT, PORTS = 20_000, 20_000  # where the processes of a SLURM job meet, by its number


def launch(count: int, words: Sequence[str]) -> int:
    """`heedful` with these words in so many processes on this machine, as torchrun starts them. The exit code is that
    of the first process that failed, 128 + n after signal n."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # What went wrong is told by the processes; the launcher would add a page about how.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex,
        rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1",
        max_restarts=0, monitor_interval=0.2,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-u", "-m", "heedful", *words)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code
    except SignalException as error:
        return 128 + error.sigval
    return 0


def refuse_count(count: int, started: int) -> None:
    """UserError where there is another number of processes than are asked for."""
    if count > 1 and started == 1:
        raise UserError(
            f"--nproc {count}: processes are started by `heedful train …` on the command line; here there is one"
        )
    if count not in (1, started):
        raise UserError(
            f"--nproc {count}: {started} processes have been started already; leave --nproc out under torchrun and srun"
        )


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """What a step of `srun` with several tasks has in its environment, in the words that PyTorch knows.

    Only where nobody has said it: `srun torchrun …` says it itself, and MASTER_ADDR and MASTER_PORT may be given.
    """
    told = environment.get
    if "RANK" in environment or int(told("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    node, per_node = int(told("SLURM_NODEID", "0")), told("SLURM_STEP_TASKS_PER_NODE", "")
    here = tasks_per_node(per_node)[node] if per_node else int(told("SLURM_STEP_NUM_TASKS", "1"))
    job = int(told("SLURM_JOB_ID", "0"))
    places: Mapping[str, str] = {
        "RANK": told("SLURM_PROCID", "0"),
        "WORLD_SIZE": told("SLURM_STEP_NUM_TASKS", "1"),
        "LOCAL_RANK": told("SLURM_LOCALID", "0"),
        "LOCAL_WORLD_SIZE": str(here),
        "MASTER_ADDR": first_host(told("SLURM_STEP_NODELIST", "127.0.0.1")),
        "MASTER_PORT": str(FIRST_PORT + job % PORTS),
    }
    for name, value in places.items():
        environment.setdefault(name, value)


def first_host(nodes: str) -> str:
    """The first of SLURM's `gpu[03-05,09],login1`: gpu03."""
    match = re.match(r"([^\[,]*)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    assert match is not None
    return "".join(part or "" for part in match.groups())


def tasks_per_node(told: str) -> list[int]:
    """SLURM's `4(x2),3`: 4, 4, 3."""
    counts: list[int] = []
    for part in told.split(","):
        number, _, times = part.partition("(x")
        counts += [int(number)] * int(times.rstrip(")") or 1)
    return counts
