"""What happens between raw text and an answer that people prefer, one step after another."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from heedful.report import figures, words
from heedful.report.results import Results


@dataclass(frozen=True)
class Step:
    """One step of the story: its words, what it cost, its numbers and the commands that ran it."""

    title: str
    short: str
    css: str
    text: str
    seconds: float | None
    facts: list[tuple[str, str]]  # (value, what it is)
    commands: list[str]
    figure: figures.Figure | None
    absent: str = ""


PRETRAIN = (
    "A small network of random numbers reads raw text and learns one thing: to say what comes next. It "
    "picks up words, facts and every manner of the people who wrote the text, the good ones and the bad "
    "ones, and has no idea yet which of them is wanted."
)
SFT = (
    "Demonstrations show what a response looks like: a prompt in, an answer out. Only the answer's tokens "
    "count in the loss, so the model imitates answers, not questions. This model is the yardstick: "
    "everything below is measured against it and kept near it."
)
COMPARE = (
    "The SFT model answers each prompt several times, and raters say which answer they like better. "
    "Nobody writes a perfect answer or invents a grade: to compare is easier than either, and people agree "
    "more when they do."
)
REWARD = {
    "plackett_luce": (
        "A copy of the model, with one number as its output, is fitted to the rankings: responses are "
        "drawn best first, each with a chance in proportion to exp(score) (Plackett–Luce). "
    ),
    "": (
        "A copy of the model, with one number as its output, is fitted so that the preferred response gets "
        "the higher score: the chance that a beats b is σ(r(a) − r(b)) (Bradley–Terry). "
    ),
}
PROXY = (
    "It is a stand-in for people, not the truth: what follows climbs it, and the gold score tells "
    "whether that helped."
)
PPO = (
    "The model writes, the reward model scores, and tokens that led to better scores than the critic "
    "foresaw become more likely. Each token also pays a price for drifting from SFT (the KL penalty), and "
    "clipped ratios keep a single update from going too far."
)
DPO = (
    "The same comparisons without a reward model and without sampling: raise the log-probability of the "
    "chosen response relative to the rejected one, each measured against SFT. On paper it has the same "
    "optimum as RL with a KL penalty; in practice it sees only the responses that were compared."
)
BEST_OF = (
    "No training at all: SFT writes {n} answers and the reward model picks one. It moves the answers by at "
    "most log {n} − {m}/{n} = {kl:.2f} nats, but every answer costs {n} times as much."
)


def tell(results: Results) -> list[Step]:
    """The steps in their order; a stage that was not run stays in the story, marked as absent."""
    best = next((s for s in results.stages if re.fullmatch(r"best_of_\d+", s)), None)
    n = int(best.rsplit("_", 1)[1]) if best else 16
    model = results.reward_model
    likes = REWARD["plackett_luce" if model and model.loss == "plackett_luce" else ""]
    bon = BEST_OF.format(n=n, m=n - 1, kl=math.log(n) - (n - 1) / n)
    return [
        _step(results, "Raw text", "raw text", PRETRAIN, ["world", "pretrain"], "base", "pretrain"),
        _step(results, "Supervised fine-tuning", "SFT", SFT, ["sft"], "sft", "sft"),
        _comparisons(results),
        _reward(results, likes + PROXY),
        _step(results, "PPO", "PPO", PPO, ["ppo"], "ppo", "ppo"),
        _step(results, "DPO", "DPO", DPO, ["dpo"], "dpo", "dpo"),
        _step(results, f"Best of {n}", f"best-of-{n}", bon, [best or "best_of_16", "best_of_n"],
              best or "best_of_16", ""),
    ]  # fmt: skip


def _step(
    results: Results, title: str, short: str, text: str, keys: list[str], stage: str, run: str
) -> Step:
    found, facts = results.stages.get(stage), []
    if found:
        facts.append((words.number(found.gold), "gold score"))
        if found.win_rate is not None and stage != "sft":
            facts.append((words.percent(found.win_rate), "wins against SFT"))
        elif found.accuracy is not None:
            facts.append((words.percent(found.accuracy), "right"))
        if found.kl is not None and stage != "sft":
            facts.append((words.number(found.kl, 1), "nats from SFT"))
        elif found.rude is not None:
            facts.append((words.percent(found.rude), "rude"))
    absent = "" if found else "This stage is not in the results."
    return _made(results, title, short, words.css(stage), text, keys, facts, run, absent)


def _comparisons(results: Results) -> Step:
    facts = []
    if results.reward_model and results.reward_model.train_comparisons is not None:
        facts = [(words.whole(results.reward_model.train_comparisons), "comparisons to learn from")]
    return _made(
        results,
        "Comparisons",
        "comparisons",
        "s-people",
        COMPARE,
        ["sample", "judge"],
        facts,
        "",
        "",
    )


def _reward(results: Results, text: str) -> Step:
    model, facts = results.reward_model, []
    if model and model.accuracy is not None:
        rate = (
            f"{words.percent(model.accuracy)} {words.percent_interval(model.accuracy_ci)}".strip()
        )
        facts.append((rate, "of held-out pairs ordered rightly"))
    if model and model.pairs is not None:
        facts.append((words.whole(model.pairs), "held-out pairs"))
    absent = "" if model else "The reward model is not in the results."
    return _made(
        results,
        "Reward model",
        "reward model",
        "s-reward",
        text,
        ["reward"],
        facts,
        "reward",
        absent,
    )


def _made(
    results: Results, title: str, short: str, css: str, text: str, keys: list[str],
    facts: list[tuple[str, str]], run: str, absent: str,
) -> Step:  # fmt: skip
    spent = [results.seconds[k] for k in keys if k in results.seconds]
    commands = [command for stage, command in results.commands if stage in keys]
    figure = figures.small_curve(run, results)
    if run and figure is None and not absent:
        absent = "Its run logged no metrics, so there is no learning curve."
    return Step(
        title, short, css, text, sum(spent) if spent else None, facts, commands, figure, absent
    )
