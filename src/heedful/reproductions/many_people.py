"""Many people, one model: what one reward makes of them, and what a reward and a policy do that ask whose they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

if TYPE_CHECKING:
    from torch import Tensor

MIDDLE = ("squared distance", "uniform", 0.5, 2.0)  # the named world
COUNTS = (0, 1, 2, 4, 8)
STEPS, NEW, SHARPNESS = 1500, 200, 100.0  # of the plane; users who are unseen; β
MODEL = {"hidden_size": 64, "layers": 2, "heads": 2, "context": 96}
# Axes → users, answers of each, and how they are learned from. Of four axes a rate of 3e-3 stops at .76 after 8
# answers, of .95 that are possible, however many users and epochs.
PERSONA = {
    2: (96, 24, {"epochs": 8, "batch_size": 16, "learning_rate": 3e-3}),
    4: (2048, 32, {"epochs": 8, "batch_size": 32, "learning_rate": 1e-3}),
}
HOW = {"schedule": "cosine", "quiet": True, "report_to": "none"}
# Of the question bot: itself (with 5 epochs a tenth of its answers are no sentences), its users' reward, and two steps
# from comparisons to a policy.
IMITATES = {"epochs": 15, "learning_rate": 3e-3}
LEARNS = {"epochs": 5, "learning_rate": 3e-3}
PREFERS = {"epochs": 2, "learning_rate": 3e-3}
SHARPENS = {"epochs": 3, "learning_rate": 1e-3, "loss": "dpo+0.05*preferred_ft", "beta": 0.1}


def run(seed: int, folder: Path, quick: bool) -> Result:
    """The exact table; the plane; statements on 2 and on 4 axes; the question bot."""
    found = exact_table(quick) | plane_users(seed, 100 if quick else STEPS)
    for axes in PERSONA if not quick else (2,):
        found |= persona(seed, folder / f"personas-{axes}", axes, quick)
    return found | question_bot(seed, folder / "admissions", quick)


# ── one reward, exactly ──────────────────────────────────────────────────────────────────────────


def exact_table(quick: bool) -> dict[str, Any]:
    """How far from the nearer goal one reward is highest, in every world; no chance is in it, so it is the same for
    every seed."""
    from heedful.worlds import plane

    def away(name: str, pairs: Any, share: float, sharpness: float) -> float:
        return min(plane.from_goals(plane.best_point(name, pairs, share, sharpness)))

    table = {
        f"{name}, {pairs}, β={sharpness:g}, {share:.0%}": away(name, pairs, share, sharpness)
        for name in ((MIDDLE[0],) if quick else plane.UTILITIES)
        for pairs in (("uniform",) if quick else ("uniform", "near the goals"))
        for sharpness in ((2.0,) if quick else plane.SHARPNESS)
        for share in plane.SHARES
    }
    middle = [name for name, distance in table.items() if distance >= 0.25]
    return {
        "one reward: from the nearer goal": away(*MIDDLE),
        "one reward: worlds in which it goes to the middle": float(len(middle)),
        "one reward: all worlds": float(len(table)),
        "table": [*table.items()],
    }


# ── the plane: users whose answers are of pairs of points ────────────────────────────────────────


def plane_users(seed: int, steps: int) -> dict[str, Any]:
    """Personal heads over a small network of points; trained on users of both goals, tried on new ones."""
    import torch

    from heedful.reproductions.vectors import CONTEXT, TARGETS, Personal
    from heedful.worlds import plane

    torch.manual_seed(seed)
    model = Personal(2)

    def drawn(users: int, each: int) -> tuple[Tensor, Tensor, Tensor]:
        """The goal of each user `[U]`, and answers `[U, each, 2]`: better and worse points."""
        goal = torch.randint(2, (users,))
        points = torch.rand(users, each, 2, 2)
        far = (points - plane.GOALS.float()[goal][:, None, None]).norm(dim=-1)
        first = torch.rand(users, each) < (SHARPNESS * (far[..., 1] - far[..., 0])).sigmoid()
        return goal, *torch.where(first[..., None, None], points, points.flip(2)).unbind(2)  # type: ignore[return-value]

    model.fit(lambda users, each: drawn(users, each)[1:], steps)
    found: dict[str, Any] = {}
    points = plane.grid().float()
    with torch.no_grad():
        goal, better, worse = drawn(NEW, CONTEXT + TARGETS)
        along: dict[int, Tensor] = {}
        for n in COUNTS:
            z = model.known(better[:, :CONTEXT], worse[:, :CONTEXT], torch.full((NEW,), n)).mean
            reward = model.body(points) @ (model.head.weight + model.heads.direction(z)).T
            at = points[reward.argmax(0)]
            near = (at - plane.GOALS.float()[goal]).norm(dim=1) < 0.1 + 1e-6
            found[f"plane: within .1 after {n}"] = float(near.float().mean())
            held = better[:, CONTEXT:], worse[:, CONTEXT:]
            found[f"plane: accuracy after {n}"] = float((model.margin(z, *held) > 0).float().mean())
            along[n] = z
        shuffled = model.margin(along[8].roll(1, 0), *held) > 0
        found["plane: accuracy of another's z"] = float(shuffled.float().mean())
        axis = along[8][goal == 0].mean(0) - along[8][goal == 1].mean(0)
        for n in (2, 8):
            place = along[n] @ axis / axis.norm()
            for k in (0, 1):
                found[f"latent {k} after {n}"] = place[goal == k].tolist()
    return found


# ── statements and the question bot: text, by the commands ───────────────────────────────────────


def heedful(command: str, **how: Any) -> None:
    """A command, unless it has left what it makes: a run that was interrupted goes on."""
    from heedful.api import run
    from heedful.run import finished

    if not (command.startswith("train") and finished(how["out"])):
        run(command, **how)


def shortly(how: dict[str, Any], quick: bool) -> dict[str, Any]:
    """The same for one epoch, where it is to show that it works."""
    return how | {"epochs": 1} if quick else how


def made(seed: int, folder: Path, texts: Sequence[str]) -> Path:
    """A small model of random weights that reads these texts."""
    from heedful.models.new import new_model, train_tokenizer
    from heedful.models.save import save_model

    tokenizer = train_tokenizer(texts, 400)
    out = folder / "model"
    out.mkdir(parents=True, exist_ok=True)
    save_model(new_model("llama", tokenizer, **MODEL, seed=seed), tokenizer, out)
    return out


def persona(seed: int, folder: Path, axes: int, quick: bool) -> dict[str, float]:
    """Accuracy for unseen users on unseen statements, by `train reward --personal` from nothing."""
    from heedful.data.files import write_rows
    from heedful.worlds import personas

    users, each, learned = PERSONA[axes]
    rows = list(personas.rows("train", users, each, axes, seed))
    model = made(
        seed, folder, [row[side] for row in rows for side in ("prompt", "chosen", "rejected")]
    )
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "new.jsonl", personas.rows("held_out", 48, 24, axes, seed))
    heedful(
        "train reward", personal=True, model=str(model), data=str(folder / "train.jsonl"), answers=8,
        eval_data=str(folder / "new.jsonl"), out=folder / "reward", seed=seed, **shortly(HOW | learned, quick),
    )  # fmt: skip
    told = json.loads((folder / "reward" / "evaluation.json").read_text(encoding="utf-8"))
    after = {
        f"{axes} axes: accuracy after {n}": of["accuracy"] for n, of in told["answers"].items()
    }
    return after | {f"{axes} axes: accuracy of another's z": told["accuracy_of_others"]}


def question_bot(seed: int, folder: Path, quick: bool) -> dict[str, float]:
    """A policy by DPO on all comparisons, and one on the same comparisons behind the sentence of the rater's group;
    the share of answers about aid that new users get after some answers of theirs."""
    from heedful.data.files import write_rows
    from heedful.data.sources import read_comparisons
    from heedful.models.load import load_reward_model, load_tokenizer
    from heedful.models.personal import load_personal_heads
    from heedful.recipes.profile import nearest, read_profiles
    from heedful.worlds import admissions

    data = {n: str(p) for n, p in admissions.write(folder, seed=seed, demonstrations=400).items()}
    texts = [
        text
        for c in read_comparisons(data["comparisons"])
        for text in (str(c.prompt), *c.responses)
    ]
    start, common = made(seed, folder, texts), HOW | {"seed": seed}
    heedful(
        "train sft", model=str(start), data=data["demonstrations"], out=folder / "sft",
        **shortly(common | IMITATES, quick),
    )  # fmt: skip
    heedful(
        "train reward", personal=True, model=str(folder / "sft"), data=data["comparisons"], eval_data=data["new_users"],
        out=folder / "reward", **shortly(common | LEARNS, quick),
    )  # fmt: skip
    plural = folder / "plural"
    heedful("pluralism", reward=str(folder / "reward"), data=data["comparisons"], out=plural)
    for name, of in (("one", data["comparisons"]), ("each", str(plural / "comparisons.jsonl"))):
        how, first = common | {"data": of, "batch_size": 16}, folder / f"{name}-preferred"
        preferred = shortly(how | PREFERS, quick)
        heedful("train preferred_ft", model=str(folder / "sft"), out=first, **preferred)
        heedful("train dpo", model=str(first), out=folder / name, **shortly(how | SHARPENS, quick))

    def topics(model: str, sentence: str | None) -> list[str]:
        """What answers to questions about other universities are about."""
        file, context = folder / "said.jsonl", folder / "context.txt"
        context.write_text(sentence or "-", encoding="utf-8")
        how = {} if sentence is None else {"context": context}
        heedful(
            "sample", model=str(folder / model), data=data["held_out"], n=4, max_tokens=24, out=file, seed=seed,
            quiet=True, **how,
        )  # fmt: skip
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [admissions.voice("", row["completion"]) for row in rows]

    def share(said: Sequence[str], *which: str) -> float:
        return sum(topic in which for topic in said) / len(said)

    one, profiles = topics("one", None), read_profiles(plural / "profiles.json")
    said = {sentence: topics("each", sentence) for sentence, _ in profiles}
    model, tokenizer = load_reward_model(str(folder / "reward")), load_tokenizer(folder / "reward")
    load_personal_heads(model, str(folder / "reward"))
    users: dict[str, list[Any]] = {}
    for c in read_comparisons(data["new_users"]):
        users.setdefault(c.rater or "", []).append(c)
    found = {"bot, one policy: aid": share(one, "aid"), "bot: groups found": float(len(profiles))}
    served = share(one, "rank", "sport")
    for n in COUNTS:
        told: dict[str, list[str]] = {"minority": [], "majority": []}
        for user, answers in users.items():
            sentence = nearest(model, tokenizer, profiles, answers[:n])
            told[admissions.kind_of(int(user.split()[1]))].append(sentence)
        aid = fmean(share(said[s], "aid") for s in told["minority"])
        lost = served - fmean(share(said[s], "rank", "sport") for s in told["majority"])
        found |= {
            f"bot: aid for the minority after {n}": aid,
            f"bot: lost by the majority after {n}": lost,
        }
    write_rows(
        folder / "sentences.jsonl",
        ({"sentence": s, "aid": share(said[s], "aid")} for s, _ in profiles),
    )
    return found


def figure(seeds: Sequence[Result]) -> Figure:
    """Where new users of both goals lie in z, along the line between the means: densities."""
    bins, low, high = 30, -4.0, 4.0
    width = (high - low) / bins

    def density(k: int, n: int) -> list[tuple[float, float]]:
        values = [x for s in seeds for x in s[f"latent {k} after {n}"]]
        counts = [0] * bins
        for x in values:
            counts[min(bins - 1, max(0, int((x - low) / width)))] += 1
        return [(low + (i + 0.5) * width, c / len(values) / width) for i, c in enumerate(counts)]

    goals = ("(0, 0)", "(1, 1)")
    return Figure(
        title="New users of the plane in z, on the line between the two goals' means",
        x="z along that line",
        y="density",
        lines={f"{goals[k]}, {n} answers": density(k, n) for n in (2, 8) for k in (0, 1)},
    )


REPRODUCTION = Reproduction(
    name="many-people",
    claim="One reward for people who want different things goes to the middle or to the majority; a reward that is "
    "told of its user by a few of their answers finds what each of them wants, and a policy can follow it.",
    source="Poddar et al. 2024 (variational preference learning)",
    what="The plane: two goals in the unit square; one Bradley–Terry reward of all users computed exactly on 441 "
    f"points, in 18 worlds (utility × pairs asked × noise) × 3 shares; {NEW} new users of heedful's personal heads "
    f"over a small network, {STEPS} steps. Personas: generated statements, users are signs over 2 or 4 axes, new users "
    "and held-out statements, a transformer of two layers from nothing by `train reward --personal`. Admissions: a bot "
    "of which one user in five wants to hear of aid; `sft`, `reward --personal`, `pluralism`, `dpo` with and without "
    "the sentence of the rater's group; new users ask about other universities. Of four axes four answers can "
    "tell .842 at most, 1 − ½·(3/4)⁴. This is a third try, by the same criteria. In the first four axes reached .72 "
    "(192 users, a learning rate of 3e-3), the one policy spoke of aid in .09 of its answers, and the minority heard "
    "of it in .86 (5 epochs of imitation, now 15, and DPO at 3e-4, now 1e-3, with .2 times the likelihood of the "
    "preferred answers, now .05). In the second all but four axes was met, which reached .78 (1,024 users, 3 epochs at "
    "1e-3; now 2,048 and 8). Chosen by pilots with other seeds.",
    frozen="2026-11-30",
    criteria=(
        Criterion("one reward, from both goals", "one reward: from the nearer goal", "at least", 0.25, "every seed"),
        Criterion("plane: within .1 of their goal after 8 answers", "plane: within .1 after 8", "at least", 0.9),
        Criterion("the same after 2", "plane: within .1 after 2", "at least", 0.8),
        Criterion("personas, 2 axes, after 4 answers", "2 axes: accuracy after 4", "at least", 0.9),
        Criterion("personas, 4 axes, after 4 answers", "4 axes: accuracy after 4", "at least", 0.8),
        Criterion("one policy shows no aid", "bot, one policy: aid", "at most", 0.02),
        Criterion("aid for the minority after 4 answers", "bot: aid for the minority after 4", "at least", 0.9),
        Criterion("what the majority loses", "bot: lost by the majority after 4", "at most", 0.02),
    ),
    run=run,
    minutes=12,
    figure=figure,
)  # fmt: skip
