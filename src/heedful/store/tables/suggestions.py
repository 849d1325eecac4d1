"""The tables of what models suggest and criticise, and to whom it was shown. None of it is a judgment."""

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
model_critique = Table(  # what a model says against a response, shown to raters who ask for it
    "model_critique",
    metadata,
    key(),
    ref("task"),
    ref("completion"),
    Column("source", Exact(MAX_NAME), nullable=False),
    Column("version", String(64), nullable=False),
    Column("text", Exact, nullable=False),
    timestamp(),
    UniqueConstraint("task", "completion", "source", "version"),
)
critique_offered = Table(  # drawn when the question is given: whether its rater can ask
    "critique_offered",
    metadata,
    Column("assignment", String(36), ForeignKey("assignment.id"), primary_key=True),
    ref("project"),
    Column("source", Exact(MAX_NAME), nullable=False),
    Column("offered", Boolean, nullable=False),  # false: withheld, to compare with
    Index("ix_critique_offered_project", "project", "assignment"),
)
critique_asked = Table(  # that a rater has asked for one, and was shown it
    "critique_asked",
    metadata,
    Column("assignment", String(36), ForeignKey("assignment.id"), primary_key=True),
    Column("critique", String(36), ForeignKey("model_critique.id"), primary_key=True),
    timestamp(),
)

TOLD = (suggestion, suggestion_shown, model_critique, critique_offered, critique_asked)
