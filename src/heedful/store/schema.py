"""The tables of a workspace. Tables in `IMMUTABLE` only grow: a trigger aborts UPDATE and DELETE on them.

Labels are kept by completion id, never by place on the screen; the order shown stands beside them. Times are
seconds since 1970 (UTC) by the database's own clock. Content is addressed by sha256, so that importing twice
adds nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from heedful.store.columns import Exact, Json, metadata


def _id(name: str = "id") -> Column:
    return Column(name, String(36), primary_key=True)


def _ref(target: str, **options: Any) -> Column:
    """A column named after the table it points to."""
    name, table = options.pop("name", target), target
    options.setdefault("nullable", False)
    return Column(name, String(36), ForeignKey(f"{table}.id", ondelete="RESTRICT"), **options)


def _at(name: str = "created_at", **options: Any) -> Column:
    options.setdefault("nullable", False)
    return Column(name, Float(53), **options)


# ── people ───────────────────────────────────────────────────────────────────────────────────────

rater = Table(
    "rater",
    metadata,
    _id(),
    Column("pseudonym", Exact, nullable=False, unique=True),
    Column("role", String(8), nullable=False),  # owner, lead, rater; judge: a simulation or a model
    Column("status", String(8), nullable=False),  # active, paused, gone
    Column("settings", Json, nullable=False),  # daily_limit, cost_per_hour
    _at(),
    CheckConstraint("role IN ('owner', 'lead', 'rater', 'judge')", name="role"),
    CheckConstraint("status IN ('active', 'paused', 'gone')", name="status"),
)
rater_pii = Table(  # all that names a person; a row can be erased, the judgments stay
    "rater_pii",
    metadata,
    Column("rater", String(36), ForeignKey("rater.id"), primary_key=True),
    Column("login", String(320), nullable=False, unique=True),  # casefolded
    Column("name", Exact),
    Column("password_hash", Text, nullable=False),
)
session = Table(
    "session",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    _ref("rater", index=True),
    Column("csrf", String(64), nullable=False),
    _at(),
    _at("expires_at"),
)
api_token = Table(
    "api_token",
    metadata,
    _id(),
    _ref("rater", index=True),
    Column("name", Exact, nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("scopes", Json, nullable=False),
    _at(),
    _at("expires_at", nullable=True),
    _at("revoked_at", nullable=True),
)
invitation = Table(
    "invitation",
    metadata,
    _id(),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("role", String(8), nullable=False),
    _ref("rater", name="invited_by", nullable=True),  # none: the first owner's
    _at(),
    _at("expires_at"),
    _ref("rater", name="used_by", nullable=True),
)
rate_limit = Table(
    "rate_limit",
    metadata,
    Column("key", String(200), primary_key=True),  # login:NAME, address:IP
    Column("tokens", Float(53), nullable=False),
    _at("at"),
)

# ── what is judged ───────────────────────────────────────────────────────────────────────────────

project = Table(
    "project",
    metadata,
    _id(),
    Column("name", Exact, nullable=False, unique=True),
    Column("settings", Json, nullable=False),  # see store.projects.Settings
    _at(),
)
guideline_version = Table(
    "guideline_version",
    metadata,
    _id(),
    _ref("project", index=True),
    Column("body", Exact, nullable=False),
    Column("sha256", String(64), nullable=False),
    _at(),
)
run = Table(
    "run",
    metadata,
    _id(),
    _ref("project", nullable=True),
    Column("kind", String(40), nullable=False),
    Column("folder", Exact, nullable=False),
    Column("code_version", String(40), nullable=False),
    Column("config", Json, nullable=False),
    Column("seed", Integer),
    _ref("run", name="parent", nullable=True),
    Column("snapshot", String(36), ForeignKey("dataset_snapshot.id")),
    _at(),
)
checkpoint = Table(
    "checkpoint",
    metadata,
    _id(),
    _ref("run", nullable=True),  # none: a model that came from elsewhere
    Column("step", Integer),
    Column("path", Exact, nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),  # weights, tokenizer, chat template
    _at(),
)
prompt = Table(
    "prompt",
    metadata,
    _id(),
    _ref("project"),
    Column("sha256", String(64), nullable=False),
    Column("content", Json, nullable=False),  # a string, or a list of {role, content}
    Column("split", String(10), nullable=False),  # train or held_out, fixed by the hash
    Column("source", Exact),
    Column("licence", Exact),
    Column("language", String(35)),
    _at(),
    UniqueConstraint("project", "sha256"),
)
completion = Table(
    "completion",
    metadata,
    _id(),
    _ref("prompt"),
    Column("sha256", String(64), nullable=False),  # of the text and everything below but the time
    Column("text", Exact, nullable=False),
    _ref("checkpoint", nullable=True),
    _ref("rater", name="author", nullable=True),
    Column("model", Exact),  # the name it was imported under
    Column("token_ids", Json),
    Column("logprobs", Json),
    Column("sampling", Json),
    Column("seed", Integer),
    Column("finish_reason", String(10)),
    Column("engine", String(80)),
    _at(),
    UniqueConstraint("prompt", "sha256"),
)
demonstration = Table(
    "demonstration",
    metadata,
    _id(),
    _ref("prompt"),
    Column("sha256", String(64), nullable=False),
    Column("text", Exact, nullable=False),
    Column("judgment", String(36), ForeignKey("judgment.id")),  # none: imported
    Column("source", Exact),
    _at(),
    # Two people may write the same words; importing the same file twice adds nothing.
    Index(
        "uq_demonstration_imported",
        "prompt",
        "sha256",
        unique=True,
        sqlite_where=text("judgment IS NULL"),
        postgresql_where=text("judgment IS NULL"),
    ),
)
task = Table(
    "task",
    metadata,
    _id(),
    _ref("project"),
    Column("sha256", String(64), nullable=False),
    Column("kind", String(10), nullable=False),  # a name in store.kinds.KINDS
    _ref("prompt"),
    Column("completions", Json, nullable=False),  # ids, in an order that raters never see
    Column("options", Json, nullable=False),  # the kind's: axes, rules …
    Column("overlap", Integer, nullable=False),
    _ref("guideline_version", nullable=True),
    Column("strategy", String(40), nullable=False),  # who chose to ask: random, import, a plug-in
    Column("score", Float(53)),  # how the strategy valued it
    Column("propensity", Float(53)),  # with which probability it was chosen
    Column("round", Integer, nullable=False),
    Column("is_gold", Boolean, nullable=False),
    _ref("task", name="swap_of", nullable=True),
    _at(),
    UniqueConstraint("project", "sha256"),
    Index("ix_task_gold", "project", "is_gold"),
)
gold_key = Table(  # never leaves the server
    "gold_key",
    metadata,
    Column("task", String(36), ForeignKey("task.id"), primary_key=True),
    Column("answer", Json, nullable=False),  # ranks by completion id
)

# ── who judges what ──────────────────────────────────────────────────────────────────────────────

task_slot = Table(  # UNIQUE(task, slot) by its key: an overlap cannot be exceeded
    "task_slot",
    metadata,
    Column("task", String(36), ForeignKey("task.id"), primary_key=True),
    Column("slot", Integer, primary_key=True),
    _ref("project"),
    Column("state", String(8), nullable=False),  # open, leased, done; parked, review, closed
    Column("position", Float(53), nullable=False),  # the order of asking
    Column("judgment", String(36), ForeignKey("judgment.id"), unique=True),
    Index("ix_task_slot_queue", "project", "state", "position"),
)
assignment = Table(
    "assignment",
    metadata,
    _id(),
    Column("task", String(36), ForeignKey("task.id"), nullable=False),
    Column("slot", Integer, nullable=False),
    _ref("project"),
    _ref("rater"),
    Column("order_shown", Json, nullable=False),  # indices into task.completions
    Column("state", String(8), nullable=False),  # active, done, skipped, flagged, expired
    _at("leased_at"),
    _at("leased_until"),
    UniqueConstraint("task", "rater"),
    Index(
        "uq_assignment_lease",
        "task",
        "slot",
        unique=True,
        sqlite_where=text("state = 'active'"),
        postgresql_where=text("state = 'active'"),
    ),
    Index(
        "ix_assignment_leases",
        "project",
        "leased_until",
        sqlite_where=text("state = 'active'"),
        postgresql_where=text("state = 'active'"),
    ),
    Index("ix_assignment_rater", "rater", "state"),
)
judgment = Table(
    "judgment",
    metadata,
    _id(),
    _ref("assignment"),
    _ref("task"),
    _ref("project"),
    _ref("rater"),
    Column("revision", Integer, nullable=False),
    _ref("judgment", name="supersedes", nullable=True, unique=True),
    Column("outcome", String(10), nullable=False),  # answer, tie, both_bad, skip, flag
    Column("strength", Float(53)),  # 0 to 1, how much better the best one is
    Column("confidence", Float(53)),
    Column("text", Exact),
    Column("said", Json, nullable=False),  # the answer as it came, by place on the screen
    Column("disposition", String(8), nullable=False),  # counted, late, surplus
    Column("active_ms", Integer),
    Column("wall_ms", Integer),
    Column("client_at", Float(53)),
    Column("ui_version", String(40)),
    Column("idempotency_key", String(64), nullable=False),
    Column("request_sha256", String(64), nullable=False),
    _at(),
    UniqueConstraint("rater", "idempotency_key"),
    UniqueConstraint("assignment", "revision"),
    Index("ix_judgment_task", "task"),
    Index("ix_judgment_when", "project", "created_at"),
    Index("ix_judgment_rater_when", "rater", "created_at"),
)


def _child(name: str, *columns: Column) -> Table:
    """A part of a judgment: one row for each thing said."""
    return Table(
        name,
        metadata,
        Column("judgment", String(36), ForeignKey("judgment.id"), primary_key=True),
        Column("place", Integer, primary_key=True),
        *columns,
    )


ranking_item = _child("ranking_item", _ref("completion"), Column("rank", Integer, nullable=False))
score = _child(
    "score",
    _ref("completion"),
    Column("axis", Exact, nullable=False),
    Column("value", Float(53), nullable=False),
)
rule_flag = _child(
    "rule_flag",
    _ref("completion"),
    Column("rule", Exact, nullable=False),
    Column("verdict", Boolean, nullable=False),
)
critique = _child(
    "critique",
    _ref("completion"),
    Column("start", Integer),  # characters of the completion's text
    Column("end", Integer),
    Column("text", Exact, nullable=False),
)
edit = _child("edit", _ref("completion"), _ref("completion", name="edited"))
offer = Table(  # what a rater said to two models, and what both replied
    "offer",
    metadata,
    _id(),
    _ref("assignment"),
    Column("place", Integer, nullable=False),  # which turn of the conversation
    Column("said", Exact, nullable=False),
    Column("candidates", Json, nullable=False),  # [{text, model, sampling, seed …}]
    Column("order_shown", Json, nullable=False),
    _at(),
    UniqueConstraint("assignment", "place"),
)
turn = Table(  # the reply that the rater chose; the conversation goes on with it
    "turn",
    metadata,
    Column("offer", String(36), ForeignKey("offer.id"), primary_key=True),
    Column("chosen", Integer, nullable=False),  # index into candidates
    Column("strength", Float(53)),
    _at(),
)

# ── records ──────────────────────────────────────────────────────────────────────────────────────

dataset_snapshot = Table(
    "dataset_snapshot",
    metadata,
    _id(),
    _ref("project"),
    Column("query", Json, nullable=False),
    Column("judgments", Json, nullable=False),  # ids, sorted
    Column("sha256", String(64), nullable=False),
    _at(),
)
audit_event = Table(
    "audit_event",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _at("at"),
    Column("actor", String(36)),
    Column("action", String(40), nullable=False),
    Column("detail", Json, nullable=False),
    Column("hash", String(64), nullable=False),  # of the row and the hash before it
)
webhook = Table(
    "webhook",
    metadata,
    _id(),
    _ref("project"),
    Column("url", Exact, nullable=False),
    Column("secret", String(64), nullable=False),
    _at(),
)
webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    _id(),
    _ref("webhook"),
    _ref("judgment"),
    Column("state", String(8), nullable=False),  # waiting, sent, failed
    Column("attempts", Integer, nullable=False),
    _at("due_at"),
    Index("ix_webhook_delivery_due", "state", "due_at"),
)

IMMUTABLE = (
    guideline_version, run, checkpoint, prompt, completion, demonstration, task, gold_key, judgment, ranking_item,
    score, rule_flag, critique, edit, offer, turn, dataset_snapshot, audit_event,
)  # fmt: skip
