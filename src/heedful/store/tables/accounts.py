"""The tables of people: who they are, how they sign in. All that names a person is in `rater_pii`."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Float, ForeignKey, String, Table, Text

from heedful.store.tables.columns import MAX_NAME, Exact, Json, key, metadata, ref, timestamp

rater = Table(
    "rater",
    metadata,
    key(),
    Column("pseudonym", Exact(MAX_NAME), nullable=False, unique=True),
    Column("role", String(8), nullable=False),  # owner, lead, rater; judge: a simulation or a model
    Column("status", String(8), nullable=False),  # active, paused, gone
    Column("settings", Json, nullable=False),  # daily_limit, cost_per_hour
    timestamp(),
    CheckConstraint("role IN ('owner', 'lead', 'rater', 'judge')", name="role"),
    CheckConstraint("status IN ('active', 'paused', 'gone')", name="status"),
)
rater_pii = Table(  # all that names a person; a row can be erased, the judgments stay
    "rater_pii",
    metadata,
    Column("rater", String(36), ForeignKey("rater.id"), primary_key=True),
    Column("login", Exact, nullable=False, unique=True),  # casefolded
    Column("name", Exact),
    Column("password_hash", Text, nullable=False),
)
identity = Table(  # by which somebody signs in through another server (OpenID Connect); names a person, too
    "identity",
    metadata,
    Column("issuer", Exact(MAX_NAME), primary_key=True),
    Column("subject", Exact(255), primary_key=True),
    ref("rater", index=True),
    timestamp(),
)
session = Table(
    "session",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    ref("rater", index=True),
    Column("csrf", String(64), nullable=False),
    timestamp(),
    timestamp("expires_at"),
    timestamp("used_at", nullable=True),  # to the hour
    Column("user_agent", Exact),
    Column("address", String(50)),  # shortened to a network, to know a place again
)
known_device = (
    Table(  # a browser from which somebody has signed in: guessers elsewhere do not shut them out
        "known_device",
        metadata,
        Column("token_hash", String(64), primary_key=True),
        ref("rater", index=True),
        timestamp(),
        timestamp("used_at"),
    )
)
password_link = Table(  # by which somebody who has forgotten the password sets a new one, once
    "password_link",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    ref("rater", index=True),
    ref("rater", name="made_by", nullable=True),  # none: at the command line
    timestamp(),
    timestamp("expires_at"),
)
api_token = Table(
    "api_token",
    metadata,
    key(),
    ref("rater", index=True),
    Column("name", Exact, nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("scopes", Json, nullable=False),
    timestamp(),
    timestamp("expires_at", nullable=True),
    timestamp("revoked_at", nullable=True),
    timestamp("used_at", nullable=True),  # to the hour
    Column("address", String(50)),
)
invitation = Table(
    "invitation",
    metadata,
    key(),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("role", String(8), nullable=False),
    ref("rater", name="invited_by", nullable=True),  # none: the first owner's
    timestamp(),
    timestamp("expires_at"),
    ref("rater", name="used_by", nullable=True),
    Column("gives", Json),  # {groups: [id], projects: {id: role}} to whoever accepts it
)
rate_limit = Table(
    "rate_limit",
    metadata,
    Column("key", Exact, primary_key=True),  # login:NAME, address:IP
    Column("tokens", Float(53), nullable=False),
    timestamp("at"),
)
