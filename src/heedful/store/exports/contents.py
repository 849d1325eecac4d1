"""What is asked and answered, apart from judgments: rows of prompts, responses and demonstrations, and of which forms
prompts are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Text, select, type_coerce

from heedful.store.exports import export, layout
from heedful.store.kinds import KINDS
from heedful.store.project import records
from heedful.store.tables.columns import Json
from heedful.store.tables.schema import completion, demonstration, prompt, task

# Forms that are no judgments; all others are made of those.
TABLES = {"prompts": prompt, "samples": completion, "demonstrations": demonstration}
BY_RULE = ("scores", "unpaired")  # that verdicts on the replies of conversations become, too
# A prompt of one message as it stands in the database, if it says nothing else and has no quote.
PLAIN = re.compile(r'\[\{"content":"[^"]*","role":"[^"]*"\}\]')


def forms(connection: Connection, dataset: str, prompts: Sequence[str]) -> set[str]:
    """Of which forms these prompts are, as rows have them."""
    of_prompts: set[str] = set()
    if dataset == "demonstrations" and not played(connection).isdisjoint(prompts):
        of_prompts |= {"mixed", "tools"}
    talks, both = talked(connection) if dataset in BY_RULE else (set[str](), set[str]())
    reads = Json().process_result_value
    for part in records.batches(prompts):
        query = select(prompt.c.id, type_coerce(prompt.c.content, Text)).where(
            prompt.c.id.in_(part)
        )
        for key, words in connection.execute(query):
            if PLAIN.fullmatch(words):  # as nearly always, and told without reading it
                of_prompts.add("messages")
                continue
            content = reads(words, connection.dialect)
            first = export.opening(content) if dataset == "turns" or key in talks else content
            of_prompts |= layout.form_of(layout.with_template_columns({"prompt": first}))
            if key in both:
                of_prompts |= layout.form_of(layout.with_template_columns({"prompt": content}))
    return of_prompts


def played(connection: Connection) -> set[str]:
    """The prompts with whose tasks people play: of these demonstrations are conversations with calls of tools."""
    kinds = [kind.name for kind in KINDS.values() if kind.plays]
    return set(connection.execute(select(task.c.prompt).where(task.c.kind.in_(kinds))).scalars())


def talked(connection: Connection) -> tuple[set[str], set[str]]:
    """The prompts that conversations begin with, whose rows by rule are conversations whatever the prompt is; and those
    of these about which something else is asked, too."""
    kinds = [
        kind.name for kind in KINDS.values() if kind.talks and set(BY_RULE) & set(kind.exports)
    ]
    begun = select(task.c.prompt).where(task.c.kind.in_(kinds))
    both = select(task.c.prompt).where(task.c.kind.not_in(kinds), task.c.prompt.in_(begun))
    one, other = (set(connection.execute(query).scalars()) for query in (begun, both))
    return one, other


def rows(connection: Connection, dataset: str, ids: Sequence[str]) -> Iterator[export.Rows | str]:
    """The rows of each of these."""
    table = TABLES[dataset]
    stored = {r.id: r for r in connection.execute(select(table).where(table.c.id.in_(list(ids))))}
    if dataset == "prompts":
        for key in ids:
            row = stored[key]
            names = ("source", "licence", "language", "split")
            yield [{"prompt": row.content} | {name: row._mapping[name] for name in names}]
        return
    prompt_ids = {r.prompt for r in stored.values()}
    query = select(prompt.c.id, prompt.c.content).where(prompt.c.id.in_(prompt_ids))
    contents = {r.id: r.content for r in connection.execute(query)}
    judgment_ids = [
        r.judgment for r in stored.values() if dataset == "demonstrations" and r.judgment
    ]
    judgments = (
        {j.judgment.id: j for j in records.load(connection, judgment_ids)} if judgment_ids else {}
    )
    for key in ids:
        row, content = stored[key], contents[stored[key].prompt]
        if dataset == "samples":
            yield [export.sample(content, row)]
        elif (j := judgments.get(row.judgment)) and j.turns:
            yield export.play(row, j)
        else:
            yield [export.demonstration(content, row, j)]
