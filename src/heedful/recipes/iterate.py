"""Rounds: sample → ask → wait for the answers → refit the reward model → optimise → evaluate → sample again.

Every step leaves one thing behind in the round's folder, whole or not at all, and a step whose thing is there
is not done again: stop it for a week, start it with the same command, and it goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Connection

from heedful.configs.iterate import FREE, INPUTS, ROWS, Config, Refit, refuse_nonsense
from heedful.configs.optimise import planned
from heedful.configs.policy import METHODS as ONLINE
from heedful.data.files import read_rows, write_json, write_rows
from heedful.data.sources import prompt_of
from heedful.envs import Env
from heedful.errors import UserError
from heedful.models.load import load_tokenizer
from heedful.recipes import evaluate, iterate_asking, recipe_of, reward_model
from heedful.recipes import iterate_drawing as drawing
from heedful.recipes.iterate_asking import ASKED, BATCH, Panel, Share, loaded, say, tasks_of, write
from heedful.recipes.iterate_drawing import SAMPLED, TRAIN
from heedful.run import fingerprint, finished, loops
from heedful.run.settings import identity
from heedful.run.stop import locked
from heedful.store.database.db import Store, open_store
from heedful.store.database.patience import HOUR
from heedful.store.project import content, projects, screens
from heedful.training.playing import env_of
from heedful.training.trust import FILE as RATERS
from heedful.transfer.rounds import WHY, HeldOut, Round, freeze, held_out_with, merge, train_prompts
from heedful.transfer.sources import materialise
from heedful.types import Prompt

__all__ = ["Config", "Refit", "run"]
EVALUATION, PROMPTS = "held_out_comparisons.jsonl", "train_prompts.jsonl"
COMPARISONS = "comparisons.jsonl"


def run(config: Config) -> Path | None:
    """Returns the folder of the newest policy, or None where it stopped to wait for people."""
    refuse_nonsense(config)
    if config.prompts:
        config = replace(config, prompts=materialise(config.prompts, "prompts"))
    if config.held_out:
        file = materialise(config.held_out, "prompts", split="held_out")
        config = replace(config, held_out=file)
    env = env_of(config)
    held_out = held_out_with(drawing.held_out_prompts(config, env))
    now = identity(config, INPUTS)
    changes = loops.changed_since(config.out, now, resume=config.resume, free=FREE, data=ROWS)
    questions = drawing.questions(config, env)
    _refuse_prompts(config, [prompt for prompt, _ in questions], held_out)
    open_rounds = [r for r in range(1, config.rounds + 1) if not _frozen(config, r)]
    panels = loaded(config) if open_rounds else []
    load_tokenizer(config.model)  # a wrong name should leave nothing behind
    store = open_store(config.workspace, patience=HOUR)
    try:
        project = store.in_write(lambda connection: projects.ensure(connection, config.project))
        config.out.mkdir(parents=True, exist_ok=True)
        with locked(config.out):
            first = min(open_rounds, default=config.rounds + 1)
            loops.goes_on(config.out, now, changes, first, say)
            for r in (
                open_rounds if changes else ()
            ):  # what nobody has been asked about is drawn anew
                if not (config.out / f"round-{r}" / ASKED).exists():
                    (config.out / f"round-{r}" / SAMPLED).unlink(missing_ok=True)
            loop = Loop(config, store, project, panels, held_out, env, questions)
            return _rounds(loop)
    finally:
        store.close()


@dataclass(frozen=True)
class Loop:
    """What all rounds go by."""

    config: Config
    store: Store
    project: str
    panels: Sequence[Panel]
    held_out: HeldOut
    env: Env | None
    questions: Sequence[drawing.Question]


def _rounds(loop: Loop) -> Path | None:
    """Round after round; of one whose answers are frozen nobody is asked any more."""
    config, store, project, held_out = loop.config, loop.store, loop.project, loop.held_out
    model = config.model
    for r in range(1, config.rounds + 1):
        folder = config.out / f"round-{r}"
        folder.mkdir(parents=True, exist_ok=True)
        if not _frozen(config, r):
            _sampled(loop, folder, r, model)
            if not iterate_asking.run(config, store, folder, r, loop.panels):
                return None
        _collected(config, store, project, r, held_out)
        model = _optimised(loop, folder, r, model)
        _recorded(config, store, project, folder, r)
    return Path(model)


def _frozen(config: Config, r: int) -> bool:
    return (config.out / f"round-{r}" / COMPARISONS).exists()


def _refuse_prompts(config: Config, prompts: Sequence[Prompt], held_out: HeldOut) -> None:
    """Too few prompts, or a round of which nothing could be learned: before anybody is asked."""
    n = config.prompts_per_round
    if len(prompts) < config.rounds * n:
        raise UserError(
            f"{config.prompts or config.env} has {len(prompts)} prompts, fewer than {config.rounds} rounds of "
            f"{n}; lower --rounds or --prompts-per-round"
        )
    for r in range(1, config.rounds + 1):
        asked = (config.out / f"round-{r}" / ASKED).exists()
        if not asked and all(map(held_out, prompts[(r - 1) * n : r * n])):
            raise UserError(
                f"round {r}: all of its {n} prompts are held out ({WHY}), so nothing could be learned from "
                "the answers; raise --prompts-per-round or take other prompts"
            )


def _drawn(loop: Loop, folder: Path, r: int, model: str) -> list[dict[str, Any]]:
    """A row for each of the round's prompts, with its responses; kept, since they may not be drawn alike twice."""
    file, n = folder / SAMPLED, loop.config.prompts_per_round
    if not file.exists():
        asked = loop.questions[(r - 1) * n : r * n]
        rows = drawing.rows_of(loop.config, loop.env, asked, r, model, folder)
        write_rows(file, rows)
    return [row for _, row in read_rows(file)]


