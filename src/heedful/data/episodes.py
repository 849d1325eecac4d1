"""Episodes as a learner sees them, and as rows of a file of transcripts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from heedful.data.columns import prompt_columns
from heedful.data.shown import story
from heedful.types import Branch, Episode, Sample, Step
from heedful.types.messages import turn_to_json

# Columns of a transcript that say something about the episode; the others are the facts of its task.
OWN = ("messages", "tools", "rewards", "reward", "reward_parts", "ended", "cause", "turns", "counts", "shown", "index",
       "model", "seed", "logprob")  # fmt: skip


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


def transcript_row(episode: Episode, index: int, model: str, seed: int) -> dict[str, Any]:
    """An episode as a row of a transcripts file: `messages`, the `tools` it was offered, `rewards` of the policy's
    turns in their order, the total `reward` and its parts, how it `ended` and by which `cause`, the task's facts, and
    `shown`, a row of a samples file, where raters see something else than the last turn.

    Assistant turns that were in the prompt have `weight` 0: training on transcripts is training on the policy's own.
    """
    asked = 0 if isinstance(episode.prompt, str) else len(episode.prompt)
    messages = [
        turn_to_json(m) | ({"weight": 0} if i < asked and m.role == "assistant" else {})
        for i, m in enumerate(episode.messages)
    ]
    facts = {name: v for name, v in episode.facts.items() if name not in OWN and _is_json(v)}
    row: dict[str, Any] = {"messages": messages}
    row |= {"tools": [dict(t) for t in episode.tools]} if episode.tools else {}
    row |= {
        "rewards": [round(turn.reward, 6) for turn in episode.turns],
        "reward": round(episode.score, 6),
        "reward_parts": {name: round(value, 6) for name, value in episode.parts.items()},
        "ended": episode.ended,
        "cause": episode.cause,
        "turns": len(episode.turns),
        "counts": dict(episode.counts),
        "index": index,
        "model": model,
        "seed": seed,
        "logprob": round(sum(sum(turn.logprobs) for turn in episode.turns), 6),
    }
    if episode.shown is not None:
        row["shown"] = prompt_columns(episode.prompt) | {"completion": episode.shown}
        row["shown"] |= {"form": "episode"} if episode.shown == story(episode) else {}
    return row | facts


def played_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a workspace keeps of a transcript's row beside the text that is shown: the rewards of the policy's turns and
    how it ended, and whether the text is the `whole` episode, as `data.shown` writes it. None for other rows."""
    rewards, ended = row.get("rewards"), row.get("ended")
    if ended not in ("terminated", "truncated") or not isinstance(rewards, list):
        return None
    if not all(
        isinstance(r, int | float) and math.isfinite(r) for r in (*rewards, row.get("reward"))
    ):
        return None
    kept = {
        name: row[name]
        for name in ("rewards", "reward", "ended", "cause")
        if row.get(name) is not None
    }
    return kept | {"whole": row.get("form") == "episode"}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
