"""The audit is purged a thousand entries at a time, however many are too old."""

from alembic import op

revision = "0007"
down_revision = "0006"

# The program before this one calls it once an hour, and so purges more slowly until it is gone.
AUDIT = """
create or replace function purge_audit(older_than interval) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    purged bigint;
begin
    if older_than is null or older_than < interval '30 days' then
        raise exception 'older_than = %; at least 30 days', older_than using errcode = 'check_violation';
    end if;
    delete from public.audit where id in (
        select id from public.audit where at < now() - older_than order by at, id limit 1000
    );
    get diagnostics purged = row_count;
    return purged;
end
$$;
"""


def upgrade() -> None:
    op.execute(AUDIT)
