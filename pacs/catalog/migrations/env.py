"""Runs migrations on the connection, and in the transaction, that `Catalog.migrate` passes in."""

from alembic import context

from pacs.catalog.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
