"""The full text's language: PostgreSQL keeps each passage's words in it, so another language means all words anew."""

from sqlalchemy import Connection, text

_EXPRESSION = """
select pg_get_expr(adbin, adrelid) from pg_attrdef
join pg_attribute on attrelid = adrelid and attnum = adnum
where adrelid = 'passages'::regclass and attname = 'words'
"""

_ANEW = (
    "alter table passages drop column words",
    "alter table passages add column words tsvector not null generated always as ("
    "setweight(to_tsvector('{0}', section), 'B') || to_tsvector('{0}', text)) stored",
    "create index passages_words on passages using gin (words)",
    "analyze passages",
)


def speaks(connection: Connection, language: str) -> bool:
    """Whether the passages' words are kept in this language."""
    expression = str(connection.execute(text(_EXPRESSION)).scalar_one())
    return f"to_tsvector('{language}'::regconfig, text)" in expression


def rebuild(connection: Connection, language: str) -> int:
    """Keep the words in this language from now on; searches wait until this transaction ends. The passages' number."""
    for statement in _ANEW:
        connection.execute(text(statement.format(language)))
    return int(connection.execute(text("select count(*) from passages")).scalar_one())
