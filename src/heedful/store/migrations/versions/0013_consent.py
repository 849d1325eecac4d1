"""How a question came to be asked next; what raters are told, that they agreed, and that they took it back."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.columns import Exact, Number
from heedful.store.tables.triggers import protect

revision = "0013"
down_revision = "0012"

# fmt: off
KEY, TIME = sa.String(length=36), sa.Float(precision=53)


def points(table: str, name: str, to: str | None = None, ondelete: str | None = 'RESTRICT') -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([name], [f'{to or name}.id'], name=op.f(f'fk_{table}_{name}'), ondelete=ondelete)


def upgrade() -> None:
    op.create_table('question_drawn',
        sa.Column('assignment', KEY, nullable=False),
        sa.Column('by_chance', sa.Boolean(), nullable=False),
        sa.Column('propensity', Number(), nullable=False),
        points('question_drawn', 'assignment', ondelete=None),
        sa.PrimaryKeyConstraint('assignment', name=op.f('pk_question_drawn'))
    )
    op.create_table('disclosure',
        sa.Column('id', KEY, nullable=False),
        sa.Column('project', KEY, nullable=False),
        sa.Column('body', Exact(), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        points('disclosure', 'project'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_disclosure'))
    )
    op.create_index('ix_disclosure_project', 'disclosure', ['project'], unique=False)
    op.create_table('agreement',
        sa.Column('disclosure', KEY, nullable=False),
        sa.Column('rater', KEY, nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        points('agreement', 'disclosure'), points('agreement', 'rater'),
        sa.PrimaryKeyConstraint('disclosure', 'rater', name=op.f('pk_agreement'))
    )
    op.create_index('ix_agreement_rater', 'agreement', ['rater'], unique=False)
    op.create_table('withdrawal',
        sa.Column('project', KEY, nullable=False),
        sa.Column('rater', KEY, nullable=False),
        sa.Column('withdrawn_by', KEY, nullable=True),
        sa.Column('created_at', TIME, nullable=False),
        points('withdrawal', 'project'), points('withdrawal', 'rater'), points('withdrawal', 'withdrawn_by', 'rater'),
        sa.PrimaryKeyConstraint('project', 'rater', name=op.f('pk_withdrawal'))
    )
    op.create_index('ix_withdrawal_rater', 'withdrawal', ['rater'], unique=False)
    protect(op.get_bind(), ("question_drawn", "disclosure", "agreement"))
