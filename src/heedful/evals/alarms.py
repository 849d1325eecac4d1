"""Plain advice when a run's metrics say that it is going wrong; silent while all is well.

Thresholds are loose on purpose: each was crossed with the learning rate × 20 and not in sound runs of the
embedded world (tests/evals/test_alarms.py, docs/results.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from heedful.types import Metrics

Advice = Callable[
    [Metrics, Metrics], str | None
]  # (current metrics, the first ones) → a sentence, or None


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def clipped(now: Metrics, first: Metrics) -> str | None:
    """Most updates are thrown away."""
    share = now.get("policy/clipfrac", 0.0)
    if share > 0.4:
        return f"{_percent(share)} of ratios clipped: lower the learning rate or the inner epochs"


def moved_too_far(now: Metrics, first: Metrics) -> str | None:
    """The policy is too far from the one that wrote the samples."""
    nats, ess = now.get("policy/kl_update", 0.0), now.get("policy/ess", 1.0)
    if abs(nats) > 2.0 or ess < 0.05:
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
    if nats > limit:
        excess = f", three times its target of {target:g}" if target else ""
        return f"KL to the reference is {nats:.0f} nats a response{excess}: raise β or lower the learning rate"
    if nats < -1.0:
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


def both_fall(now: Metrics, first: Metrics) -> str | None:
    """The margin grows while the preferred response becomes unlikely as well."""
    start, chosen = first.get("logps/chosen"), now.get("logps/chosen")
    if start is not None and chosen is not None and chosen < 2 * start - 20:
        return (
            f"log π of the preferred responses fell from {start:.0f} to {chosen:.0f}: the margin grows by making "
            "both sides unlikely; raise β, lower the learning rate, or add a likelihood term"
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
    both_fall,
)  # fmt: skip


class Alarms:
    """Checks every step's metrics; an alarm is raised once, and again every `pause` steps while it persists."""

    def __init__(self, pause: int = 50):
        self.pause = pause
        self.first: Metrics = {}
        self.last_warning: dict[str, int] = {}

    def look(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """A sentence for each alarm; metrics that a recipe does not log raise none."""
        now = {**metrics, "step": float(step)}
        self.first = {**now, **self.first}
        sentences = []
        for alarm in ALARMS:
            sentence = alarm(now, self.first)
            name = alarm.__name__
            if sentence and step >= self.last_warning.get(name, -self.pause) + self.pause:
                self.last_warning[name] = step
                sentences.append(sentence)
        return sentences

    def state_dict(self) -> dict:
        return {"first": self.first, "said": self.last_warning}

    def load_state_dict(self, state: Mapping) -> None:
        self.first, self.last_warning = dict(state["first"]), dict(state["said"])
