"""The tables of how a question came to be asked, and of what people were told, agreed to and took back."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table

from heedful.store.tables.columns import Exact, Number, key, metadata, ref, timestamp

question_drawn = Table(  # of a question that was given where a part is asked by chance
    "question_drawn",
    metadata,
    Column("assignment", String(36), ForeignKey("assignment.id"), primary_key=True),
    Column("by_chance", Boolean, nullable=False),
    Column("propensity", Number, nullable=False),  # that it came next, of all that were left
)
disclosure = Table(  # what raters are told before their first answer; the newest counts, an empty one is none
    "disclosure",
    metadata,
    key(),
    ref("project", index=True),
    Column("body", Exact, nullable=False),
    Column("sha256", String(64), nullable=False),
    timestamp(),
)
own_response = (
    Table(  # a question that shows somebody a response of their own: they are not asked it
        "own_response",
        metadata,
        Column("task", String(36), ForeignKey("task.id"), primary_key=True),
        ref("rater", primary_key=True, index=True),
    )
)
agreement = Table(
    "agreement",
    metadata,
    ref("disclosure", primary_key=True),
    ref("rater", primary_key=True, index=True),
    timestamp(),
)
withdrawal = Table(  # while it is there nothing that they said in the project is exported, nor are they asked
    "withdrawal",
    metadata,
    ref("project", primary_key=True),
    ref("rater", primary_key=True),
    ref("rater", name="withdrawn_by", nullable=True),  # none: at the command line
    timestamp(),
    Index("ix_withdrawal_rater", "rater"),
)
ASKED = (question_drawn, own_response, disclosure, agreement)  # immutable
