"""What models say against responses, who could ask for it, and who did."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.columns import Exact
from heedful.store.tables.triggers import protect

revision = "0012"
down_revision = "0011"

# fmt: off
KEY, TIME = sa.String(length=36), sa.Float(precision=53)


def points(table: str, name: str, ondelete: str | None = 'RESTRICT', target: str = '') -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([name], [f'{target or name}.id'], name=op.f(f'fk_{table}_{name}'), ondelete=ondelete)


def upgrade() -> None:
    op.create_table('model_critique',
        sa.Column('id', KEY, nullable=False),
        sa.Column('task', KEY, nullable=False),
        sa.Column('completion', KEY, nullable=False),
        sa.Column('source', Exact(), nullable=False),
        sa.Column('version', sa.String(length=64), nullable=False),
        sa.Column('text', Exact(), nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        points('model_critique', 'task'), points('model_critique', 'completion'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_model_critique')),
        sa.UniqueConstraint('task', 'completion', 'source', 'version', name=op.f('uq_model_critique_task_completion_source_version'))
    )
    op.create_table('critique_offered',
        sa.Column('assignment', KEY, nullable=False),
        sa.Column('project', KEY, nullable=False),
        sa.Column('source', Exact(), nullable=False),
        sa.Column('offered', sa.Boolean(), nullable=False),
        points('critique_offered', 'assignment', None), points('critique_offered', 'project'),
        sa.PrimaryKeyConstraint('assignment', name=op.f('pk_critique_offered'))
    )
    op.create_index('ix_critique_offered_project', 'critique_offered', ['project', 'assignment'], unique=False)
    op.create_table('critique_asked',
        sa.Column('assignment', KEY, nullable=False),
        sa.Column('critique', KEY, nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        points('critique_asked', 'assignment', None), points('critique_asked', 'critique', None, 'model_critique'),
        sa.PrimaryKeyConstraint('assignment', 'critique', name=op.f('pk_critique_asked'))
    )
    protect(op.get_bind(), ("model_critique", "critique_offered", "critique_asked"))
