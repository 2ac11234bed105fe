"""Which language the full text is in stands in the database: whoever searches asks in the words that are there."""

from alembic import op

revision = "0008"
down_revision = "0007"

# As it was made, or made anew since: the expression of the generated column names it.
LANGUAGE = """
do $$
begin
    execute format(
        'create function words_language() returns regconfig language sql stable parallel safe as %L',
        format('select %L::regconfig', coalesce((
            select substring(pg_get_expr(adbin, adrelid) from 'to_tsvector\\(''([^'']+)''::regconfig, text\\)')
            from pg_attrdef join pg_attribute on attrelid = adrelid and attnum = adnum
            where adrelid = 'passages'::regclass and attname = 'words'
        ), 'english'))
    );
end
$$;
create function keep_words() returns trigger language plpgsql as $$
begin
    new.words := setweight(to_tsvector(tg_argv[0]::regconfig, new.section), 'B')
        || to_tsvector(tg_argv[0]::regconfig, new.text);
    return new;
end
$$;
create function keep_new_words() returns trigger language plpgsql as $$
begin
    new.new_words := setweight(to_tsvector(tg_argv[0]::regconfig, new.section), 'B')
        || to_tsvector(tg_argv[0]::regconfig, new.text);
    return new;
end
$$;
"""


def upgrade() -> None:
    op.execute(LANGUAGE)
