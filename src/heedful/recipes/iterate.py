"""Rounds: sample → ask → wait for the answers → refit the reward model → optimise → evaluate → sample again.

Every step leaves one thing behind in the round's folder, whole or not at all, and a step whose thing is there
is not done again: stop it for a week, start it with the same command, and it goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from heedful.configs.iterate import PEOPLE, Config, Refit, refuse_nonsense
from heedful.configs.optimise import planned
from heedful.configs.policy import METHODS as ONLINE
from heedful.data.files import write_json
from heedful.data.samples import Drawn
from heedful.data.sources import read_prompts
from heedful.errors import UserError
from heedful.models.load import load_policy, load_tokenizer
from heedful.progress import Progress
from heedful.raters.panel import judge_all, judges
from heedful.recipes import evaluate, recipe_of, reward_model
from heedful.recipes.sample import draw
from heedful.run import fingerprint, finished
from heedful.store import content, people, projects, reports, rounds
from heedful.store.db import Store, open_store
from heedful.transfer.rounds import WHY, HeldOut, Round, freeze, held_out_with, merge, train_prompts
from heedful.transfer.sources import materialise
from heedful.types import Rater, Sampling

__all__ = ["Config", "Refit", "run"]
TRAIN, EVALUATION = "all_comparisons.jsonl", "held_out_comparisons.jsonl"
PROMPTS = "train_prompts.jsonl"
BATCH = 50  # rows in one write transaction: raters wait no longer than that takes


def run(config: Config) -> Path | None:
    """Returns the folder of the newest policy, or None where it stopped to wait for people."""
    refuse_nonsense(config)
    config = replace(config, prompts=materialise(config.prompts, "prompts"))
    if config.held_out:
        file = materialise(config.held_out, "prompts", split="held_out")
        config = replace(config, held_out=file)
    held_out = held_out_with(set(read_prompts(config.held_out)) if config.held_out else set())
    _refuse_prompts(config, held_out)
    panels = [None if name == PEOPLE else judges(name, config.seed) for name in config.raters]
    load_tokenizer(config.model)  # a wrong name should leave nothing behind
    store = open_store(config.workspace)
    try:
        with store.write() as connection:
            project = projects.ensure(connection, config.project)
        model = config.model
        for r in range(1, config.rounds + 1):
            folder = config.out / f"round-{r}"
            folder.mkdir(parents=True, exist_ok=True)
            tasks = _asked(config, store, project, folder, r, model)
            if not _answered(config, store, tasks, panels, r):
                return None
            _collected(config, store, project, r, held_out)
            model = _optimised(config, folder, r, model, held_out)
            _recorded(config, store, project, folder, r)
        return Path(model)
    finally:
        store.close()


def _refuse_prompts(config: Config, held_out: HeldOut) -> None:
    """Too few prompts, or a round of which nothing could be learned: before anybody is asked."""
    prompts, n = read_prompts(config.prompts), config.prompts_per_round
    if len(prompts) < config.rounds * n:
        raise UserError(
            f"{config.prompts} has {len(prompts)} prompts, fewer than {config.rounds} rounds of "
            f"{n}; lower --rounds or --prompts-per-round"
        )
    for r in range(1, config.rounds + 1):
        asked = (config.out / f"round-{r}" / "asked.json").exists()
        if not asked and all(map(held_out, prompts[(r - 1) * n : r * n])):
            raise UserError(
                f"round {r}: all of its {n} prompts are held out ({WHY}), so nothing could be learned from "
                "the answers; raise --prompts-per-round or take other prompts"
            )


def _asked(
    config: Config, store: Store, project: str, folder: Path, r: int, model: str
) -> list[list[str]]:
    """Sample, and put the questions to the raters; one list of tasks for each entry of `raters`."""
    asked = folder / "asked.json"
    if not asked.exists():
        start = (r - 1) * config.prompts_per_round
        prompts = read_prompts(config.prompts)[start : start + config.prompts_per_round]
        _say(f"round {r}: sampling {config.responses} responses to {len(prompts)} prompts")
        drawn = draw(
            load_policy(model, device=config.device),
            load_tokenizer(model),
            prompts,
            n=config.responses,
            max_tokens=config.max_tokens,
            sampling=Sampling(config.temperature),
            seed=config.seed + 1000 * r,
            quiet=config.quiet,
        )
        shares: list[list[str]] = [[] for _ in config.raters]
        with store.write() as connection:
            checkpoint = content.add_checkpoint(connection, model, fingerprint(model))
        for begin in range(0, len(drawn), BATCH):
            with store.write() as connection:
                for i, item in enumerate(drawn[begin : begin + BATCH], start=begin):
                    if key := _question(connection, config, project, r, item, checkpoint):
                        shares[i % len(shares)].append(key)
        if not any(shares):
            raise UserError(
                f"round {r}: the model answers every prompt in the same words each time, so there is "
                "nothing to compare; raise --temperature"
            )
        write_json(asked, shares)
    return json.loads(asked.read_text(encoding="utf-8"))


def _question(
    connection, config: Config, project: str, r: int, item: Drawn, checkpoint: str
) -> str | None:
    """A task of the different responses to a prompt; None where they are all the same."""
    first_index: dict[str, int] = {}
    for k, text in enumerate(item.texts):
        if text.strip():
            first_index.setdefault(text, k)
    if len(first_index) < 2:
        return None
    prompt = content.add_prompt(connection, project, item.prompt, source=config.prompts)
    ids = []
    for text, k in first_index.items():
        sample = item.samples[k]
        written = [i for i, m in enumerate(sample.mask) if m]
        ids.append(
            content.add_completion(
                connection,
                prompt,
                text,
                checkpoint=checkpoint,
                token_ids=[sample.tokens[i] for i in written],
                logprobs=[round(sample.logprobs[i], 6) for i in written],
                sampling={"temperature": config.temperature, "max_tokens": config.max_tokens},
                seed=config.seed + 1000 * r,
                finish_reason=sample.stop_reason,
                engine="torch",
            )
        )
    kind = "pair" if len(ids) == 2 else "rank"
    return content.add_task(
        connection, project, kind, prompt, ids, overlap=config.overlap, round=r, propensity=1.0
    )


def _answered(
    config: Config,
    store: Store,
    tasks: list[list[str]],
    panels: Sequence[Sequence[Rater] | None],
    r: int,
) -> bool:
    """Let the judges answer theirs at once, then wait for the people."""
    for share, panel in zip(tasks, panels, strict=True):
        if panel is not None:
            _judged(config, store, share, panel, r)
    theirs = [t for share, panel in zip(tasks, panels, strict=True) if panel is None for t in share]
    if not theirs:
        return True
    others = sum(len(share) for share in tasks) * config.overlap - len(theirs) * config.overlap
    with store.read() as connection:
        state = rounds.waiting(connection, theirs)
    wanted = (
        min(max(config.answers - others, 1), state.expected) if config.answers else state.expected
    )
    with Progress(f"round {r} answers", wanted, quiet=config.quiet) as bar:
        while not state.over and state.done < wanted:
            parked = f", {state.parked} set aside for the lead" if state.parked else ""
            if not config.wait:
                _say(
                    f"round {r} waits for people: {state.done} of {wanted} answers{parked}. "
                    f"`heedful serve {config.workspace}` asks them; the same command goes on later"
                )
                return False
            bar.update(state.done)
            time.sleep(config.poll_seconds)
            with store.read() as connection:
                state = rounds.waiting(connection, theirs)
        bar.update(min(state.done, wanted))
    return True


def _judged(config: Config, store: Store, share: list[str], panel: Sequence[Rater], r: int) -> None:
    """Simulated raters and models answer in turn; the answers bear their names."""
    with store.write() as connection:
        ids = [people.ensure_judge(connection, _name(j)) for j in panel]
    with store.read() as connection:
        questions = reports.questions(connection, share)
    turns = [
        (task, k, (n + k) % len(panel))
        for n, task in enumerate(share)
        for k in range(config.overlap)
    ]
    asked = [
        (content.prompt_from_content(questions[task]["prompt"]), questions[task]["responses"])
        for task, _, _ in turns
    ]
    comparisons = asyncio.run(judge_all([panel[i] for _, _, i in turns], asked))
    for (task, k, i), comparison in zip(turns, comparisons, strict=True):
        with store.write() as connection:
            rounds.judge(
                connection, task, ids[i], comparison.ranking, key=f"iterate-{task}-{k}"[:64]
            )


def _name(judge: Rater) -> str:
    return str(getattr(judge, "name", type(judge).__name__))


def _collected(config: Config, store: Store, project: str, r: int, held_out: HeldOut) -> None:
    """The round's answers as a file; and with those before as what is learned from and what is measured on."""
    done = []
    for k in range(1, r + 1):
        folder = config.out / f"round-{k}"
        shares = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
        done.append(Round(folder / "comparisons.jsonl", [t for share in shares for t in share]))
    if not done[-1].comparisons.exists():
        freeze(store, project, done[-1], held_out)
    train, evaluation = (config.out / f"round-{r}" / name for name in (TRAIN, EVALUATION))
    if not train.exists():
        merge(store, config.keep, done, held_out, train=train, evaluation=evaluation)