def _sampled(loop: Loop, folder: Path, r: int, model: str) -> None:
    """Sample, and make the questions, which are dealt out among the entries of `raters`."""
    if (folder / ASKED).exists():
        return
    config, store, project = loop.config, loop.store, loop.project
    drawn = drawing.worth_asking(config, r, _drawn(loop, folder, r, model))
    if not drawn:
        (folder / SAMPLED).unlink()
        raise UserError(
            f"round {r}: the model answers every prompt in the same words each time, so there is "
            "nothing to compare; raise --temperature"
        )
    whole = fingerprint(model)
    checkpoint = store.in_write(lambda c: content.add_checkpoint(c, model, whole))
    shares: list[dict[str, None]] = [{} for _ in config.raters]
    for begin in range(0, len(drawn), BATCH):
        part = drawn[begin : begin + BATCH]
        asked = store.in_write(
            lambda c, part=part: [_question(c, config, project, r, row, checkpoint) for row in part]
        )
        for i, key in enumerate(asked, start=begin):
            if not any(key in share for share in shares):
                shares[i % len(shares)][key] = None
    write(folder, [Share(n, list(s)) for n, s in zip(config.raters, shares, strict=True)])


def _question(
    connection: Connection,
    config: Config,
    project: str,
    r: int,
    row: dict[str, Any],
    checkpoint: str,
) -> str:
    """A task of a prompt and responses to it."""
    value = prompt_of(SAMPLED, row)
    source = config.prompts or f"env:{config.env}"
    prompt = content.add_prompt(connection, project, value, source=source)
    how = {"temperature": config.temperature, "max_tokens": config.max_tokens}
    ids = [
        content.add_completion(
            connection,
            prompt,
            **{k: v for k, v in response.items() if k != "episode"},
            checkpoint=checkpoint,
            sampling=how | {k: v for k, v in response.items() if k == "episode"},
            seed=config.seed + 1000 * r,
            engine="torch",
        )
        for response in row["responses"]
    ]
    asked = projects.settings_of(connection, project).questions
    kind, options = screens.comparing(asked, len(ids))
    how: dict[str, Any] = {"overlap": config.overlap, "round": r, **row["how"]}
    return content.add_task(connection, project, kind, prompt, ids, options=options, **how)


