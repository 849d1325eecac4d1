"""A profile: the sentence that stands for what somebody wants, found from a few of their answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from sqlalchemy import Connection
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.configs.profile import Config, refuse_nonsense
from heedful.data.reading import sources_of
from heedful.data.sources import read_comparisons
from heedful.disk import write_text
from heedful.errors import UserError
from heedful.models.load import load_reward_model, load_tokenizer
from heedful.models.personal import load_personal_heads
from heedful.rewards.personal import known_by
from heedful.store.database.db import now
from heedful.store.lead import quality
from heedful.store.membership import profiles as membership
from heedful.store.project import projects
from heedful.transfer.sources import materialise
from heedful.transfer.workspace import opened, project_of
from heedful.types import Comparison

REPORT = "pluralism.json"  # of heedful pluralism, beside the profiles
Profiles = Sequence[tuple[str, list[float]]]  # (sentence, z), the largest group first


def run(config: Config) -> Path | None:
    """Writes the sentence of the nearest profile, and prints it; of nobody's answers the largest group's. Of a
    workspace everybody's, which are kept there."""
    refuse_nonsense(config)
    profiles = read_profiles(config.profiles)
    config = replace(config, reward=config.reward or reward_of(config.profiles))
    if config.workspace is not None:
        _everybody(config, config.workspace, profiles)
        return None
    assert config.out is not None
    told = [name for name in sources_of(config.data) if not _empty(Path(name))]
    answers = read_comparisons(told, columns=config.columns) if told else []
    sentence = profiles[0][0]
    if answers:
        sentence = nearest(*_model(config, profiles), profiles, answers)
    write_text(config.out, sentence + "\n")
    print(f"{len(answers)} answers: {sentence}")
    return config.out


def _empty(file: Path) -> bool:
    """Whether a file says nothing, as that of somebody does who has not answered yet."""
    return file.is_file() and not file.read_bytes().strip()


def _everybody(config: Config, workspace: Path, profiles: Profiles) -> None:
    version = membership.version_of(config.profiles.read_bytes())
    with opened(workspace) as store:
        project = store.in_read(lambda connection: project_of(connection, config.project))
        name, made_at, stale, few = store.in_read(
            lambda connection: (
                projects.name_of(connection, project),
                now(connection),
                *_due(connection, project, version),
            )
        )
        by_rater: dict[str, list[Comparison]] = defaultdict(list)
        for c in read_comparisons(materialise(f"db:{workspace}#{name}", "rankings")):
            if c.rater in stale:
                by_rater[c.rater].append(c)
        told: dict[str, str] = {}
        if by_rater:
            known = _model(config, profiles)
            told = {who: nearest(*known, profiles, said) for who, said in by_rater.items()}
        kept = store.in_write(
            lambda connection: membership.keep(
                connection, project, told, version=version, made_at=made_at
            )
        )
    print(
        f"{kept} people of {name} have a new profile from their answers; they see it under Your answers"
        + (
            f"; not yet of {few}, who compared fewer than {membership.FEWEST} questions"
            if few
            else ""
        )
    )


def _due(connection: Connection, project: str, version: str) -> tuple[set[str], int]:
    """Pseudonyms of those of whom one is to be made, and of how many more it is too early."""
    compared = quality.compared(connection, project)
    stale = membership.outdated(connection, project, version) & compared.keys()
    enough = {who for who in stale if compared[who] >= membership.FEWEST}
    return enough, len(stale - enough)


def _model(config: Config, profiles: Profiles) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    assert config.reward is not None
    model = load_reward_model(config.reward, device=config.device)
    if (size := load_personal_heads(model, config.reward).size) != len(profiles[0][1]):
        raise UserError(
            f"{config.profiles} has profiles of {len(profiles[0][1])} dimensions and {config.reward} of {size}: "
            "they are not of one model"
        )
    return model, load_tokenizer(config.reward)


def reward_of(profiles: Path) -> str:
    """The reward model that pluralism.json beside the profiles names, as seen from there. UserError where none is."""
    try:
        report = json.loads((profiles.parent / REPORT).read_text(encoding="utf-8"))
        named = str(report["reward"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"--reward: {REPORT} beside {profiles} does not say which reward model the profiles are of"
        ) from error
    beside = profiles.parent / named
    return str(beside) if beside.exists() else named


def nearest(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    profiles: Profiles,
    answers: Sequence[Comparison],
) -> str:
    """The sentence of the profile whose z is nearest to that of who gave the answers; the first's for none."""
    if not answers:
        return profiles[0][0]
    z = known_by(model, tokenizer, answers).mean.cpu()
    centres = torch.tensor([centre for _, centre in profiles])
    return profiles[int(torch.cdist(z, centres).argmin())][0]


def read_profiles(path: Path) -> list[tuple[str, list[float]]]:
    """(sentence, z) of each, the largest group first. UserError for a file that holds none."""
    if not path.is_file():
        raise UserError(f"--profiles {path}: there is no such file; `heedful pluralism` writes it")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [(str(row["sentence"]), [float(x) for x in row["z"]]) for row in rows]
    except (ValueError, TypeError, KeyError):
        found = []
    if not found or len({len(z) for _, z in found}) > 1:
        raise UserError(
            f"--profiles {path} holds no profiles; `heedful pluralism` writes a profiles.json that does"
        )
    return found
