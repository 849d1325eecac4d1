"""Does `--kl-target` lead a language model to its target?

    python docs/results/kl_target.py [SEED …] [--horizon N]     # some 7 minutes of one core each; writes kl_target.json

The demo's stages at a small size make an SFT model and a reward model on capitals. PPO then runs with a target of 6
nats per response and the controller's defaults. The reward is the reward model's plus 0.1 for each word: the best
answers by the reward model alone are some 3 nats away, and no price leads further than the reward itself goes.
Reported is kl/seq over the last third of the rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import torch

from heedful.configs import demo_stages as presets
from heedful.recipes import judge, policy, pretrain, reward_model, sample, sft, world
from heedful.recipes.demo import machine

OUT = Path(__file__).with_name("kl_target.json")
SEEDS = (0, 1)
TARGET = 6.0
ROUNDS = 120
SMALL = replace(
    presets.QUICK, documents=20000, demonstrations=2000, pretrain_steps=300, compared=1000
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--horizon", type=int, default=policy.Config.kl_horizon)
    asked = parser.parse_args()
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as folder:
            row = led(Path(folder), seed, asked.horizon)
        print(row, flush=True)
        done = json.loads(OUT.read_text()) if OUT.exists() else {"rows": {}}
        done["rows"].setdefault(f"horizon {asked.horizon}", {})[f"seed {seed}"] = row
        done |= {"target": TARGET, "rounds": ROUNDS}
        done["machine"] = {**machine(), "threads": torch.get_num_threads()}
        OUT.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")


def led(out: Path, seed: int, horizon: int) -> dict[str, float]:
    """One run from nothing."""
    began = time.monotonic()
    presets.QUICK = SMALL
    plan = presets.demo(out, seed=seed, quick=True, quiet=True)
    world.run(plan.world)
    pretrain.run(plan.pretrain)
    sft.run(plan.sft)
    sample.run(plan.sample)
    judge.run(plan.judge)
    sample.run(plan.sample_held_out)
    judge.run(plan.judge_held_out)
    reward_model.run(plan.reward)
    ppo = replace(
        plan.ppo,
        reward=(*plan.ppo.reward, "length(price=-0.1)"),
        steps=ROUNDS,
        save_every=0,
        beta=policy.Config.beta,
        kl_target=TARGET,
        kl_horizon=horizon,
    )
    policy.run(ppo)
    lines = (ppo.out / "metrics.jsonl").read_text().splitlines()
    last = [json.loads(line) for line in lines][-(ROUNDS // 3) :]
    kl, coef = ([row[name] for row in last] for name in ("kl/seq", "kl/coef"))
    return {
        "kl": round(fmean(kl), 3),
        "kl_std_of_rounds": round(stdev(kl), 3),
        "kl_over_target": round(fmean(kl) / TARGET, 3),
        "beta_least": round(min(coef), 4),
        "beta_most": round(max(coef), 4),
        "reward": round(fmean(row["reward"] for row in last), 3),
        "seconds": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    main()
