"""Rows that the backup host writes every few seconds: the newest one that a restore shows says what it lost."""

from alembic import op

revision = "0010"
down_revision = "0009"
# The newest revision that a program must know to work in this schema.
serves = "0009"

# The backup host's role reads everything, to copy it, and may write here alone. Where there is none, nobody writes.
CANARIES = """
create table canaries (
    number bigint primary key,
    at timestamptz not null default clock_timestamp()
);
create index on canaries (at);
do $$
begin
    if exists (select from pg_roles where rolname = 'rag_backup') then
        grant select, insert, delete on canaries to rag_backup;
    end if;
end
$$;
"""


def upgrade() -> None:
    op.execute(CANARIES)
