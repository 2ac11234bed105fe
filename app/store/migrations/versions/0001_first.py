"""The first schema."""

from alembic import op

revision = "0001"
down_revision = None

USERS = """
create table users (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    password_hash text not null,
    role text not null check (role in ('admin', 'user')),
    disabled boolean not null default false,
    created_at timestamptz not null default now()
);
create table collections (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    created_by uuid references users,
    created_at timestamptz not null default now()
);
create table grants (
    collection_id uuid not null references collections on delete cascade,
    user_id uuid not null references users on delete cascade,
    permission text not null check (permission in ('read', 'write')),
    primary key (collection_id, user_id)
);
"""

DOCUMENTS = """
create table documents (
    id uuid primary key default gen_random_uuid(),
    collection_id uuid not null references collections on delete cascade,
    title text not null,
    file_name text not null,
    media_type text not null,
    sha256 text not null,
    size bigint not null,
    source bytea not null,
    state text not null default 'queued' check (state in ('queued', 'working', 'indexed', 'failed')),
    error text,
    created_by uuid references users,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    unique (collection_id, sha256)
);
create index documents_file_name on documents (collection_id, file_name);
create table jobs (
    id bigserial primary key,
    document_id uuid not null unique references documents on delete cascade,
    attempts integer not null default 0,
    owner text,
    lease_until timestamptz,
    run_after timestamptz not null default now()
);
create table passages (
    document_id uuid not null references documents on delete cascade,
    ordinal integer not null,
    collection_id uuid not null,
    text text not null,
    section text not null,
    page integer,
    embedding bytea not null,
    model text not null,
    dimension integer not null,
    words tsvector not null generated always as (
        setweight(to_tsvector('english', section), 'B') || to_tsvector('english', text)
    ) stored,
    primary key (document_id, ordinal)
);
create index passages_words on passages using gin (words);
create index passages_collection on passages (collection_id);
create table embedding_models (
    model text not null,
    dimension integer not null,
    first_used timestamptz not null default now(),
    primary key (model, dimension)
);
"""

# A row's number is drawn before its transaction commits, so numbers alone are no order a follower may trust;
# with the transaction's id beside it, a reader can stop before the oldest transaction that still runs.
CHANGES = """
create table changes (
    seq bigserial primary key,
    xid xid8 not null default pg_current_xact_id(),
    token uuid not null default gen_random_uuid(),
    collection_id uuid not null,
    document_id uuid not null,
    kind text not null check (kind in ('indexed', 'deleted')),
    passages integer not null,
    created_at timestamptz not null default now()
);
create index changes_order on changes (xid, seq);
"""

QUESTIONS = """
create table questions (
    id uuid primary key,
    user_id uuid not null,
    collection_id uuid not null,
    question text not null,
    answer text not null,
    supported boolean not null,
    citations jsonb not null,
    model text not null,
    seconds real not null,
    asked_at timestamptz not null
);
create index questions_user on questions (user_id, asked_at);
"""


def upgrade() -> None:
    for statements in (USERS, DOCUMENTS, CHANGES, QUESTIONS):
        op.execute(statements)