def _collected(config: Config, store: Store, project: str, r: int, held_out: HeldOut) -> None:
    """The round's answers as a file; and with those before as what is learned from and what is measured on."""
    done = []
    for k in range(1, r + 1):
        folder = config.out / f"round-{k}"
        done.append(Round(folder / COMPARISONS, tasks_of(folder)))
    if not done[-1].comparisons.exists():
        freeze(store, project, done[-1], held_out)
    train, evaluation = (config.out / f"round-{r}" / name for name in (TRAIN, EVALUATION))
    if not train.exists():
        merge(store, config.keep, done, held_out, train=train, evaluation=evaluation)


def _optimised(loop: Loop, folder: Path, r: int, model: str) -> str:
    """Refit the reward model on old and new, optimise, evaluate; returns the new policy's folder."""
    config, held_out = loop.config, loop.held_out
    own = vars(replace(config, seed=config.seed + r))
    shared = {name: own[name] for name in ("lora", "seed", "device", "quiet")}
    everything, evaluation = folder / TRAIN, folder / EVALUATION
    shared["eval_data"] = str(evaluation) if evaluation.exists() else None
    reward = folder / "reward"
    if not finished(reward):
        options = {**vars(config.reward), "weights": config.weights}
        how: Any = reward_model.Config(
            model=model, data=str(everything), out=reward, **options, **shared
        )
        reward_model.run(loops.stage(config.out, how, say))
    after = folder / "policy"
    if not finished(after):
        prompts: str | Sequence[drawing.Question] = config.prompts or loop.questions
        # A policy that an earlier release has begun to train goes on with the prompts that it began with.
        if config.optimise.method in ONLINE and ((folder / PROMPTS).exists() or not after.exists()):
            prompts = train_prompts(prompts, folder / PROMPTS, held_out)
        # The reward model's own fit: of the same comparisons, and also for losses on responses one by one.
        weighed = {"weights": str(reward / RATERS)} if config.weights == "raters" else {}
        how = planned(
            config.optimise,
            model=model,
            reward=reward,
            comparisons=everything,
            prompts=str(prompts),
            out=after,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            **drawing.playing(config),
            **weighed,
            **shared,
        )
        recipe_of(how).run(loops.stage(config.out, how, say))
    if config.held_out or (loop.env is not None and not config.prompts):
        for name, which in (("before", model), ("after", str(after))):
            _evaluated(config, folder / name, which, reward, model, r)
    return str(after)


def _recorded(config: Config, store: Store, project: str, folder: Path, r: int) -> None:
    """Where the new policy is from, for whoever asks of one of its responses: its run, and the runs before."""
    done = folder / "recorded.json"
    if done.exists():
        return
    before = config.out / f"round-{r - 1}" / done.name
    parent = json.loads(before.read_text(encoding="utf-8"))["policy"] if before.exists() else None
    after = folder / "policy"
    settings = {
        name: yaml.safe_load((folder / name / "config.yaml").read_text(encoding="utf-8"))
        for name in ("reward", "policy")
    }
    whole = fingerprint(after)

    def add(connection: Connection) -> dict[str, str]:
        ids: dict[str, str] = {}
        before = parent
        for name, kind in (("reward", "reward"), ("policy", config.optimise.method)):
            path, seed = str(folder / name), config.seed + r
            before = ids[name] = content.add_run(
                connection, project, kind, path, settings[name], seed=seed, parent=before
            )
        content.add_checkpoint(connection, str(after), whole, run=ids["policy"])
        return ids

    write_json(done, store.in_write(add))


def _evaluated(config: Config, out: Path, model: str, reward: Path, reference: str, r: int) -> None:
    if (out / "evaluation.json").exists():
        return
    only = {"limit": config.prompts_per_round} if config.plays and not config.held_out else {}
    beside = {} if config.plays else {"reference": reference, "scorer": config.scorer}
    result = evaluate.run(
        evaluate.Config(
            model=model,
            data=config.held_out or "",
            out=out,
            reward=(str(reward),),
            **beside,
            **only,
            **drawing.playing(config),
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            seed=config.seed,
            device=config.device,
            quiet=config.quiet,
        )
    )
    named = [
        k for k in ("reward", "length", "kl", "gold", "return", "success", "turns") if k in result
    ]
    say(f"round {r}, {out.name}: {', '.join(f'{k} {result[k]:.3g}' for k in named)}")
