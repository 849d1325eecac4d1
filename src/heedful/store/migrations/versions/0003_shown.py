"""Which guidelines were shown with a question; skips and flags that set nothing aside; what webhooks answered."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.columns import Exact

revision = "0003"
down_revision = "0002"

# fmt: off


def upgrade() -> None:
    op.add_column('assignment', sa.Column('guideline_version', sa.String(length=36), nullable=True))
    op.execute(  # until now a question was shown with the version that it was made under
        "UPDATE assignment SET guideline_version = (SELECT task.guideline_version FROM task WHERE task.id = assignment.task)"
    )
    op.create_index('ix_assignment_guidelines', 'assignment', ['project', 'guideline_version'], unique=False)
    op.add_column('assignment', sa.Column('discounted', sa.String(length=8), nullable=True))
    op.add_column('webhook_delivery', sa.Column('event', sa.String(length=20), server_default='judgment', nullable=False))
    op.add_column('webhook_delivery', sa.Column('status', sa.Integer(), nullable=True))
    op.add_column('webhook_delivery', sa.Column('error', Exact(), nullable=True))
