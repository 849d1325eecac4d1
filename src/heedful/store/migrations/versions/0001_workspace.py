"""The workspace."""

from alembic import op

from heedful.store import schema
from heedful.store.triggers import protect

revision = "0001"
down_revision = None


def upgrade() -> None:
    schema.metadata.create_all(op.get_bind())
    protect(op.get_bind(), [t.name for t in schema.IMMUTABLE])
