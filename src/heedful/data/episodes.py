"""Episodes as a learner sees them, and as rows of a file of transcripts."""

from __future__ import annotations

from heedful.types import Branch, Episode, Sample, Step


def as_samples(
    episode: Episode, *, group: int | None = None, number: int | None = None
) -> list[Sample]:
    """How an episode looks to a learner: a sample for each branch in which the policy wrote something, the
    conversation itself in front, which has the reward at the end. What branches share is trained on once."""
    samples = []
    for branch in episode.branches:
        turns = [s for s in branch.segments[branch.context :] if s.author == "policy"]
        if not turns:
            continue
        truncated = branch.continued or episode.ended == "truncated"
        samples.append(
            Sample(
                *_row(branch),
                reward=0.0 if samples else episode.reward,
                group=group,
                policy_version=min(s.policy_version for s in turns),
                stop_reason="length" if truncated else "stop",
                steps=_steps(branch),
                episode=number,
            )
        )
    return samples


def _row(branch: Branch) -> tuple[tuple[int, ...], tuple[bool, ...], tuple[float, ...]]:
    """Tokens, mask and log-probs of a branch."""
    tokens: list[int] = []
    mask: list[bool] = []
    logprobs: list[float] = []
    for i, s in enumerate(branch.segments):
        from_policy = s.author == "policy" and i >= branch.context
        tokens += s.tokens
        mask += [from_policy] * len(s.tokens)
        logprobs += s.logprobs if from_policy else (0.0,) * len(s.tokens)
    return tuple(tokens), tuple(mask), tuple(logprobs)


def _steps(branch: Branch) -> tuple[Step, ...]:
    steps, start = [], 0
    for i, s in enumerate(branch.segments):
        stop = start + len(s.tokens)
        if s.author == "policy" and i >= branch.context:
            steps.append(Step(start, stop, s.reward))
        start = stop
    return tuple(steps)
