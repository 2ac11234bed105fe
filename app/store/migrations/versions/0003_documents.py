"""States, places and versions of documents."""

from alembic import op

revision = "0003"
down_revision = "0002"

# 'working' stays allowed for workers of the release before, which are at work during the deploy.
STATES = """
alter table documents drop constraint documents_state_check;
alter table documents add constraint documents_state_check check (
    state in ('queued', 'working', 'parsing', 'embedding', 'indexed', 'failed', 'cancelled')
);
alter table documents add column done integer, add column total integer;
create index documents_state on documents (collection_id, state);
"""

PLACES = """
alter table passages add column place jsonb not null default '{}', add column headings text[] not null default '{}';
"""

# The reader, as whom each host's index looks, may say how far it is through this door and change nothing else.
POSITIONS = """
create table index_positions (
    host text primary key,
    xid xid8 not null,
    seq bigint not null,
    token uuid,
    seen_at timestamptz not null
);
create function tell_index_position(host text, xid xid8, seq bigint, token uuid) returns void
language sql security definer set search_path = public, pg_temp as $$
    insert into index_positions (host, xid, seq, token, seen_at) values ($1, $2, $3, $4, now())
    on conflict (host) do update set xid = excluded.xid, seq = excluded.seq, token = excluded.token, seen_at = now();
$$;
revoke execute on function tell_index_position(text, xid8, bigint, uuid) from public;
create index changes_document on changes (document_id);
"""


def upgrade() -> None:
    for statements in (STATES, PLACES, POSITIONS):
        op.execute(statements)
