"""The schema's history; alembic runs it through app.store.migrate."""
