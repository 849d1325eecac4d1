"""Whose response a question shows, so that they are not asked it; of comparisons of plays, those that there are, too."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.triggers import protect

revision = "0014"
down_revision = "0013"

# fmt: off
KEY = sa.String(length=36)
THERE = """
INSERT INTO own_response (task, rater)
SELECT DISTINCT t.id, same.author FROM task t
JOIN completion c ON c.prompt = t.prompt
JOIN completion same ON same.prompt = c.prompt AND same.text = c.text AND same.author IS NOT NULL
WHERE t.strategy = 'environment' AND t.kind = 'pair' AND CAST(t.completions AS TEXT) LIKE '%' || c.id || '%'
"""


def upgrade() -> None:
    op.create_table('own_response',
        sa.Column('task', KEY, nullable=False),
        sa.Column('rater', KEY, nullable=False),
        sa.ForeignKeyConstraint(['task'], ['task.id'], name=op.f('fk_own_response_task')),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_own_response_rater'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('task', 'rater', name=op.f('pk_own_response'))
    )
    op.create_index('ix_own_response_rater', 'own_response', ['rater'], unique=False)
    op.get_bind().execute(sa.text(THERE))
    protect(op.get_bind(), ("own_response",))
