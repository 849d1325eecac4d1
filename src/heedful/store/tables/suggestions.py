"""The tables of what models suggest about questions, and to whom it was shown. No suggestion is a judgment."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table, UniqueConstraint

from heedful.store.tables.columns import MAX_NAME, Exact, Json, key, metadata, ref, timestamp

suggestion = Table(
    "suggestion",
    metadata,
    key(),
    ref("task"),
    Column("source", Exact(MAX_NAME), nullable=False),  # who proposed: llm:runs/sft, runs/reward
    Column("version", String(64), nullable=False),  # of it; empty where nobody can tell
    Column("ranks", Json, nullable=False),  # in the order of task.completions
    timestamp(),
    UniqueConstraint("task", "source", "version"),
)
suggestion_shown = Table(  # drawn when the question is given, so that its effect can be measured
    "suggestion_shown",
    metadata,
    Column("assignment", String(36), ForeignKey("assignment.id"), primary_key=True),
    ref("suggestion"),
    ref("project"),
    Column("shown", Boolean, nullable=False),  # false: hidden, to compare with
    Index("ix_suggestion_shown_project", "project", "assignment"),
)
