"""Numbers as people write them, the names of stages and voices, and the sentence that opens the page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from heedful.report.results import Interval, Results, Stage

NBSP, MINUS, DASH = "\u00a0", "\u2212", "\u2013"
ABSENT = "—"

# The order of the story, which is the order everywhere on the page.
ORDER = ("base", "sft", "ppo", "dpo", "best_of_n")
LABELS = {
    "base": "base",
    "sft": "SFT",
    "ppo": "PPO",
    "dpo": "DPO",
    "best_of_n": "best-of-n",
    "pretrain": "pre-training",
    "reward": "reward model",
}
MARKS = {"right and short": "✓", "right but wordy": "≈", "evasive": "?", "wrong": "✕", "rude": "!"}


def kind(stage: str) -> str:
    """The stage's identity, which decides its colour and marker: best_of_16 is best_of_n."""
    stage = re.sub(r"^best_of_\d+$", "best_of_n", stage)
    stage = {"pretrain": "base"}.get(stage, stage)
    return stage if stage in (*ORDER, "reward") else "other"


def css(stage: str) -> str:
    return "s-" + kind(stage).replace("_", "-")


def label(stage: str) -> str:
    found = re.fullmatch(r"best_of_(\d+)", stage)
    return f"best-of-{found[1]}" if found else LABELS.get(stage, stage.replace("_", " "))


def ordered(stages) -> list[str]:
    """Known stages in the order of the story, then the others in the order in which they came."""

    def place(name: str) -> int:
        return ORDER.index(kind(name)) if kind(name) in ORDER else len(ORDER)

    return sorted(stages, key=place)


def voice_css(voice: str) -> str:
    return f"v-{list(MARKS).index(voice) + 1}" if voice in MARKS else "v-0"


def number(x: float | None, digits: int = 2) -> str:
    if x is None:
        return ABSENT
    text = f"{x:,.{digits}f}"
    if float(text.replace(",", "")) == 0:  # no "−0.00"
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def whole(x: float | None) -> str:
    return number(x, 0)


def _share(p: float) -> str:
    """Whole per cent; one decimal where whole would hide the difference from 0 or 100."""
    value = 100 * p
    return f"{value:.1f}" if 0 < value < 9.95 or 99 < value < 100 else f"{value:.0f}"


def percent(p: float | None) -> str:
    return ABSENT if p is None else f"{_share(p)}{NBSP}%"


def percent_interval(ci: Interval | None) -> str:
    return "" if ci is None else f"[{_share(ci[0])}{DASH}{_share(ci[1])}]"


def interval(ci: Interval | None) -> str:
    return "" if ci is None else f"[{number(ci[0])}, {number(ci[1])}]"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ABSENT
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    total = round(seconds)
    hours, minutes, rest = total // 3600, total % 3600 // 60, total % 60
    if hours:
        return f"{hours}{NBSP}h {minutes}{NBSP}min"
    return f"{minutes}{NBSP}min {rest}{NBSP}s" if minutes else f"{rest}{NBSP}s"


def total_seconds(results: Results) -> float | None:
    """The measured total, or else the sum of what was measured."""
    if "total" in results.seconds:
        return results.seconds["total"]
    return sum(results.seconds.values()) if results.seconds else None


def hero(results: Results) -> str | None:
    """The trained model that the opening is about: of PPO and DPO the one with the higher gold score.

    Best-of-n speaks only where neither was trained; the page shows all of them right below.
    """
    trained = [s for s in results.stages if kind(s) in ("ppo", "dpo", "other")]
    candidates = trained or [s for s in results.stages if kind(s) == "best_of_n"]
    return max(candidates, key=lambda s: results.stages[s].gold) if candidates else None


def verdict(stage: Stage) -> str:
    """What the interval of the win rate allows to say."""
    if stage.win_rate is None:
        return ""
    rate = f"{percent(stage.win_rate)} {percent_interval(stage.win_rate_ci)}".strip()
    low, high = stage.win_rate_ci or (stage.win_rate, stage.win_rate)
    if low > 0.5:
        return f", winning {rate} of held-out prompts"
    if high < 0.5:
        return f", winning only {rate} of held-out prompts, which is worse than before"
    return f", winning {rate} of held-out prompts, which cannot be told from a draw"


def outcome(results: Results) -> str:
    """One sentence, made from the numbers alone; it also says so when nothing was gained."""
    name, sft = hero(results), results.stages.get("sft")
    fed = ""
    if results.reward_model and results.reward_model.train_comparisons:
        fed = f"Fed with {whole(results.reward_model.train_comparisons)} comparisons, the model"
    start = fed or "The model"
    if name is None:
        stage, gold = next(iter(results.stages.items()))
        return f"{start} {label(stage)} reached gold {number(gold.gold)}."
    stage = results.stages[name]
    if sft is None:
        text = f"{start} reached gold {number(stage.gold)} ({label(name)})"
    else:
        went = "went" if stage.gold > sft.gold else "did not get better: it went"
        text = f"{start} {went} from gold {number(sft.gold)} (SFT) "
        text += f"to {number(stage.gold)} ({label(name)})"
    text += verdict(stage)
    if stage.kl is not None:
        text += f", at {number(stage.kl, 1)} nats from where it began"
    seconds, cores = total_seconds(results), results.machine.get("cores")
    if seconds is not None:
        text += f"; in {duration(seconds)}" + (f" on {cores} cores" if cores else "")
    return text + "."


def tiles(results: Results) -> list[dict[str, str]]:
    """The key numbers under the opening sentence: value, what it is, a remark."""
    name, found = hero(results), []
    if name:
        stage, sft = results.stages[name], results.stages.get("sft")
        before = f"from {number(sft.gold)} (SFT)" if sft else "mean of held-out prompts"
        found.append((number(stage.gold), f"gold score, {label(name)}", before))
        if stage.win_rate is not None:
            remark = f"95{NBSP}% interval {percent_interval(stage.win_rate_ci)}"
            found.append((percent(stage.win_rate), "wins against SFT", remark))
        if stage.rude is not None:
            base = results.stages.get("base")
            remark = f"base: {percent(base.rude)}" if base and base.rude is not None else ""
            found.append((percent(stage.rude), "rude answers", remark))
        if stage.kl is not None:
            found.append(
                (number(stage.kl, 1), "nats of KL to SFT", "how far it moved, per response")
            )
    if results.reward_model and results.reward_model.accuracy is not None:
        model = results.reward_model
        remark = f"{percent_interval(model.accuracy_ci)} on held-out pairs"
        found.append((percent(model.accuracy), "reward-model accuracy", remark.strip()))
    if (seconds := total_seconds(results)) is not None:
        peak = results.peak_gib
        remark = "" if peak is None else f"at most {number(peak, 1)} GiB of memory"
        found.append((duration(seconds), "for everything", remark))
    return [{"value": v, "what": w, "remark": r} for v, w, r in found]
