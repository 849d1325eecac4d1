"""Household objects: a hundred users who tidy by rules of their own, and a reward that asks whose house it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heedful.reproductions import Criterion, Figure, Reproduction, Result

USERS, EACH, NEW = 100, 100, 100  # who are learned from, answers of each, users who are unseen
STEPS = 500
COUNTS = (0, 1, 2, 4, 8, 16)
APART = 0.25  # of weight between two places: answers that tell a rule, and not noise


def run(seed: int, folder: Path, quick: bool) -> Result:
    """Accuracy for new users, after some of their answers, of the other answers in which the places are far apart."""
    import torch

    from heedful.reproductions.vectors import CONTEXT, Personal
    from heedful.worlds import household

    torch.manual_seed(seed)
    better, worse, _ = household.answers(household.users(USERS), EACH)
    model = Personal(household.FEATURES)

    def drawn(users: int, each: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of users by chance as many of their answers by chance."""
        user = torch.randint(USERS, (users, 1))
        answer = torch.rand(users, EACH).argsort(1)[:, :each]
        return better[user, answer], worse[user, answer]

    model.fit(drawn, 50 if quick else STEPS)
    with torch.no_grad():
        wants = household.users(NEW)
        told = household.answers(wants, CONTEXT)[:2]
        *asked, lead = household.answers(wants, 200)
        far = lead.abs() >= APART
        found: dict[str, float] = {}

        def accuracy(margin: torch.Tensor) -> float:
            """The mean over users of the share in which the margin says what is truly better."""
            right = ((margin > 0) == (lead > 0)) & far
            return float((right.sum(1) / far.sum(1).clamp(min=1))[far.any(1)].mean())

        for n in COUNTS:
            z = model.known(*told, torch.full((NEW,), n)).mean
            found[f"accuracy after {n}"] = accuracy(model.margin(z, *asked))
        found["accuracy of another's z"] = accuracy(model.margin(z.roll(1, 0), *asked))
    one = found["accuracy after 0"]
    return found | {
        "8 answers less none": found["accuracy after 8"] - one,
        "another's z less none": found["accuracy of another's z"] - one,
    }


def figure(seeds: Sequence[Result]) -> Figure:
    """Accuracy against the number of answers, a line for each seed."""
    return Figure(
        title="Where a new user's things belong",
        x="answers of theirs",
        y="accuracy",
        lines={
            f"seed {s['seed']}": [(float(n), s[f"accuracy after {n}"]) for n in COUNTS]
            for s in seeds
        },
    )


REPRODUCTION = Reproduction(
    name="household",
    claim="A reward that is told of its user by a few of their answers knows where each of a hundred people, who tidy "
    "by rules of their own, want their things; one reward for all of them does not.",
    source="Poddar et al. 2024 (variational preference learning), the arms of household objects",
    what="The world `household`: a thing and a place share some of four attributes; what a place is worth is the sum "
    f"of the user's weights over these (Dirichlet .3). {USERS} users of {EACH} noisy answers each; heedful's personal "
    f"heads over a small network, {STEPS} steps; {NEW} new users. Right is what is truly better to the user, of places "
    f"at least {APART} apart. After no answers it is one reward for all. Criteria after a pilot on seed 100.",
    frozen="2026-11-30",
    criteria=(
        Criterion("new users after 8 answers", "accuracy after 8", "at least", 0.9),
        Criterion("after 8 answers less after none", "8 answers less none", "at least", 0.05, "interval"),
        Criterion("another's answers less none", "another's z less none", "at most", 0.02),
    ),
    run=run,
    minutes=2,
    figure=figure,
)  # fmt: skip
