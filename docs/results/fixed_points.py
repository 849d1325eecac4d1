"""Where every policy-gradient preset with KL ends on the world in which everything can be enumerated.

    PYTHONPATH=tests python docs/results/fixed_points.py [NAME …]     # some minutes each; writes fixed_points.json

Total variation to the preset's own fixed point and to π*, at β = 1. The test of the same name
(`pytest -m exhaustive tests/test_optimum.py`) asserts that the former is below 0.05.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

import optima
from heedful.recipes.demo import machine
from heedful.worlds.enumerable import kl, total_variation

OUT = Path(__file__).with_name("fixed_points.json")
SEEDS = (0,)


def main(names: list[str]) -> None:
    done = json.loads(OUT.read_text()) if OUT.exists() else {"rows": {}}
    for name in names or optima.CASES:
        rows = []
        for seed in SEEDS:
            began = time.monotonic()
            reached, own, best, ref = optima.case(name, seed)
            rows.append(
                {
                    "seed": seed,
                    "to its fixed point": round(float(total_variation(reached, own)), 4),
                    "to the optimum": round(float(total_variation(reached, best)), 4),
                    "fixed point to optimum": round(float(total_variation(own, best)), 4),
                    "start to fixed point": round(float(total_variation(ref, own)), 4),
                    "kl": round(float(kl(reached, ref)), 4),
                    "seconds": round(time.monotonic() - began, 1),
                }
            )
            print(name, rows[-1], flush=True)
        done["rows"][name] = rows
        done["machine"] = {**machine(), "threads": torch.get_num_threads()}
        OUT.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
