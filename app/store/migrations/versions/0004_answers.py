"""Conversations, feedback and rate limits."""

from alembic import op

revision = "0004"
down_revision = "0003"

# The row of a deleted conversation stays for a while without its words: a turn that still waits to be written must not
# bring it back. A table joins questions to it, since the program before this one reads every column of questions.
CONVERSATIONS = """
create table conversations (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    collection_id uuid not null,
    title text not null,
    deleted boolean not null default false,
    created_at timestamptz not null,
    changed_at timestamptz not null
);
create index conversations_user on conversations (user_id, changed_at, id);
create index conversations_changed on conversations (changed_at);
create table turns (
    question_id uuid primary key references questions on delete cascade,
    conversation_id uuid not null references conversations on delete cascade
);
create index turns_conversation on turns (conversation_id);
create index questions_asked on questions (asked_at);
"""

FEEDBACK = """
create table feedback (
    question_id uuid primary key references questions on delete cascade,
    verdict text not null check (verdict in ('up', 'down')),
    comment text not null default '',
    given_at timestamptz not null default now()
);
"""

# Counts of a minute are worth no write-ahead log: a failover empties the table, and everybody begins anew.
RATES = """
create unlogged table rates (
    user_id uuid not null,
    kind text not null,
    began timestamptz not null,
    used integer not null,
    primary key (user_id, kind)
);
"""


def upgrade() -> None:
    for statements in (CONVERSATIONS, FEEDBACK, RATES):
        op.execute(statements)