def _optimised(config: Config, folder: Path, r: int, model: str, held_out: HeldOut) -> str:
    """Refit the reward model on old and new, optimise, evaluate; returns the new policy's folder."""
    own = vars(replace(config, seed=config.seed + r))
    shared = {name: own[name] for name in ("lora", "seed", "device", "quiet")}
    everything, evaluation = folder / TRAIN, folder / EVALUATION
    shared["eval_data"] = str(evaluation) if evaluation.exists() else None
    reward = folder / "reward"
    if not finished(reward):
        options = vars(config.reward)
        reward_model.run(
            reward_model.Config(model=model, data=str(everything), out=reward, **options, **shared)
        )
    after = folder / "policy"
    if not finished(after):
        prompts = config.prompts
        # A policy that an earlier release has begun to train goes on with the prompts that it began with.
        if config.optimise.method in ONLINE and ((folder / PROMPTS).exists() or not after.exists()):
            prompts = train_prompts(config.prompts, folder / PROMPTS, held_out)
        how = planned(
            config.optimise,
            model=model,
            reward=reward,
            comparisons=everything,
            prompts=prompts,
            out=after,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            **shared,
        )
        recipe_of(how).run(how)
    if config.held_out:
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
    ids: dict[str, str] = {}
    after = folder / "policy"
    with store.write() as connection:
        for name, kind in (("reward", "reward"), ("policy", config.optimise.method)):
            settings = yaml.safe_load((folder / name / "config.yaml").read_text(encoding="utf-8"))
            parent = ids[name] = content.add_run(
                connection,
                project,
                kind,
                str(folder / name),
                settings,
                seed=config.seed + r,
                parent=parent,
            )
        content.add_checkpoint(connection, str(after), fingerprint(after), run=ids["policy"])
    write_json(done, ids)


def _evaluated(config: Config, out: Path, model: str, reward: Path, reference: str, r: int) -> None:
    if (out / "evaluation.json").exists():
        return
    assert config.held_out
    result = evaluate.run(
        evaluate.Config(
            model=model,
            data=config.held_out,
            out=out,
            reward=(str(reward),),
            reference=reference,
            scorer=config.scorer,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            seed=config.seed,
            device=config.device,
            quiet=config.quiet,
        )
    )
    named = [k for k in ("reward", "length", "kl", "gold") if k in result]
    _say(f"round {r}, {out.name}: {', '.join(f'{k} {result[k]:.3g}' for k in named)}")


def _say(sentence: str) -> None:
    print(f"iterate: {sentence}", file=sys.stderr, flush=True)
