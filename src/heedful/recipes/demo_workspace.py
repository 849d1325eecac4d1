"""The demo's folder as a workspace: its comparisons for the lead to look at, new pairs for people to judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, func, select

from heedful.data.sources import prompt_of, read_comparisons, read_samples
from heedful.recipes import init
from heedful.store.database.db import open_store
from heedful.store.lead import rounds
from heedful.store.membership import people
from heedful.store.project import content, projects
from heedful.store.tables.schema import judgment, rater
from heedful.types import Comparison, Prompt
from heedful.worlds import scorer

PROJECT = "capitals"
GOLD = 12  # questions whose answer is known
GUIDELINES = """\
# Which answer would you rather get?

Somebody asked a small question about the world. Two answers came back.

- **Right beats wrong.** Lima is the capital of Peru; Mordor is not.
- **Short beats long** when both are right. Nobody asked for a postcard.
- **"I don't know" beats a wrong answer**, and loses to a right one.
- **Nobody likes to be called a turnip.** A rude answer is worse than any other, even when it is right.

Use the keys: `1` to `4` if A is better, `5` to `8` if B is, further out the surer you are. `t` is a tie, `b` says
that both are bad. When in doubt, say what you would rather have been told yourself.
"""
ITERATE = """\
# heedful iterate {out}/iterate.yaml
# One round: the SFT model answers, you compare (heedful serve {out}), and it learns from you.
workspace: {out}
project: iterate
model: {out}/runs/sft
prompts: {out}/data/prompts.jsonl
held_out: {out}/data/held_out.jsonl
scorer: capitals
out: {out}/runs/iterate
rounds: 1
prompts_per_round: 100
responses: 2
raters: [people]            # or: [people, capitals] to share the work with simulated raters
# What is learnt from besides: the simulated raters' comparisons, and what people have said in the project capitals.
keep: [{out}/comparisons.jsonl, "db:{out}#capitals"]
reward: {{epochs: 2, learning_rate: 1e-3}}
optimise: {{method: dpo, learning_rate: 3e-4, beta: 0.2}}
"""


def run(out: Path, *, judged: int, asked: int) -> None:
    """Turn the demo's folder into a workspace: `judged` questions with answers, `asked` that wait for people.

    All in one transaction; where an earlier call has made it, it is left as it is.
    """
    init.run(init.Config(folder=out))
    comparisons = read_comparisons(out / "comparisons.jsonl")[:judged]
    questions = list(islice(_several(out / "samples.jsonl"), judged, judged + asked))

    def fill(connection: Connection) -> None:
        if projects.by_name(connection, PROJECT):
            return
        project = projects.create(connection, PROJECT)
        projects.write_guidelines(connection, project, GUIDELINES, actor=None)
        _judged(connection, project, comparisons)
        _asked(connection, project, questions, str(out / "runs/sft"))

    store = open_store(out)
    try:
        store.in_write(fill)
    finally:
        store.close()
    text = ITERATE.format(out=out.as_posix())
    (out / "iterate.yaml").write_text(text, encoding="utf-8")


def answers_of_people(out: Path) -> int:
    """How many judgments in a workspace are by people."""
    if not (out / "heedful.db").exists():
        return 0
    store = open_store(out)
    try:
        with store.read() as connection:
            by_people = judgment.join(rater, rater.c.id == judgment.c.rater)
            query = select(func.count()).select_from(by_people).where(rater.c.role != "judge")
            return connection.execute(query).scalar_one()
    finally:
        store.close()


def _judged(connection: Connection, project: str, comparisons: Sequence[Comparison]) -> None:
    """What the simulated raters have said already."""
    for i, comparison in enumerate(comparisons):
        prompt = content.add_prompt(
            connection, project, comparison.prompt, source="comparisons.jsonl"
        )
        ids = [
            content.add_completion(connection, prompt, r, model="sft") for r in comparison.responses
        ]
        kind = "pair" if len(ids) == 2 else "rank"
        task = content.add_task(
            connection, project, kind, prompt, ids, strategy="import", propensity=1.0
        )
        judge = people.ensure_judge(connection, comparison.rater or "somebody")
        rounds.judge(connection, task, judge, comparison.ranking, key=f"demo-{i}")


def _asked(
    connection: Connection,
    project: str,
    questions: Sequence[tuple[Prompt, list[str]]],
    model: str,
) -> None:
    """Pairs for people, some of them with a known answer."""
    gold = scorer(PROJECT)
    known = 0
    for prompt, texts in questions:
        key = content.add_prompt(connection, project, prompt, source="samples.jsonl")
        values = [gold(prompt, t) for t in texts]
        clear = sorted(range(len(texts)), key=lambda k: values[k])
        worst, best = clear[0], clear[-1]
        sure = known < GOLD and values[best] > 0.5 and values[worst] < -0.5
        pair = (best, worst) if sure else (0, 1)
        ids = [content.add_completion(connection, key, texts[k], model=model) for k in pair]
        answer = {"ranks": {ids[0]: 1, ids[1]: 2}} if sure else None
        known += sure
        content.add_task(connection, project, "pair", key, ids, propensity=1.0, gold=answer)


def _several(path: Path) -> Iterator[tuple[Prompt, list[str]]]:
    """Prompts that got at least two different answers, with those."""
    groups: dict[str, tuple[Prompt, dict[str, None]]] = {}
    for row in read_samples(path):
        prompt = prompt_of("samples", row)
        texts = groups.setdefault(repr(row["prompt"]), (prompt, {}))[1]
        if row["completion"].strip():
            texts[row["completion"]] = None
    return ((prompt, list(texts)) for prompt, texts in groups.values() if len(texts) > 1)
