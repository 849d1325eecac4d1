"""The tables of who may answer what: groups, members of projects, what is asked of raters before the real work."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
)

from heedful.store.tables.columns import MAX_NAME, Exact, key, metadata, ref, timestamp

IN_PROJECT = "role IN ('lead', 'reviewer', 'rater')"
rater_group = Table(
    "rater_group",
    metadata,
    key(),
    Column("name", Exact(MAX_NAME), nullable=False, unique=True),
    timestamp(),
)
group_member = Table(
    "group_member",
    metadata,
    ref("rater_group", primary_key=True),
    ref("rater", primary_key=True, index=True),
    timestamp(),
)
project_member = Table(
    "project_member",
    metadata,
    ref("project", primary_key=True),
    ref("rater", primary_key=True, index=True),
    Column("role", String(8)),  # none: what a group or an open project gives
    Column("paused", Boolean, nullable=False),  # nothing here, whatever else gives a role
    timestamp(),
    CheckConstraint(IN_PROJECT, name="role"),
)
project_group = Table(
    "project_group",
    metadata,
    ref("project", primary_key=True),
    ref("rater_group", primary_key=True, index=True),
    Column("role", String(8), nullable=False),
    timestamp(),
    CheckConstraint(IN_PROJECT, name="role"),
)
invitation_pii = Table(  # whom a link is for; the row can be erased
    "invitation_pii",
    metadata,
    Column("invitation", String(36), ForeignKey("invitation.id"), primary_key=True),
    Column("name", Exact),
    Column("email", Exact),
    timestamp("sent_at", nullable=True),
    Column("problem", Exact),  # why the mail could not be sent
)
gold_explanation = Table(  # of a gold question's answer, the newest counts
    "gold_explanation",
    metadata,
    key(),
    ref("task", index=True),
    Column("body", Exact, nullable=False),
    timestamp(),
)
trial = Table(  # a gold question that is asked before the real work, not among it
    "trial",
    metadata,
    Column("assignment", String(36), ForeignKey("assignment.id"), primary_key=True),
    ref("project"),
    ref("rater"),
    Column("stage", String(13), nullable=False),  # training, qualification
    Column("attempt", Integer, nullable=False),  # of the qualification; 1 for training
    Index("ix_trial_rater", "rater", "project"),
    CheckConstraint("stage IN ('training', 'qualification')", name="stage"),
)
qualification = Table(  # how a rater stands in a project that asks for one
    "qualification",
    metadata,
    ref("project", primary_key=True),
    ref("rater", primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("state", String(8), nullable=False),  # asked, passed, failed; granted: by the lead
    Column("correct", Integer),  # of `asked`, when it was decided
    Column("asked", Integer),
    ref("rater", name="decided_by", nullable=True),
    timestamp("decided_at", nullable=True),
    CheckConstraint("state IN ('asked', 'passed', 'failed', 'granted')", name="state"),
)
