"""The table of one or more demos: python docs/results/table.py runs/demo/results.json …"""

import json
import sys

NAMES = {"base": "base", "sft": "SFT", "dpo": "DPO", "ppo": "PPO", "best_of_16": "best of 16"}


def span(pair: list[float] | None, scale: float = 1.0, digits: int = 2) -> str:
    return "" if pair is None else f" [{scale * pair[0]:.{digits}f}, {scale * pair[1]:.{digits}f}]"


print("| seed | model | gold | right | rude | tokens | KL to SFT, nats | win rate against SFT |")
print("|---|---|---|---|---|---|---|---|")
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    for key, name in NAMES.items():
        s = results["stages"][key]
        kl = "–" if s["kl"] is None else f"{abs(s['kl']):.2f}"
        win = (
            "–" if key == "sft" else f"{100 * s['win_rate']:.0f} %{span(s['win_rate_ci'], 100, 0)}"
        )
        print(
            f"| {results['seed']} | {name} | {s['gold']:.2f}{span(s['gold_ci'])} | {100 * s['accuracy']:.0f} % "
            f"| {100 * s['rude']:.1f} % | {s['length']:.1f} | {kl} | {win} |"
        )
print()
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    rm, parts = results["reward_model"], results["seconds"]
    cost = ", ".join(f"{name} {value:.0f}" for name, value in parts.items() if name != "total")
    print(
        f"Seed {results['seed']}: reward model {100 * rm['accuracy']:.0f} %{span(rm['accuracy_ci'], 100, 0)} of "
        f"{rm['pairs']} held-out pairs, {results['peak_gib']:.2f} GiB, {parts['total']:.0f} s ({cost})."
    )
