"""Documents' bytes in parts, who keeps how many, and what stood beside an answer that no document supports."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # The strongest lock first: who asks for it while holding a weaker one, and an upload between, wait for each other.
    # What is there stays as it is; a part of it costs what lies before it too.
    op.execute("alter table documents alter column source set storage external")
    op.execute("create index documents_maker on documents (created_by) include (size)")
    # By their ids alone: of a document that is deleted nothing stays.
    op.execute("alter table turns add column closest text[] not null default '{}'")
