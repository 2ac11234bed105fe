"""Sessions, groups, API keys, lock-out and audit."""

from alembic import op

revision = "0002"
down_revision = "0001"

# The program before this one knows 'user' and compares with 'admin' alone: what it writes meanwhile is an editor's.
ROLES = """
alter table users drop constraint users_role_check;
alter table users add constraint users_role_check check (role in ('admin', 'editor', 'reader', 'user'));
update users set role = 'editor' where role = 'user';
"""

# A person leaves, what they made stays.
MAKERS = """
alter table collections drop constraint collections_created_by_fkey;
alter table collections add constraint collections_created_by_fkey
    foreign key (created_by) references users on delete set null;
alter table documents drop constraint documents_created_by_fkey;
alter table documents add constraint documents_created_by_fkey
    foreign key (created_by) references users on delete set null;
"""

# Whoever manages a collection may write to it, and 'write' is all that the program before this one understands.
GROUPS = """
create table groups (
    id uuid primary key,
    name text not null unique,
    created_at timestamptz not null default now()
);
create table members (
    group_id uuid not null references groups on delete cascade,
    user_id uuid not null references users on delete cascade,
    primary key (group_id, user_id)
);
create index members_user on members (user_id);
alter table grants add column manages boolean not null default false;
create index grants_user on grants (user_id);
update grants g set manages = true from collections c
    where c.id = g.collection_id and c.created_by = g.user_id and g.permission = 'write';
create table group_grants (
    collection_id uuid not null references collections on delete cascade,
    group_id uuid not null references groups on delete cascade,
    permission text not null check (permission in ('read', 'write', 'manage')),
    primary key (collection_id, group_id)
);
create index group_grants_group on group_grants (group_id);
"""

# A token says of which generation it is; those of an earlier one than the user's are void.
SESSIONS = """
alter table users add column token_generation integer not null default 0;
create table ended_sessions (
    session_id uuid primary key,
    until timestamptz not null
);
create table spent_refresh_tokens (
    number uuid primary key,
    spent_by uuid not null,
    until timestamptz not null
);
create index ended_sessions_until on ended_sessions (until);
create index spent_refresh_tokens_until on spent_refresh_tokens (until);
"""

KEYS = """
create table api_keys (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    name text not null,
    scopes text[] not null check (scopes <@ array['read', 'write', 'admin']),
    secret_sha256 bytea not null,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz
);
create index api_keys_user on api_keys (user_id, created_at, id);
"""

GUESSES = """
create table guesses (
    name_sha256 bytea not null,
    address text not null,
    wrong integer not null,
    wrong_at timestamptz,
    right_at timestamptz,
    counted_by uuid,
    primary key (name_sha256, address)
);
"""

# Who may only add to the audit is said with the other privileges, in app.store.migrate; the owner's function is the one
# way by which the program takes old entries away.
AUDIT = """
create table audit (
    id uuid primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    key text,
    action text not null,
    object text not null,
    detail jsonb not null,
    request_id text not null,
    address text not null
);
create index audit_at on audit (at, id);
create index audit_actor on audit (actor, at, id);
create function purge_audit(older_than interval) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    purged bigint;
begin
    if older_than is null or older_than < interval '30 days' then
        raise exception 'older_than = %; at least 30 days', older_than using errcode = 'check_violation';
    end if;
    delete from public.audit where at < now() - older_than;
    get diagnostics purged = row_count;
    return purged;
end
$$;
revoke execute on function purge_audit(interval) from public;
"""


def upgrade() -> None:
    for statements in (ROLES, MAKERS, GROUPS, SESSIONS, KEYS, GUESSES, AUDIT):
        op.execute(statements)
