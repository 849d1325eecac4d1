"""Active choice: samples → the pairs that are worth asking people about, each with the probability of being asked;
or the open questions of a workspace in the order of what their answers would tell."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Connection
from torch import Tensor
from transformers import PreTrainedModel

from heedful.configs.choose import Config, refuse_nonsense
from heedful.data.collate import collate
from heedful.data.reading import named
from heedful.data.samples import as_group
from heedful.data.sources import prompt_text, read_comparisons, read_samples, write_rows
from heedful.data.tokens import encode_group
from heedful.errors import UserError
from heedful.models.forward import scalar_head
from heedful.models.limits import context_length
from heedful.models.load import load_reward_model, load_tokenizer
from heedful.models.personal import all_states, load_personal_heads
from heedful.raters.choosing import (
    DRAWS,
    STRATEGIES,
    Telling,
    belief,
    best_pair,
    in_turn,
    questions,
)
from heedful.recipes.pluralism import differences, ordered
from heedful.rewards.personal import MICRO_BATCH_TOKENS
from heedful.store.lead import reports, steering
from heedful.store.project import projects
from heedful.store.project.content import prompt_from_content
from heedful.transfer.sources import materialise
from heedful.transfer.workspace import opened, project_of
from heedful.types import Comparison, Prompt

IN_TURN = (
    200  # questions of a workspace that are put in turn; those behind them by what each tells then
)
SPREAD = 2.0  # standard deviation of a usual pair's margin before anybody was asked


def run(config: Config) -> Path | None:
    """Returns the file of the chosen samples, two of each question, the most telling first; None where it was a
    workspace's questions that were put in order."""
    refuse_nonsense(config)
    if config.workspace is not None:
        _order(config, config.workspace)
        return None
    assert config.out is not None
    told = _told(config, config.answered)
    groups = grouped(read_samples(materialise(config.data, "samples", split="all"), config.columns))
    if not groups:
        raise UserError(f"{named(config.data)}: no prompt has two different responses to compare")
    if config.number > len(groups):
        raise UserError(
            f"--number {config.number}: {named(config.data)} has {len(groups)} prompts with two different responses"
        )
    texts = [(as_group(rows).prompt, [str(row["completion"]) for row in rows]) for rows in groups]
    how = {"number": config.number, "seed": config.seed, "device": config.device}
    best = telling(config.reward, told, texts, config.strategy, **how)
    asked = questions(
        best,
        [len(rows) for rows in groups],
        config.number,
        strategy=config.strategy,
        uniform=config.uniform,
        seed=config.seed,
    )
    rows = (
        dict(groups[q.group][k])
        | {"strategy": q.strategy, "score": q.score, "propensity": q.propensity}
        for q in asked
        for k in q.pair
    )
    write_rows(config.out, rows)
    print(
        f"{len(asked)} questions, {sum(q.strategy == 'random' for q in asked)} of them by chance; "
        f"`heedful import samples {config.out} --ask pair` asks them"
    )
    return config.out


def _order(config: Config, workspace: Path) -> None:
    """The open questions of a project, the most telling first, some by chance."""
    with opened(workspace) as store:
        project = store.in_read(lambda connection: project_of(connection, config.project))
        name = store.in_read(lambda connection: projects.name_of(connection, project))
        source = config.answered or f"db:{workspace}#{name}"
        told = _told(config, source)

        def asked(connection: Connection) -> dict[str, Any]:
            return reports.questions(connection, steering.unanswered(connection, project))

        several = {
            key: q for key, q in store.in_read(asked).items() if len(set(q["responses"])) > 1
        }
        if not several:
            raise UserError(
                f"{workspace}: no open question of {name} asks which response is better"
            )
        texts = [
            (prompt_from_content(q["prompt"]), list(dict.fromkeys(q["responses"])))
            for q in several.values()
        ]
        how = {"number": min(IN_TURN, len(several)), "seed": config.seed, "device": config.device}
        best = telling(config.reward, told, texts, config.strategy, **how)
        values = {key: value for key, (_, value) in zip(several, best, strict=True)}
        about = {"strategy": config.strategy, "reward": config.reward}
        moved = steering.prioritise(store, project, values, actor=None, **about)
        settings = {"order": "priority", "order_by_chance": config.uniform}
        store.in_write(lambda c: projects.change(c, project, settings, actor=None))
    print(
        f"{len(values)} questions of {name} are asked in the order of what they tell ({moved} answers are still "
        f"wanted), {config.uniform:.0%} of them by chance"
    )


def _told(config: Config, source: str) -> list[Comparison]:
    """What has been answered; of somebody new nothing."""
    if config.strategy == "newcomer":
        return []
    return read_comparisons(materialise(source, "rankings"))


def telling(
    reward: str,
    answered: Sequence[Comparison],
    groups: Sequence[tuple[Prompt, Sequence[str]]],
    strategy: str,
    *,
    number: int,
    seed: int = 0,
    device: str = "cpu",
) -> list[Telling]:
    """The most telling pair of the responses to each prompt, as the reward model's last layer is unsure of it, and what
    it tells, `number` of them `in_turn`; `newcomer`: as a personal reward is unsure of what somebody wants of whom it
    knows nothing.

    UserError where nobody has ordered anything yet.
    """
    pairs = ordered(answered)
    if not pairs.row and strategy != "newcomer":
        raise UserError(
            "nobody has put two responses in an order yet, so there is nothing to choose by"
        )
    model = load_reward_model(reward, device=device)
    if strategy == "newcomer":
        strategy, draws = "bald", _of_anybody(model, reward, seed)
    else:
        d = differences(model, reward, answered, pairs)
        scale = SPREAD / d.square().sum(1).mean().sqrt().clamp(min=1e-9)
        draws = scale * belief(scale * d, weight=torch.tensor(pairs.weight), seed=seed).float()
    tokenizer, limit = load_tokenizer(reward), context_length(model)
    rng = random.Random(f"choose/{seed}")
    pair, margin = [], []
    for prompt, responses in groups:
        samples = encode_group(tokenizer, prompt, responses, max_length=limit)
        scores = draws @ all_states(model, collate(samples), MICRO_BATCH_TOKENS).T
        best, of_best = best_pair(strategy, scores, rng)
        pair.append(best)
        margin.append(of_best)
    told_each = in_turn(torch.stack(margin, 1), number, STRATEGIES[strategy])
    return list(zip(pair, told_each.tolist(), strict=True))


@torch.no_grad()
def _of_anybody(model: PreTrainedModel, reward: str, seed: int) -> Tensor:
    """Weights of the last layer `[DRAWS, d]` for so many z of the prior: what people want who have said nothing yet."""
    heads = load_personal_heads(model, reward)
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(DRAWS, heads.size, generator=generator).to(model.device)
    return (scalar_head(model).weight.float() + heads.direction(z)).cpu()


def grouped(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The different responses of each prompt, of those that have two."""
    prompts: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = prompt_text(as_group([row]).prompt)
        prompts.setdefault(key, {}).setdefault(str(row["completion"]), row)
    return [list(texts.values()) for texts in prompts.values() if len(texts) > 1]
