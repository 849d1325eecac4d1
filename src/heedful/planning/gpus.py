"""GPUs by their data sheets, and how many of them there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from heedful.errors import UserError, did_you_mean

GIB = float(1 << 30)


@dataclass(frozen=True)
class Gpu:
    """One GPU, by its maker's data sheet.

    memory in GiB; bfloat16 and float32 (TF32 where there is such) in FLOP/s, dense; bandwidth of its memory and of its
    link to the others of its machine, one way, in bytes/s.
    """

    memory: float
    bfloat16: float
    float32: float
    bandwidth: float
    link: float


PCIE4, PCIE5 = 32e9, 64e9
GPUS = {
    "B200": Gpu(180, 2250e12, 1100e12, 8.0e12, 900e9),
    "H200": Gpu(141, 989e12, 494e12, 4.8e12, 450e9),
    "H100": Gpu(80, 989e12, 494e12, 3.35e12, 450e9),
    "H100-PCIE": Gpu(80, 756e12, 378e12, 2.0e12, PCIE5),
    "A100": Gpu(80, 312e12, 156e12, 2.04e12, 300e9),
    "A100-40": Gpu(40, 312e12, 156e12, 1.56e12, 300e9),
    "L40S": Gpu(48, 362e12, 183e12, 0.864e12, PCIE4),
    "A10": Gpu(24, 125e12, 62e12, 0.6e12, PCIE4),
    "L4": Gpu(24, 121e12, 60e12, 0.3e12, PCIE4),
    "RTX4090": Gpu(24, 165e12, 83e12, 1.01e12, PCIE4),
    "RTX3090": Gpu(24, 71e12, 36e12, 0.936e12, PCIE4),
    "MI300X": Gpu(192, 1307e12, 653e12, 5.3e12, 448e9),
}
BETWEEN_MACHINES = (
    50e9  # bytes/s of a GPU's share of the network: 400 Gbit/s each, as clusters of these have
)


@dataclass(frozen=True)
class Cluster:
    """So many machines with so many GPUs of one kind each."""

    machines: int
    each: int
    name: str
    gpu: Gpu

    @property
    def ranks(self) -> int:
        return self.machines * self.each

    @property
    def link(self) -> float:
        """Bytes/s of the slowest link on the way around all GPUs."""
        return min(self.gpu.link, BETWEEN_MACHINES) if self.machines > 1 else self.gpu.link


def cluster(spec: str) -> Cluster:
    """`H100`, `8xH100` or, on four machines, `4x8xH100`. UserError with the nearest name."""
    match = re.fullmatch(r"(?:(\d+)x)?(?:(\d+)x)?([A-Za-z][\w-]*)", spec.strip())
    if match is None:
        raise UserError(f"--gpus {spec}: expected 8xH100, or 4x8xH100 for four machines")
    first, second, name = match.groups()
    known = {n.lower(): n for n in GPUS}
    if name.lower() not in known:
        raise UserError(
            f"--gpus {spec}: {name} is unknown{did_you_mean(name, GPUS)}; there are {', '.join(GPUS)}"
        )
    machines, each = (int(first), int(second)) if second else (1, int(first or 1))
    if machines < 1 or each < 1:
        raise UserError(f"--gpus {spec}: there must be one at least")
    name = known[name.lower()]
    return Cluster(machines, each, name, GPUS[name])
