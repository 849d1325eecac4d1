"""Sessions and tokens say where they were last used; known browsers; links to a new password."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.columns import Exact

revision = "0002"
down_revision = "0001"

# fmt: off


def upgrade() -> None:
    op.add_column('session', sa.Column('used_at', sa.Float(precision=53), nullable=True))
    op.add_column('session', sa.Column('user_agent', Exact(), nullable=True))
    op.add_column('session', sa.Column('address', sa.String(length=50), nullable=True))
    op.add_column('api_token', sa.Column('used_at', sa.Float(precision=53), nullable=True))
    op.add_column('api_token', sa.Column('address', sa.String(length=50), nullable=True))
    op.create_table('known_device',
        sa.Column('token_hash', sa.String(length=64), nullable=False),
        sa.Column('rater', sa.String(length=36), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.Column('used_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_known_device_rater'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('token_hash', name=op.f('pk_known_device'))
    )
    op.create_index(op.f('ix_known_device_rater'), 'known_device', ['rater'], unique=False)
    op.create_table('password_link',
        sa.Column('token_hash', sa.String(length=64), nullable=False),
        sa.Column('rater', sa.String(length=36), nullable=False),
        sa.Column('made_by', sa.String(length=36), nullable=True),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.Column('expires_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['made_by'], ['rater.id'], name=op.f('fk_password_link_made_by'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_password_link_rater'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('token_hash', name=op.f('pk_password_link'))
    )
    op.create_index(op.f('ix_password_link_rater'), 'password_link', ['rater'], unique=False)
