"""Alembic runs this file for every upgrade; the connection and its transaction are the store's (see `lab.migrations.upgrade`)."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,  # the store takes pysqlite's half-automatic transactions away, so SQLite rolls a failed step back whole
    render_as_batch=True,  # SQLite cannot ALTER most things in place
)
with context.begin_transaction():
    context.run_migrations()
