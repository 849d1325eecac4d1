"""Columns that keep what they are given on PostgreSQL as they always did on SQLite: texts of any length and content,
whole numbers of 64 bits."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TEXTS = (
    ("rater_pii", "login"),
    ("rate_limit", "key"),
    ("run", "kind"),
    ("run", "code_version"),
    ("prompt", "language"),
    ("completion", "finish_reason"),
    ("completion", "engine"),
    ("task", "strategy"),
    ("judgment", "ui_version"),
)
WHOLES = (
    ("run", "seed"),
    ("checkpoint", "step"),
    ("completion", "seed"),
    ("judgment", "active_ms"),
    ("judgment", "wall_ms"),
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # SQLite keeps to no length and has 64 bits in every INTEGER; a table declared anew would lose its triggers.
        return
    for table, column in TEXTS:
        op.alter_column(table, column, type_=sa.Text())
    # One statement a table: each writes the whole table anew.
    for table in dict.fromkeys(name for name, _ in WHOLES):
        changes = (f"ALTER COLUMN {c} TYPE BIGINT" for name, c in WHOLES if name == table)
        op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
