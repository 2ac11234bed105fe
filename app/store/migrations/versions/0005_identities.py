"""Who signs in at the site's provider."""

from alembic import op

revision = "0005"
down_revision = "0004"

# Whom a provider means is said by its issuer and its subject alone.
IDENTITIES = """
create table identities (
    issuer text not null,
    subject text not null,
    user_id uuid not null references users on delete cascade,
    linked_at timestamptz not null default now(),
    primary key (issuer, subject),
    unique (user_id, issuer)
);
"""


def upgrade() -> None:
    op.execute(IDENTITIES)
