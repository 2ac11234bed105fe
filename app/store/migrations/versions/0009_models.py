"""A second embedding model beside the first, for the time of the change from one to the other."""

from alembic import op

revision = "0009"
down_revision = "0008"

# Which collections of an index hold a model's vectors; those of before carry no mark in their names. The kinds of
# before are among the new ones, so no row has to be looked at while everybody waits.
SLOTS = """
alter table embedding_models add column slot text not null default '';
alter table changes add column slot text;
alter table changes drop constraint changes_kind_check;
alter table changes add constraint changes_kind_check check (kind in ('indexed', 'deleted', 'embedded')) not valid;
"""

# passages.embedding stays where it is, so that nothing is copied here; what a passage has beside it lies here until the
# change ends. A vector does not compress.
EMBEDDINGS = """
create table embeddings (
    document_id uuid not null,
    ordinal integer not null,
    model text not null,
    dimension integer not null,
    embedding bytea not null,
    primary key (document_id, ordinal, model),
    foreign key (document_id, ordinal) references passages on delete cascade
);
alter table embeddings alter column embedding set storage external;
"""

CHANGE = """
create table reembedding (
    id uuid primary key,
    only_one boolean not null unique default true check (only_one),
    old_model text not null,
    old_dimension integer not null,
    old_slot text not null,
    new_model text not null,
    new_dimension integer not null,
    new_slot text not null,
    state text not null check (state in ('embedding', 'switched', 'held', 'finishing', 'cancelling')),
    started_by text not null,
    started_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    problem text,
    owner text,
    lease_until timestamptz
);
"""

INDEXES = """
create table index_slots (
    host text not null,
    slot text not null,
    xid xid8 not null,
    seq bigint not null,
    filled boolean not null,
    seen_at timestamptz not null,
    primary key (host, slot)
);
create function tell_index_slot(host text, slot text, xid xid8, seq bigint, filled boolean) returns void
language sql security definer set search_path = public, pg_temp as $$
    insert into index_slots (host, slot, xid, seq, filled, seen_at) values ($1, $2, $3, $4, $5, now())
    on conflict (host, slot) do update
    set xid = excluded.xid, seq = excluded.seq, filled = excluded.filled, seen_at = now();
$$;
revoke execute on function tell_index_slot(text, text, xid8, bigint, boolean) from public;
"""


def upgrade() -> None:
    for statements in (SLOTS, EMBEDDINGS, CHANGE, INDEXES):
        op.execute(statements)
