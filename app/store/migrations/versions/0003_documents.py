"""States, places and versions of documents."""

from alembic import op

revision = "0003"
down_revision = "0002"

PLACES = """
alter table passages add column place jsonb not null default '{}', add column headings text[] not null default '{}';
"""


def upgrade() -> None:
    for statements in (PLACES,):
        op.execute(statements)
