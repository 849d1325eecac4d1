"""Alembic's entrance: migrations run on the connection, and in the transaction, that `store.db.migrate` opened."""

from alembic import context

from heedful.store.tables import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
