"""Several questions on one screen: which of them each part of a judgment answers, and what each was answered."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.columns import Exact, Number
from heedful.store.tables.triggers import protect

revision = "0008"
down_revision = "0007"

PARTS = ("ranking_item", "score", "rule_flag", "critique", "edit", "demonstration")


def question() -> sa.Column:
    return sa.Column("question", sa.String(length=40), server_default="", nullable=False)


def upgrade() -> None:
    for table in PARTS:
        op.add_column(table, question())
    op.create_table(
        "question_answer",
        sa.Column("judgment", sa.String(length=36), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("strength", Number(), nullable=True),
        sa.Column("confidence", Number(), nullable=True),
        sa.Column("text", Exact(), nullable=True),
        question(),
        sa.ForeignKeyConstraint(
            ["judgment"], ["judgment.id"], name=op.f("fk_question_answer_judgment")
        ),
        sa.PrimaryKeyConstraint("judgment", "place", name=op.f("pk_question_answer")),
    )
    protect(op.get_bind(), ("question_answer",))
