"""Who added a webhook: it hears nothing while they are paused."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("webhook", sa.Column("added_by", sa.String(length=36), nullable=True))
