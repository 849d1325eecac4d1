"""Plain advice when a run's metrics say that it is going wrong; silent while all is well.

Thresholds are loose on purpose: each was crossed with the learning rate × 20 and not in sound runs of the
embedded world (tests/evals/test_alarms.py, docs/results.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from heedful.evals.watch import Watch
from heedful.types import Metrics

Advice = Callable[
    [Metrics, Metrics], str | None
]  # (current metrics, the first ones) → a sentence, or None


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _at_least(now: Metrics, name: str) -> float:
    """An estimate less two standard errors, where it says how far it may be off; −∞ where that is unknown."""
    return now.get(name, 0.0) - 2 * now.get(f"{name}_se", 0.0)


def clipped(now: Metrics, first: Metrics) -> str | None:
    """Most updates are thrown away."""
    share = now.get("policy/clipfrac", 0.0)
    if share > 0.4:
        return f"{_percent(share)} of ratios clipped: lower the learning rate or the inner epochs"


def moved_too_far(now: Metrics, first: Metrics) -> str | None:
    """The policy is too far from the one that wrote the samples."""
    nats, ess = now.get("policy/kl_update", 0.0), now.get("policy/ess", 1.0)
    if _at_least(now, "policy/kl_update") > 2.0 or ess < 0.05:
        return (
            f"one round moved the policy by {nats:.2g} nats a response, and its samples are worth {_percent(ess)} "
            "of fresh ones: lower the learning rate or the inner epochs"
        )


def entropy_gone(now: Metrics, first: Metrics) -> str | None:
    """Every prompt gets one answer, and there is nothing left to compare."""
    start, left = first.get("policy/entropy", 0.0), now.get("policy/entropy", 0.0)
    if start > 0.05 and left < 0.1 * start:
        return (
            f"entropy fell from {start:.2g} to {left:.2g} nats a token: the policy repeats itself; raise β, "
            "lower the learning rate, or stop earlier"
        )


def entropy_exploded(now: Metrics, first: Metrics) -> str | None:
    """The policy turns to noise."""
    start, left = first.get("policy/entropy", 0.0), now.get("policy/entropy", 0.0)
    if start > 0.05 and left > 3 * start and left > 1.0:
        return (
            f"entropy rose from {start:.2g} to {left:.2g} nats a token: responses turn to noise; lower the "
            "learning rate"
        )


def far_from_reference(now: Metrics, first: Metrics) -> str | None:
    """KL far above its target or any useful value, or negative, which it cannot be."""
    nats, target = now.get("kl/seq", 0.0), now.get("kl/target")
    limit = 3 * target if target else 100.0
    if _at_least(now, "kl/seq") > limit:
        excess = f", three times its target of {target:g}" if target else ""
        return f"KL to the reference is {nats:.0f} nats a response{excess}: raise β or lower the learning rate"
    if nats + 4 * now.get("kl/seq_se", 0.0) < -1.0:
        return (
            f"KL to the reference is estimated as {nats:.2g} nats, and KL is never negative: the samples are not "
            "from the policy that is measured (other temperature, top-p or weights?)"
        )


def critic_blind(now: Metrics, first: Metrics) -> str | None:
    """Advantages are noise."""
    explained = now.get("value/explained_variance", 1.0)
    if now["step"] > 10 and explained < -0.5:
        return (
            f"the critic explains {explained:.2g} of the returns' variance, less than a constant would: raise "
            "--critic-warmup, or change --critic-learning-rate"
        )


def cut_off(now: Metrics, first: Metrics) -> str | None:
    """Responses do not end."""
    ended = now.get("eos_rate", 1.0)
    if now.get("episodes/truncated", 0.0) > 0.5:
        return (
            f"{_percent(now['episodes/truncated'])} of episodes were truncated: raise --max-turns, --max-tokens (of a "
            "turn) or --max-episode-tokens, or read in samples.jsonl what they do instead of ending"
        )
    if ended < 0.5:
        return (
            f"{_percent(1 - ended)} of responses were truncated at max_tokens: raise --max-tokens, or check that "
            "demonstrations end with the end token (heedful doctor)"
        )


def longer(now: Metrics, first: Metrics) -> str | None:
    """The usual way to please a reward model without being better."""
    start, length = (
        first.get("completions/mean_length", 0.0),
        now.get("completions/mean_length", 0.0),
    )
    if start > 0 and length > 2 * start and length > start + 8:
        return (
            f"responses grew from {start:.0f} to {length:.0f} tokens: look whether the reward only likes them "
            "long, and add a length penalty if so"
        )


def nothing_to_compare(now: Metrics, first: Metrics) -> str | None:
    """Groups without a better and a worse response have no gradient."""
    share, spread = now.get("groups/equal", 0.0), now.get("reward/std", 1.0)
    if share > 0.8:
        return (
            f"in {_percent(share)} of groups all responses got the same reward and teach nothing: take prompts of "
            "middling difficulty, more responses a prompt, or --dynamic-sampling"
        )
    if spread == 0:
        return "all responses of the round got the same reward: there is nothing to learn from"


def nothing_scored(now: Metrics, first: Metrics) -> str | None:
    """A round without a reward: the update is left out."""
    share = now.get("reward/unscored", 0.0)
    if share > 0 and "reward" not in now:
        return (
            f"the reward abstained from {_percent(share)} of the round's responses, and the others leave nothing to "
            "compare: nothing was learned; look at when its terms return None, and which prompts they are meant for"
        )


def both_fall(now: Metrics, first: Metrics) -> str | None:
    """The margin grows while the preferred response becomes unlikely as well.

    Measured on the same responses then and now: against the reference, or on the held-out part. Batches differ in
    length, and so does log π of their responses.
    """
    if "logps/chosen_change" in now:
        chosen = now["logps/chosen"]
        start: float | None = chosen - now["logps/chosen_change"]
    else:
        start, chosen = first.get("eval/logps/chosen"), now.get("eval/logps/chosen", 0.0)
    if start is not None and chosen < 2 * start - 20:
        return (
            f"log π of the preferred responses fell from {start:.0f} to {chosen:.0f}: the margin grows by making "
            "both sides unlikely; raise β, lower the learning rate, or add a likelihood term"
        )


def beyond_the_fit(now: Metrics, first: Metrics) -> str | None:
    """The reward model judges what it has never seen: what n responses of the reference would not have held once."""
    fit = now.get("kl/fit")
    if fit is not None and _at_least(now, "kl/seq") > fit:
        return (
            f"KL to the reference is {now['kl/seq']:.0f} nats a response, and the reward model was fitted on "
            f"{math.exp(fit):,.0f} responses, of which fewer than one was like these: the reward may rise while "
            "responses get worse; raise β, read some, or compare new ones (heedful iterate)"
        )


def models_disagree(now: Metrics, first: Metrics) -> str | None:
    """An ensemble's members have parted: the policy has left what all of them know."""
    for name, spread in now.items():
        start = first.get(name, 0.0)
        rises = now.get("reward", 0.0) > first.get("reward", 0.0)
        if name.endswith("/disagreement") and start > 0 and spread > 2.5 * start and rises:
            return (
                f"the reward models of {name.split('/')[1]} disagree by {spread:.2g}, where it was {start:.2g}, while "
                "the reward rises: it may be their mistakes that are rewarded; raise β or the ensemble's k"
            )


