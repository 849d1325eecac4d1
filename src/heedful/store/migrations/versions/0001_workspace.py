"""The workspace's first tables, as they were on that day: later changes are migrations of their own."""

import sqlalchemy as sa
from alembic import op

from heedful.store.tables.columns import Exact, Json
from heedful.store.tables.triggers import protect

revision = "0001"
down_revision = None

# fmt: off
IMMUTABLE = (
    "guideline_version", "run", "checkpoint", "prompt", "completion", "demonstration",
    "task", "gold_key", "judgment", "ranking_item", "score", "rule_flag",
    "critique", "edit", "offer", "turn", "dataset_snapshot", "audit_event",
)


def upgrade() -> None:
    op.create_table('audit_event',
        sa.Column('seq', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('at', sa.Float(precision=53), nullable=False),
        sa.Column('actor', sa.String(length=36), nullable=True),
        sa.Column('action', sa.String(length=40), nullable=False),
        sa.Column('detail', Json(), nullable=False),
        sa.Column('hash', sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint('seq', name=op.f('pk_audit_event'))
    )
    op.create_table('project',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('name', Exact(), nullable=False),
        sa.Column('settings', Json(), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_project')),
        sa.UniqueConstraint('name', name=op.f('uq_project_name'))
    )
    op.create_table('rate_limit',
        sa.Column('key', sa.String(length=200), nullable=False),
        sa.Column('tokens', sa.Float(precision=53), nullable=False),
        sa.Column('at', sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint('key', name=op.f('pk_rate_limit'))
    )
    op.create_table('rater',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('pseudonym', Exact(), nullable=False),
        sa.Column('role', sa.String(length=8), nullable=False),
        sa.Column('status', sa.String(length=8), nullable=False),
        sa.Column('settings', Json(), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.CheckConstraint("role IN ('owner', 'lead', 'rater', 'judge')", name=op.f('ck_rater_role')),
        sa.CheckConstraint("status IN ('active', 'paused', 'gone')", name=op.f('ck_rater_status')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_rater')),
        sa.UniqueConstraint('pseudonym', name=op.f('uq_rater_pseudonym'))
    )
    op.create_table('api_token',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('rater', sa.String(length=36), nullable=False),
        sa.Column('name', Exact(), nullable=False),
        sa.Column('token_hash', sa.String(length=64), nullable=False),
        sa.Column('scopes', Json(), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.Column('expires_at', sa.Float(precision=53), nullable=True),
        sa.Column('revoked_at', sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_api_token_rater'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_api_token')),
        sa.UniqueConstraint('token_hash', name=op.f('uq_api_token_token_hash'))
    )
    op.create_index(op.f('ix_api_token_rater'), 'api_token', ['rater'], unique=False)
    op.create_table('dataset_snapshot',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('query', Json(), nullable=False),
        sa.Column('judgments', Json(), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_dataset_snapshot_project'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_dataset_snapshot'))
    )
    op.create_table('guideline_version',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('body', Exact(), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_guideline_version_project'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_guideline_version'))
    )
    op.create_index(op.f('ix_guideline_version_project'), 'guideline_version', ['project'], unique=False)
    op.create_table('invitation',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('token_hash', sa.String(length=64), nullable=False),
        sa.Column('role', sa.String(length=8), nullable=False),
        sa.Column('invited_by', sa.String(length=36), nullable=True),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.Column('expires_at', sa.Float(precision=53), nullable=False),
        sa.Column('used_by', sa.String(length=36), nullable=True),
        sa.ForeignKeyConstraint(['invited_by'], ['rater.id'], name=op.f('fk_invitation_invited_by'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['used_by'], ['rater.id'], name=op.f('fk_invitation_used_by'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_invitation')),
        sa.UniqueConstraint('token_hash', name=op.f('uq_invitation_token_hash'))
    )
    op.create_table('prompt',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('content', Json(), nullable=False),
        sa.Column('split', sa.String(length=10), nullable=False),
        sa.Column('source', Exact(), nullable=True),
        sa.Column('licence', Exact(), nullable=True),
        sa.Column('language', sa.String(length=35), nullable=True),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_prompt_project'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_prompt')),
        sa.UniqueConstraint('project', 'sha256', name=op.f('uq_prompt_project_sha256'))
    )
    op.create_table('rater_pii',
        sa.Column('rater', sa.String(length=36), nullable=False),
        sa.Column('login', sa.String(length=320), nullable=False),
        sa.Column('name', Exact(), nullable=True),
        sa.Column('password_hash', sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_rater_pii_rater')),
        sa.PrimaryKeyConstraint('rater', name=op.f('pk_rater_pii')),
        sa.UniqueConstraint('login', name=op.f('uq_rater_pii_login'))
    )
    op.create_table('session',
        sa.Column('token_hash', sa.String(length=64), nullable=False),
        sa.Column('rater', sa.String(length=36), nullable=False),
        sa.Column('csrf', sa.String(length=64), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.Column('expires_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_session_rater'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('token_hash', name=op.f('pk_session'))
    )
    op.create_index(op.f('ix_session_rater'), 'session', ['rater'], unique=False)
    op.create_table('webhook',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('url', Exact(), nullable=False),
        sa.Column('secret', sa.String(length=64), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_webhook_project'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook'))
    )
    op.create_table('run',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=True),
        sa.Column('kind', sa.String(length=40), nullable=False),
        sa.Column('folder', Exact(), nullable=False),
        sa.Column('code_version', sa.String(length=40), nullable=False),
        sa.Column('config', Json(), nullable=False),
        sa.Column('seed', sa.Integer(), nullable=True),
        sa.Column('parent', sa.String(length=36), nullable=True),
        sa.Column('snapshot', sa.String(length=36), nullable=True),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['parent'], ['run.id'], name=op.f('fk_run_parent'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_run_project'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['snapshot'], ['dataset_snapshot.id'], name=op.f('fk_run_snapshot')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_run'))
    )
    op.create_table('task',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('kind', sa.String(length=10), nullable=False),
        sa.Column('prompt', sa.String(length=36), nullable=False),
        sa.Column('completions', Json(), nullable=False),
        sa.Column('options', Json(), nullable=False),
        sa.Column('overlap', sa.Integer(), nullable=False),
        sa.Column('guideline_version', sa.String(length=36), nullable=True),
        sa.Column('strategy', sa.String(length=40), nullable=False),
        sa.Column('score', sa.Float(precision=53), nullable=True),
        sa.Column('propensity', sa.Float(precision=53), nullable=True),
        sa.Column('round', sa.Integer(), nullable=False),
        sa.Column('is_gold', sa.Boolean(), nullable=False),
        sa.Column('swap_of', sa.String(length=36), nullable=True),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['guideline_version'], ['guideline_version.id'], name=op.f('fk_task_guideline_version'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_task_project'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['prompt'], ['prompt.id'], name=op.f('fk_task_prompt'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['swap_of'], ['task.id'], name=op.f('fk_task_swap_of'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_task')),
        sa.UniqueConstraint('project', 'sha256', name=op.f('uq_task_project_sha256'))
    )
    op.create_index('ix_task_swap', 'task', ['project', 'swap_of'], unique=False, sqlite_where=sa.text('swap_of IS NOT NULL'), postgresql_where=sa.text('swap_of IS NOT NULL'))
    op.create_index('ix_task_gold', 'task', ['project', 'is_gold'], unique=False)
    op.create_table('assignment',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('task', sa.String(length=36), nullable=False),
        sa.Column('slot', sa.Integer(), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('rater', sa.String(length=36), nullable=False),
        sa.Column('order_shown', Json(), nullable=False),
        sa.Column('state', sa.String(length=8), nullable=False),
        sa.Column('leased_at', sa.Float(precision=53), nullable=False),
        sa.Column('leased_until', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_assignment_project'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_assignment_rater'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['task'], ['task.id'], name=op.f('fk_assignment_task')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_assignment')),
        sa.UniqueConstraint('task', 'rater', name=op.f('uq_assignment_task_rater'))
    )
    op.create_index('ix_assignment_leases', 'assignment', ['project', 'leased_until'], unique=False, sqlite_where=sa.text("state = 'active'"), postgresql_where=sa.text("state = 'active'"))
    op.create_index('ix_assignment_rater', 'assignment', ['rater', 'state', 'leased_at'], unique=False)
    op.create_index('uq_assignment_lease', 'assignment', ['task', 'slot'], unique=True, sqlite_where=sa.text("state = 'active'"), postgresql_where=sa.text("state = 'active'"))
    op.create_table('checkpoint',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('run', sa.String(length=36), nullable=True),
        sa.Column('step', sa.Integer(), nullable=True),
        sa.Column('path', Exact(), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['run'], ['run.id'], name=op.f('fk_checkpoint_run'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_checkpoint')),
        sa.UniqueConstraint('sha256', name=op.f('uq_checkpoint_sha256'))
    )
    op.create_table('gold_key',
        sa.Column('task', sa.String(length=36), nullable=False),
        sa.Column('answer', Json(), nullable=False),
        sa.ForeignKeyConstraint(['task'], ['task.id'], name=op.f('fk_gold_key_task')),
        sa.PrimaryKeyConstraint('task', name=op.f('pk_gold_key'))
    )
    op.create_table('completion',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('prompt', sa.String(length=36), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('text', Exact(), nullable=False),
        sa.Column('checkpoint', sa.String(length=36), nullable=True),
        sa.Column('author', sa.String(length=36), nullable=True),
        sa.Column('model', Exact(), nullable=True),
        sa.Column('token_ids', Json(), nullable=True),
        sa.Column('logprobs', Json(), nullable=True),
        sa.Column('sampling', Json(), nullable=True),
        sa.Column('seed', sa.Integer(), nullable=True),
        sa.Column('finish_reason', sa.String(length=10), nullable=True),
        sa.Column('engine', sa.String(length=80), nullable=True),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['author'], ['rater.id'], name=op.f('fk_completion_author'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['checkpoint'], ['checkpoint.id'], name=op.f('fk_completion_checkpoint'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['prompt'], ['prompt.id'], name=op.f('fk_completion_prompt'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_completion')),
        sa.UniqueConstraint('prompt', 'sha256', name=op.f('uq_completion_prompt_sha256'))
    )
    op.create_table('judgment',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('assignment', sa.String(length=36), nullable=False),
        sa.Column('task', sa.String(length=36), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('rater', sa.String(length=36), nullable=False),
        sa.Column('revision', sa.Integer(), nullable=False),
        sa.Column('supersedes', sa.String(length=36), nullable=True),
        sa.Column('outcome', sa.String(length=10), nullable=False),
        sa.Column('strength', sa.Float(precision=53), nullable=True),
        sa.Column('confidence', sa.Float(precision=53), nullable=True),
        sa.Column('text', Exact(), nullable=True),
        sa.Column('said', Json(), nullable=False),
        sa.Column('disposition', sa.String(length=8), nullable=False),
        sa.Column('active_ms', sa.Integer(), nullable=True),
        sa.Column('wall_ms', sa.Integer(), nullable=True),
        sa.Column('client_at', sa.Float(precision=53), nullable=True),
        sa.Column('ui_version', sa.String(length=40), nullable=True),
        sa.Column('idempotency_key', sa.String(length=64), nullable=False),
        sa.Column('request_sha256', sa.String(length=64), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['assignment'], ['assignment.id'], name=op.f('fk_judgment_assignment'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_judgment_project'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['rater'], ['rater.id'], name=op.f('fk_judgment_rater'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['supersedes'], ['judgment.id'], name=op.f('fk_judgment_supersedes'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['task'], ['task.id'], name=op.f('fk_judgment_task'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_judgment')),
        sa.UniqueConstraint('assignment', 'revision', name=op.f('uq_judgment_assignment_revision')),
        sa.UniqueConstraint('rater', 'idempotency_key', name=op.f('uq_judgment_rater_idempotency_key')),
        sa.UniqueConstraint('supersedes', name=op.f('uq_judgment_supersedes'))
    )
    op.create_index('ix_judgment_progress', 'judgment', ['rater', 'project', 'revision', 'created_at', 'active_ms'], unique=False)
    op.create_index('ix_judgment_sums', 'judgment', ['project', 'rater', 'outcome', 'disposition', 'active_ms'], unique=False)
    op.create_index('ix_judgment_task', 'judgment', ['task'], unique=False)
    op.create_index('ix_judgment_when', 'judgment', ['project', 'created_at', 'outcome', 'disposition'], unique=False)
    op.create_table('offer',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('assignment', sa.String(length=36), nullable=False),
        sa.Column('place', sa.Integer(), nullable=False),
        sa.Column('said', Exact(), nullable=False),
        sa.Column('candidates', Json(), nullable=False),
        sa.Column('order_shown', Json(), nullable=False),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['assignment'], ['assignment.id'], name=op.f('fk_offer_assignment'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_offer')),
        sa.UniqueConstraint('assignment', 'place', name=op.f('uq_offer_assignment_place'))
    )
    op.create_table('critique',
        sa.Column('judgment', sa.String(length=36), nullable=False),
        sa.Column('place', sa.Integer(), nullable=False),
        sa.Column('completion', sa.String(length=36), nullable=False),
        sa.Column('start', sa.Integer(), nullable=True),
        sa.Column('end', sa.Integer(), nullable=True),
        sa.Column('text', Exact(), nullable=False),
        sa.ForeignKeyConstraint(['completion'], ['completion.id'], name=op.f('fk_critique_completion'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['judgment'], ['judgment.id'], name=op.f('fk_critique_judgment')),
        sa.PrimaryKeyConstraint('judgment', 'place', name=op.f('pk_critique'))
    )
    op.create_table('demonstration',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('prompt', sa.String(length=36), nullable=False),
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('text', Exact(), nullable=False),
        sa.Column('judgment', sa.String(length=36), nullable=True),
        sa.Column('source', Exact(), nullable=True),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['judgment'], ['judgment.id'], name=op.f('fk_demonstration_judgment')),
        sa.ForeignKeyConstraint(['prompt'], ['prompt.id'], name=op.f('fk_demonstration_prompt'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_demonstration'))
    )
    op.create_index('uq_demonstration_imported', 'demonstration', ['prompt', 'sha256'], unique=True, sqlite_where=sa.text('judgment IS NULL'), postgresql_where=sa.text('judgment IS NULL'))
    op.create_table('edit',
        sa.Column('judgment', sa.String(length=36), nullable=False),
        sa.Column('place', sa.Integer(), nullable=False),
        sa.Column('completion', sa.String(length=36), nullable=False),
        sa.Column('edited', sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(['completion'], ['completion.id'], name=op.f('fk_edit_completion'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['edited'], ['completion.id'], name=op.f('fk_edit_edited'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['judgment'], ['judgment.id'], name=op.f('fk_edit_judgment')),
        sa.PrimaryKeyConstraint('judgment', 'place', name=op.f('pk_edit'))
    )
    op.create_table('ranking_item',
        sa.Column('judgment', sa.String(length=36), nullable=False),
        sa.Column('place', sa.Integer(), nullable=False),
        sa.Column('completion', sa.String(length=36), nullable=False),
        sa.Column('rank', sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(['completion'], ['completion.id'], name=op.f('fk_ranking_item_completion'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['judgment'], ['judgment.id'], name=op.f('fk_ranking_item_judgment')),
        sa.PrimaryKeyConstraint('judgment', 'place', name=op.f('pk_ranking_item'))
    )
    op.create_table('rule_flag',
        sa.Column('judgment', sa.String(length=36), nullable=False),
        sa.Column('place', sa.Integer(), nullable=False),
        sa.Column('completion', sa.String(length=36), nullable=False),
        sa.Column('rule', Exact(), nullable=False),
        sa.Column('verdict', sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(['completion'], ['completion.id'], name=op.f('fk_rule_flag_completion'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['judgment'], ['judgment.id'], name=op.f('fk_rule_flag_judgment')),
        sa.PrimaryKeyConstraint('judgment', 'place', name=op.f('pk_rule_flag'))
    )
    op.create_table('score',
        sa.Column('judgment', sa.String(length=36), nullable=False),
        sa.Column('place', sa.Integer(), nullable=False),
        sa.Column('completion', sa.String(length=36), nullable=False),
        sa.Column('axis', Exact(), nullable=False),
        sa.Column('value', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['completion'], ['completion.id'], name=op.f('fk_score_completion'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['judgment'], ['judgment.id'], name=op.f('fk_score_judgment')),
        sa.PrimaryKeyConstraint('judgment', 'place', name=op.f('pk_score'))
    )
    op.create_table('task_slot',
        sa.Column('task', sa.String(length=36), nullable=False),
        sa.Column('slot', sa.Integer(), nullable=False),
        sa.Column('project', sa.String(length=36), nullable=False),
        sa.Column('state', sa.String(length=8), nullable=False),
        sa.Column('position', sa.Float(precision=53), nullable=False),
        sa.Column('judgment', sa.String(length=36), nullable=True),
        sa.ForeignKeyConstraint(['judgment'], ['judgment.id'], name=op.f('fk_task_slot_judgment')),
        sa.ForeignKeyConstraint(['project'], ['project.id'], name=op.f('fk_task_slot_project'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['task'], ['task.id'], name=op.f('fk_task_slot_task')),
        sa.PrimaryKeyConstraint('task', 'slot', name=op.f('pk_task_slot')),
        sa.UniqueConstraint('judgment', name=op.f('uq_task_slot_judgment'))
    )
    op.create_index('ix_task_slot_queue', 'task_slot', ['project', 'state', 'position'], unique=False)
    op.create_table('turn',
        sa.Column('offer', sa.String(length=36), nullable=False),
        sa.Column('chosen', sa.Integer(), nullable=False),
        sa.Column('strength', sa.Float(precision=53), nullable=True),
        sa.Column('created_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['offer'], ['offer.id'], name=op.f('fk_turn_offer')),
        sa.PrimaryKeyConstraint('offer', name=op.f('pk_turn'))
    )
    op.create_table('webhook_delivery',
        sa.Column('id', sa.String(length=36), nullable=False),
        sa.Column('webhook', sa.String(length=36), nullable=False),
        sa.Column('judgment', sa.String(length=36), nullable=False),
        sa.Column('state', sa.String(length=8), nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('due_at', sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(['judgment'], ['judgment.id'], name=op.f('fk_webhook_delivery_judgment'), ondelete='RESTRICT'),
        sa.ForeignKeyConstraint(['webhook'], ['webhook.id'], name=op.f('fk_webhook_delivery_webhook'), ondelete='RESTRICT'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_delivery'))
    )
    op.create_index('ix_webhook_delivery_due', 'webhook_delivery', ['state', 'due_at'], unique=False)
    protect(op.get_bind(), IMMUTABLE)
