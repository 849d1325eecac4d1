"""What models suggest about questions, and to whom it was shown or hidden."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.columns import Exact, Json
from heedful.store.tables.triggers import protect

revision = "0011"
down_revision = "0010"

# fmt: off
KEY, TIME = sa.String(length=36), sa.Float(precision=53)


def points(table: str, name: str, ondelete: str | None = 'RESTRICT') -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([name], [f'{name}.id'], name=op.f(f'fk_{table}_{name}'), ondelete=ondelete)


def upgrade() -> None:
    op.create_table('suggestion',
        sa.Column('id', KEY, nullable=False),
        sa.Column('task', KEY, nullable=False),
        sa.Column('source', Exact(), nullable=False),
        sa.Column('version', sa.String(length=64), nullable=False),
        sa.Column('ranks', Json(), nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        points('suggestion', 'task'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_suggestion')),
        sa.UniqueConstraint('task', 'source', 'version', name=op.f('uq_suggestion_task_source_version'))
    )
    op.create_table('suggestion_shown',
        sa.Column('assignment', KEY, nullable=False),
        sa.Column('suggestion', KEY, nullable=False),
        sa.Column('project', KEY, nullable=False),
        sa.Column('shown', sa.Boolean(), nullable=False),
        points('suggestion_shown', 'assignment', None), points('suggestion_shown', 'suggestion'), points('suggestion_shown', 'project'),
        sa.PrimaryKeyConstraint('assignment', name=op.f('pk_suggestion_shown'))
    )
    op.create_index('ix_suggestion_shown_project', 'suggestion_shown', ['project', 'assignment'], unique=False)
    protect(op.get_bind(), ("suggestion", "suggestion_shown"))
