"""What Alembic runs: the pending steps, on the connection and inside the transaction of the caller."""

from alembic import context

from securellm.storage.migrating import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
