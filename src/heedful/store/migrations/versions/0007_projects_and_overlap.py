"""Projects that are archived or deleted; answers that a lead asks for beyond a question's overlap."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for name in ("archived_at", "deleted_at"):
        op.add_column("project", sa.Column(name, sa.Float(53), nullable=True))
    added = sa.Column("added", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("task_slot", added)
    op.create_index("ix_task_project", "task", ["project", "id"])
