"""What a round of `heedful iterate` asks about: the next prompts or tasks, and the responses or episodes to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from heedful.configs.iterate import Config
from heedful.configs.playing import Playing
from heedful.data.episodes import played_of, transcript_row
from heedful.data.samples import Drawn
from heedful.data.sources import prompt_columns, prompt_of, read_comparisons, read_questions
from heedful.envs import Env
from heedful.errors import UserError
from heedful.models.limits import context_length
from heedful.models.load import load_policy, load_tokenizer
from heedful.raters import choosing
from heedful.recipes import choose, sample
from heedful.recipes.iterate_asking import say
from heedful.remote.journal import ANSWERS, recorded_until_done
from heedful.remote.sources import sources
from heedful.training.playing import own_tasks
from heedful.training.rows import askable
from heedful.types import Episode, Facts, Prompt, Sampling

Question = tuple[Prompt, Facts]
TRAIN, SAMPLED = "all_comparisons.jsonl", "sampled.jsonl"  # of a round's folder


def questions(config: Config, env: Env | None) -> list[Question]:
    """All that there is to ask, in order: the prompts, or the tasks that the environment brings along."""
    if config.prompts:
        return read_questions(config.prompts)
    tasks = own_tasks(config, env, "train")
    if tasks is None:
        raise UserError(
            f"--prompts is missing: the environment {config.env} has no tasks of its own"
        )
    return [question for _, question in tasks]


def held_out_prompts(config: Config, env: Env | None) -> set[Prompt]:
    """Those of the evaluation: of `held_out`, or the environment's own."""
    if config.held_out:
        return {prompt for prompt, _ in read_questions(config.held_out)}
    theirs = None if config.prompts else own_tasks(config, env, "held_out")
    return {prompt for _, (prompt, _) in theirs or ()}


def playing(config: Config) -> dict[str, Any]:
    """What a config says of its environment, as other commands take it; nothing where it has none."""
    if not config.plays:
        return {}
    return {f.name: getattr(config, f.name) for f in fields(Playing)}


def rows_of(
    config: Config, env: Env | None, asked: Sequence[Question], r: int, model: str, folder: Path
) -> list[dict[str, Any]]:
    """A row for each question, with its responses, each a text and what is known of it."""
    what = "responses to" if env is None else "episodes of"
    say(f"round {r}: sampling {config.responses} {what} {len(asked)} prompts")
    policy, tokenizer = load_policy(model, device=config.device), load_tokenizer(model)
    make = askable(tokenizer, context_length(policy), config.max_tokens, None)
    todo = [make(question) for question in asked]
    seed = config.seed + 1000 * r
    if env is None:
        drawn = sample.draw(policy, tokenizer, todo, n=config.responses, max_tokens=config.max_tokens,
                            sampling=Sampling(config.temperature), seed=seed, quiet=config.quiet)  # fmt: skip
        return [*map(_of_responses, drawn)]
    how = sample.Config(model=model, out=folder / "sampled.jsonl", max_tokens=config.max_tokens, seed=seed,
                        temperature=config.temperature, quiet=config.quiet, **playing(config))  # fmt: skip
    ready = sample.Ready(policy, tokenizer, None, todo, env)
    with recorded_until_done(folder / ANSWERS, sources(how)):
        groups = sample.episodes_as_told(how, ready, n=config.responses)
    return [_of_episodes(group, model, seed) for group in groups if group]


def worth_asking(config: Config, r: int, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that are asked about, each with its different responses, and how it came to be asked."""
    apart = [row | {"responses": different(row)} for row in rows]
    apart = [row for row in apart if len(row["responses"]) > 1]
    if config.ask.strategy == "all":
        return [row | {"how": {"propensity": 1.0}} for row in apart]
    before, best = config.out / f"round-{r - 1}", None
    number = min(config.ask.number or len(apart), len(apart))
    if r > 1 and config.ask.strategy != "random":
        answered = read_comparisons(str(before / TRAIN))
        groups = [
            (prompt_of(SAMPLED, row), [one["text"] for one in row["responses"]]) for row in apart
        ]
        how = {"number": number, "seed": config.seed + r, "device": config.device}
        best = choose.telling(str(before / "reward"), answered, groups, config.ask.strategy, **how)
    asked = choosing.questions(
        best,
        [len(row["responses"]) for row in apart],
        number,
        strategy=config.ask.strategy,
        uniform=config.ask.uniform,
        seed=config.seed + r,
    )
    return [
        apart[q.group]
        | {"responses": [apart[q.group]["responses"][k] for k in q.pair]}
        | {"how": {"strategy": q.strategy, "score": q.score, "propensity": q.propensity}}
        for q in asked
    ]


def different(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's responses that say something, each text once."""
    texts: dict[str, dict[str, Any]] = {}
    for response in row["responses"]:
        if response["text"].strip():
            texts.setdefault(response["text"], response)
    return list(texts.values())


def _of_responses(drawn: Drawn) -> dict[str, Any]:
    return prompt_columns(drawn.prompt) | {
        "responses": [
            {
                "text": text,
                "token_ids": [t for t, m in zip(s.tokens, s.mask, strict=True) if m],
                "logprobs": [round(x, 6) for x, m in zip(s.logprobs, s.mask, strict=True) if m],
                "finish_reason": s.stop_reason,
            }
            for text, s in zip(drawn.texts, drawn.samples, strict=True)
        ]
    }


def _of_episodes(group: Sequence[Episode], model: str, seed: int) -> dict[str, Any]:
    """The texts that raters see; tokens are those of an episode, not of its text, and so are left out."""
    rows = [transcript_row(episode, k, model, seed) for k, episode in enumerate(group)]
    return prompt_columns(group[0].prompt) | {
        "responses": [
            {
                "text": row["shown"]["completion"],
                "finish_reason": "stop" if row["ended"] == "terminated" else "length",
                "episode": played_of(row | row["shown"]),
            }
            for row in rows
        ]
    }