def repetitive(now: Metrics, first: Metrics) -> str | None:
    """Responses say the same again and again."""
    start, share = first.get("completions/repetition", 0.0), now.get("completions/repetition", 0.0)
    if share > 0.3 and share > 2 * start:
        return (
            f"{_percent(share)} of four tokens in a row stood in the response before, where it was {_percent(start)}: "
            "look whether the reward likes repetition, and raise β"
        )


ALARMS: tuple[Advice, ...] = (
    clipped,
    moved_too_far,
    entropy_gone,
    entropy_exploded,
    far_from_reference,
    critic_blind,
    cut_off,
    longer,
    nothing_to_compare,
    nothing_scored,
    both_fall,
    beyond_the_fit,
    models_disagree,
    repetitive,
)  # fmt: skip


# A round has few prompts, and of easy ones the groups are equal and the entropy small: so many rounds in a row tell.
IN_A_ROW = {"entropy_gone": 3, "nothing_to_compare": 3}


class Alarms:
    """Checks every step's metrics; an alarm is raised once, and again every `pause` steps while it persists.

    `watch` follows what is scored beside the reward: see `evals.watch`.
    """

    def __init__(self, pause: int = 50):
        self.pause = pause
        self.first: Metrics = {}
        self.last_warning: dict[str, int] = {}
        self.in_a_row: dict[str, int] = {}
        self.watch = Watch()

    def look(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """A sentence for each alarm; metrics that a recipe does not log raise none."""
        now = {**metrics, "step": float(step)}
        self.first = {**now, **self.first}
        told = {alarm.__name__: alarm(now, self.first) for alarm in ALARMS}
        for name, rounds in IN_A_ROW.items():
            self.in_a_row[name] = self.in_a_row.get(name, 0) + 1 if told[name] else 0
            if self.in_a_row[name] < rounds:
                told[name] = None
        told |= self.watch.look(step, metrics)
        sentences = []
        for name, sentence in told.items():
            if sentence and step >= self.last_warning.get(name, -self.pause) + self.pause:
                self.last_warning[name] = step
                sentences.append(sentence)
        return sentences

    def state_dict(self) -> dict:
        return {
            "first": self.first,
            "said": self.last_warning,
            "in_a_row": self.in_a_row,
            "watch": self.watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping) -> None:
        self.first, self.last_warning = dict(state["first"]), dict(state["said"])
        self.in_a_row = dict(state.get("in_a_row", {}))
        self.watch.load_state_dict(state.get("watch", {}))
