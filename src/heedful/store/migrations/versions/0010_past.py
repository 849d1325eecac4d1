"""Up to which position a rater has had every open slot, so that who is far ahead is not searched for from the top."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("exhausted", sa.Column("position", sa.Float(precision=53), nullable=True))
