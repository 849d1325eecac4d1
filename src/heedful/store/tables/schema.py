"""The tables of a workspace. Tables in `IMMUTABLE` only grow: a trigger aborts UPDATE and DELETE on them.

Labels are kept by completion id, never by place on the screen; the order shown stands beside them. Times are
seconds since 1970 (UTC) by the database's own clock. Content is addressed by sha256, so that importing twice
adds nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    false,
    text,
)

from heedful import exact
from heedful.store.tables.accounts import (  # noqa: F401  (one place to find all tables)
    api_token,
    identity,
    invitation,
    known_device,
    password_link,
    rate_limit,
    rater,
    rater_pii,
    session,
)
from heedful.store.tables.admission import (  # noqa: F401
    gold_explanation,
    group_member,
    invitation_pii,
    project_group,
    project_member,
    qualification,
    rater_group,
    trial,
)
from heedful.store.tables.asking import ASKED, agreement, disclosure, question_drawn, withdrawal  # noqa: F401
from heedful.store.tables.columns import (
    MAX_NAME,
    Checked,
    DatabaseClock,
    Exact,
    Json,
    Number,
    Whole,
    key,
    metadata,
    ref,
    timestamp,
)
from heedful.store.tables.outgoing import webhook, webhook_delivery  # noqa: F401
from heedful.store.tables.suggestions import TOLD, suggestion, suggestion_shown  # noqa: F401

# ── what is judged ───────────────────────────────────────────────────────────────────────────────

project = Table(
    "project",
    metadata,
    key(),
    Column("name", Exact(MAX_NAME), nullable=False, unique=True),
    Column("settings", Json, nullable=False),  # see store.projects.Settings
    timestamp(),
    timestamp("archived_at", nullable=True),  # hidden from raters and lists
    timestamp("deleted_at", nullable=True),  # hidden from everybody; its rows stay
)
guideline_version = Table(
    "guideline_version",
    metadata,
    key(),
    ref("project", index=True),
    Column("body", Exact, nullable=False),
    Column("sha256", String(64), nullable=False),
    timestamp(),
)
run = Table(
    "run",
    metadata,
    key(),
    ref("project", nullable=True),
    Column("kind", Exact, nullable=False),
    Column("folder", Exact, nullable=False),
    Column("code_version", Exact, nullable=False),
    Column("config", Json, nullable=False),
    Column("seed", Whole),
    ref("run", name="parent", nullable=True),
    Column("snapshot", String(36), ForeignKey("dataset_snapshot.id")),
    timestamp(),
)
checkpoint = Table(
    "checkpoint",
    metadata,
    key(),
    ref("run", nullable=True),  # none: a model that came from elsewhere
    Column("step", Whole),
    Column("path", Exact, nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),  # weights, tokenizer, chat template
    timestamp(),
)
prompt = Table(
    "prompt",
    metadata,
    key(),
    ref("project"),
    Column("sha256", String(64), nullable=False),
    Column("content", Json, nullable=False),  # a string, or a list of {role, content}
    Column("split", String(10), nullable=False),  # train or held_out, fixed by the hash
    Column("source", Exact),
    Column("licence", Exact),
    Column("language", Exact),
    timestamp(),
    UniqueConstraint("project", "sha256"),
)
completion = Table(
    "completion",
    metadata,
    key(),
    ref("prompt"),
    Column("sha256", String(64), nullable=False),  # of the text and everything below but the time
    Column("text", Exact, nullable=False),
    ref("checkpoint", nullable=True),
    ref("rater", name="author", nullable=True),
    Column("model", Exact),  # the name it was imported under
    Column("token_ids", Json(exact.wholes)),
    Column("logprobs", Json(exact.array)),
    Column("sampling", Json(exact.record)),
    Column("seed", Whole),
    Column("finish_reason", Exact),
    Column("engine", Exact),
    timestamp(),
    UniqueConstraint("prompt", "sha256"),
)


def _question() -> Column:
    """Which question of a screen a row answers; empty where the task asks one alone."""
    return Column("question", String(40), nullable=False, server_default="")


demonstration = Table(
    "demonstration",
    metadata,
    key(),
    ref("prompt"),
    Column("sha256", String(64), nullable=False),
    Column("text", Exact, nullable=False),
    Column("judgment", String(36), ForeignKey("judgment.id")),  # none: imported
    Column("source", Exact),
    _question(),
    timestamp(),
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
    key(),
    ref("project"),
    Column("sha256", String(64), nullable=False),
    Column("kind", String(10), nullable=False),  # a name in store.kinds.KINDS, or SCREEN
    ref("prompt"),
    Column("completions", Json, nullable=False),  # ids, in an order that raters never see
    Column("options", Json, nullable=False),  # the kind's: axes, rules …
    Column("overlap", Integer, nullable=False),
    ref("guideline_version", nullable=True),
    Column("strategy", Exact, nullable=False),  # who chose to ask: random, import, a plug-in
    Column("score", Number),  # how the strategy valued it
    Column("propensity", Number),  # with which probability it was chosen
    Column("round", Integer, nullable=False),
    Column("is_gold", Boolean, nullable=False),
    ref("task", name="swap_of", nullable=True),
    timestamp(),
    UniqueConstraint("project", "sha256"),
    Index("ix_task_gold", "project", "is_gold", "created_at"),
    Index("ix_task_project", "project", "id"),  # a project's questions, the newest first
    Index(
        "ix_task_swap",
        "project",
        "swap_of",
        sqlite_where=text("swap_of IS NOT NULL"),
        postgresql_where=text("swap_of IS NOT NULL"),
    ),
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
    ref("project"),
    Column("state", String(8), nullable=False),  # open, leased, done; parked, review, closed
    Column("position", Number, nullable=False),  # the order of asking
    timestamp("open_since", default=DatabaseClock(), server_default="0"),  # for store.queue
    Column("judgment", String(36), ForeignKey("judgment.id"), unique=True),
    Column("added", Boolean, nullable=False, default=False, server_default=false()),  # by a lead
    Index("ix_task_slot_queue", "project", "state", "position"),
    Index(
        "ix_task_slot_opened",
        "project",
        "open_since",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)
assignment = Table(
    "assignment",
    metadata,
    key(),
    Column("task", String(36), ForeignKey("task.id"), nullable=False),
    Column("slot", Integer, nullable=False),
    ref("project"),
    ref("rater"),
    Column("order_shown", Json, nullable=False),  # indices into task.completions
    Column("state", String(8), nullable=False),  # active, done, skipped, flagged, expired
    timestamp("leased_at"),
    timestamp("leased_until"),
    # What was shown beside it, if anything. No foreign key: SQLite could only add one with a copy of the table, and
    # versions are never deleted.
    Column("guideline_version", String(36)),
    Column("discounted", String(8)),  # a skip or flag sets nothing aside: limit; lead: taken back
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
    Index("ix_assignment_rater", "rater", "state", "leased_at"),
    Index("ix_assignment_guidelines", "project", "guideline_version"),
)
exhausted = (
    Table(  # up to a moment the rater had had everything, or all before a position: store.queue
        "exhausted",
        metadata,
        ref("rater", primary_key=True),
        ref("project", primary_key=True),
        Column("what", String(4), primary_key=True),  # slot, gold; past: slots before the position
        timestamp("at"),
        timestamp("everything_at"),
        Column("position", Number),
    )
)
judgment = Table(
    "judgment",
    metadata,
    key(),
    ref("assignment"),
    ref("task"),
    ref("project"),
    ref("rater"),
    Column("revision", Integer, nullable=False),
    ref("judgment", name="supersedes", nullable=True, unique=True),
    Column("outcome", String(10), nullable=False),  # answer, tie, both_bad, skip, flag
    Column("strength", Number),  # 0 to 1, how much better the best one is
    Column("confidence", Number),
    Column("text", Exact),
    Column("said", Json, nullable=False),  # the answer as it came, by place on the screen
    Column("disposition", String(8), nullable=False),  # counted, late, surplus
    Column("active_ms", Whole),
    Column("wall_ms", Whole),
    Column("client_at", Number),
    Column("ui_version", Exact),
    Column("idempotency_key", String(64), nullable=False),
    Column("request_sha256", String(64), nullable=False),
    timestamp(),
    UniqueConstraint("rater", "idempotency_key"),
    UniqueConstraint("assignment", "revision"),
    Index("ix_judgment_task", "task"),
    # These hold all that is asked of them: with a million judgments the rows themselves are far apart.
    Index("ix_judgment_when", "project", "created_at", "outcome", "disposition"),
    Index("ix_judgment_progress", "rater", "project", "revision", "created_at", "active_ms"),
    Index("ix_judgment_sums", "project", "rater", "outcome", "disposition", "active_ms"),
)


def _child(name: str, *columns: Column) -> Table:
    """A part of a judgment: one row for each rank, score, remark, …"""
    return Table(
        name,
        metadata,
        Column("judgment", String(36), ForeignKey("judgment.id"), primary_key=True),
        Column("place", Integer, primary_key=True),
        *columns,
        _question(),
    )


ranking_item = _child("ranking_item", ref("completion"), Column("rank", Integer, nullable=False))
score = _child(
    "score", ref("completion"), Column("axis", Exact, nullable=False), Column("value", Number, nullable=False)
)  # fmt: skip
rule_flag = _child(
    "rule_flag",
    ref("completion"),
    Column("rule", Exact, nullable=False),
    Column("verdict", Boolean, nullable=False),
)
critique = _child(
    "critique",
    ref("completion"),
    Column("start", Integer),  # characters of the completion's text
    Column("end", Integer),
    Column("text", Exact, nullable=False),
)
edit = _child("edit", ref("completion"), ref("completion", name="edited"))
# Of a screen of several questions, in their order: what each was answered. The judgment's own columns are empty then.
question_answer = _child(
    "question_answer",
    Column("kind", String(10), nullable=False),
    Column("outcome", String(10), nullable=False),
    Column("strength", Number),
    Column("confidence", Number),
    Column("text", Exact),
)
offer = Table(  # what a rater said to two models, and what both replied
    "offer",
    metadata,
    key(),
    ref("assignment"),
    Column("place", Integer, nullable=False),  # which turn of the conversation
    Column("said", Exact, nullable=False),
    Column("candidates", Json, nullable=False),  # [{text, model, sampling, seed …}]
    Column("order_shown", Json, nullable=False),
    timestamp(),
    UniqueConstraint("assignment", "place"),
)
turn = Table(  # the reply that the rater chose; the conversation goes on with it
    "turn",
    metadata,
    Column("offer", String(36), ForeignKey("offer.id"), primary_key=True),
    Column("chosen", Integer, nullable=False),  # index into candidates
    Column("strength", Number),
    timestamp(),
)

# ── records ──────────────────────────────────────────────────────────────────────────────────────

dataset_snapshot = Table(
    "dataset_snapshot",
    metadata,
    key(),
    ref("project"),
    Column("query", Json, nullable=False),
    Column("judgments", Json, nullable=False),  # ids, sorted
    Column("sha256", String(64), nullable=False),
    timestamp(),
)
audit_event = Table(
    "audit_event",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    timestamp("at"),
    Column("actor", String(36)),
    Column("action", String(40), nullable=False),
    Column("detail", Json, nullable=False),
    Column("hash", String(64), nullable=False),  # of the row and the hash before it
)

IMMUTABLE = (
    guideline_version, run, checkpoint, prompt, completion, demonstration, task, gold_key, judgment, ranking_item,
    score, rule_flag, critique, edit, question_answer, offer, turn, dataset_snapshot, audit_event,
    gold_explanation, trial, *TOLD, *ASKED,
)  # fmt: skip

for _table in metadata.tables.values():
    for _column in _table.c:
        if isinstance(_column.type, Checked):
            _column.type.column = f"`{_column.name}` of a {_table.name.replace('_', ' ')}"
