"""The tables of webhooks: where judgments are sent, and what became of each."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table

from heedful.store.tables.columns import Exact, key, metadata, ref, timestamp

webhook = Table(
    "webhook",
    metadata,
    key(),
    ref("project"),
    Column("url", Exact, nullable=False),
    Column("secret", String(64), nullable=False),
    timestamp(),
    Column("added_by", String(36)),  # a rater's id; without a foreign key, as in `assignment`
)
webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    key(),
    ref("webhook"),
    ref("judgment"),
    Column("event", String(20), nullable=False, server_default="judgment"),  # or alert
    Column("state", String(8), nullable=False),  # waiting, sent, failed
    Column("attempts", Integer, nullable=False),
    timestamp("due_at"),
    Column("status", Integer),  # what was answered last
    Column("error", Exact),  # or why nothing was
    Index("ix_webhook_delivery_due", "state", "due_at"),
)
