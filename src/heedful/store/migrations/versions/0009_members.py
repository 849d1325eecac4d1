"""Groups, members of projects, what is asked before the real work, explained gold answers, named invitations, single sign-on."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.columns import Exact, Json
from heedful.store.tables.triggers import protect

revision = "0009"
down_revision = "0008"

# fmt: off
KEY, TIME = sa.String(length=36), sa.Float(precision=53)


def keys(table: str, *names: str) -> list[sa.Column | sa.ForeignKeyConstraint | sa.PrimaryKeyConstraint]:
    """Columns that point to the tables of these names, and are the key together."""
    points = [sa.ForeignKeyConstraint([n], [f'{n}.id'], name=op.f(f'fk_{table}_{n}'), ondelete='RESTRICT') for n in names]
    return [*(sa.Column(n, KEY, nullable=False) for n in names), *points, sa.PrimaryKeyConstraint(*names, name=op.f(f'pk_{table}'))]


def upgrade() -> None:
    in_project = "role IN ('lead', 'reviewer', 'rater')"
    op.create_table('rater_group',
        sa.Column('id', KEY, nullable=False),
        sa.Column('name', Exact(), nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_rater_group')),
        sa.UniqueConstraint('name', name=op.f('uq_rater_group_name'))
    )
    op.create_table('group_member', *keys('group_member', 'rater_group', 'rater'), sa.Column('created_at', TIME, nullable=False))
    op.create_index(op.f('ix_group_member_rater'), 'group_member', ['rater'], unique=False)
    op.create_table('project_member', *keys('project_member', 'project', 'rater'),
        sa.Column('role', sa.String(length=8), nullable=True),
        sa.Column('paused', sa.Boolean(), nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        sa.CheckConstraint(in_project, name=op.f('ck_project_member_role'))
    )
    op.create_index(op.f('ix_project_member_rater'), 'project_member', ['rater'], unique=False)
    op.create_table('project_group', *keys('project_group', 'project', 'rater_group'),
        sa.Column('role', sa.String(length=8), nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        sa.CheckConstraint(in_project, name=op.f('ck_project_group_role'))
    )
    op.create_index(op.f('ix_project_group_rater_group'), 'project_group', ['rater_group'], unique=False)
    op.add_column('invitation', sa.Column('gives', Json(), nullable=True))
    op.create_table('invitation_pii',
        sa.Column('invitation', KEY, nullable=False),
        sa.Column('name', Exact(), nullable=True),
        sa.Column('email', Exact(), nullable=True),
        sa.Column('sent_at', TIME, nullable=True),
        sa.Column('problem', Exact(), nullable=True),
        sa.ForeignKeyConstraint(['invitation'], ['invitation.id'], name=op.f('fk_invitation_pii_invitation')),
        sa.PrimaryKeyConstraint('invitation', name=op.f('pk_invitation_pii'))
    )
    op.create_table('identity',
        sa.Column('issuer', Exact(), nullable=False),
        sa.Column('subject', Exact(), nullable=False),
        sa.Column('rater', KEY, nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_identity_rater'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('issuer', 'subject', name=op.f('pk_identity'))
    )
    op.create_index(op.f('ix_identity_rater'), 'identity', ['rater'], unique=False)
    op.create_table('gold_explanation',
        sa.Column('id', KEY, nullable=False),
        sa.Column('task', KEY, nullable=False),
        sa.Column('body', Exact(), nullable=False),
        sa.Column('created_at', TIME, nullable=False),
        sa.ForeignKeyConstraint(['task'], ['task.id'], name=op.f('fk_gold_explanation_task'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_gold_explanation'))
    )
    op.create_index(op.f('ix_gold_explanation_task'), 'gold_explanation', ['task'], unique=False)
    op.create_table('trial',
        sa.Column('assignment', KEY, nullable=False),
        sa.Column('project', KEY, nullable=False),
        sa.Column('rater', KEY, nullable=False),
        sa.Column('stage', sa.String(length=13), nullable=False),
        sa.Column('attempt', sa.Integer(), nullable=False),
        sa.CheckConstraint("stage IN ('training', 'qualification')", name=op.f('ck_trial_stage')),
        sa.ForeignKeyConstraint(['assignment'], ['assignment.id'], name=op.f('fk_trial_assignment')),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_trial_project'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_trial_rater'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('assignment', name=op.f('pk_trial'))
    )
    op.create_index('ix_trial_rater', 'trial', ['rater', 'project'], unique=False)
    op.create_table('qualification', *keys('qualification', 'project', 'rater'),
        sa.Column('attempt', sa.Integer(), nullable=False),
        sa.Column('state', sa.String(length=8), nullable=False),
        sa.Column('correct', sa.Integer(), nullable=True),
        sa.Column('asked', sa.Integer(), nullable=True),
        sa.Column('decided_by', KEY, nullable=True),
        sa.Column('decided_at', TIME, nullable=True),
        sa.CheckConstraint("state IN ('asked', 'passed', 'failed', 'granted')", name=op.f('ck_qualification_state')),
        sa.ForeignKeyConstraint(['decided_by'], ['rater.id'], name=op.f('fk_qualification_decided_by'), ondelete='RESTRICT')
    )
    protect(op.get_bind(), ("gold_explanation", "trial"))
