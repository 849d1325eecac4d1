"""Who has had everything is not searched for anew: when slots were opened, and up to when raters had all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# fmt: off


def upgrade() -> None:
    op.create_table('exhausted',
        sa.Column('rater', sa.String(length=36), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('what', sa.String(length=4), nullable=False),
        sa.Column('at', sa.Float(precision=53), nullable=False),
        sa.Column('everything_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_exhausted_project'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_exhausted_rater'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('rater', 'project', 'what', name=op.f('pk_exhausted'))
    )
    op.add_column('task_slot', sa.Column('open_since', sa.Float(precision=53), server_default='0', nullable=False))
    op.create_index('ix_task_slot_opened', 'task_slot', ['project', 'open_since'], unique=False,
                    sqlite_where=sa.text("state = 'open'"), postgresql_where=sa.text("state = 'open'"))
    op.drop_index('ix_task_gold', table_name='task')
    op.create_index('ix_task_gold', 'task', ['project', 'is_gold', 'created_at'], unique=False)
