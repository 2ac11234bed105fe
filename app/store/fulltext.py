"""The full text's language: PostgreSQL keeps each passage's words in it, so another language means all words anew.

They are made beside the old ones, which are searched until the last of the new ones is there. Each step may break off.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

# One transaction's worth: a replica shall not fall behind for it, nor an upload wait.
BATCH = 500

Step = Callable[[Callable[[Connection], Any]], Any]

_LANGUAGE = text("select cast(words_language() as text)")

_BEGUN = """
select exists (
    select from pg_trigger where tgrelid = 'passages'::regclass and tgname = 'passages_new_words'
    and pg_get_triggerdef(oid) like '%keep_new_words(''{0}'')'
)
"""

# The column's index and constraint go with it.
_CLEAR = (
    "drop trigger if exists passages_new_words on passages",
    "alter table passages drop column if exists new_words",
)

_BEGIN = (
    # What was begun in yet another language.
    *_CLEAR,
    "alter table passages add column new_words tsvector",
    "create trigger passages_new_words before insert or update of section, text on passages"
    " for each row execute function keep_new_words('{0}')",
)

_SOME = """
with batch as (
    select document_id, ordinal from passages
    where cast(:document as uuid) is null or (document_id, ordinal) > (cast(:document as uuid), :ordinal)
    order by document_id, ordinal limit :batch
), made as (
    update passages p set new_words = setweight(to_tsvector(cast(:language as regconfig), p.section), 'B')
        || to_tsvector(cast(:language as regconfig), p.text)
    from batch where p.document_id = batch.document_id and p.ordinal = batch.ordinal and p.new_words is null
)
select document_id, ordinal from batch order by document_id desc, ordinal desc limit 1
"""

_HALF_AN_INDEX = """
select exists (select from pg_index where indexrelid = to_regclass('passages_new_words') and not indisvalid)
"""

# Looked through beside everything else, so that the column may be called not null without another look.
_ALL_THERE = (
    "alter table passages drop constraint if exists passages_new_words_there",
    "alter table passages add constraint passages_new_words_there check (new_words is not null) not valid",
)
_LOOK = "alter table passages validate constraint passages_new_words_there"

_REMAINS = """
select exists (
    select from pg_attribute where attrelid = 'passages'::regclass and attname = 'new_words' and not attisdropped
)
"""

_CHANGE = (
    "alter table passages alter column new_words set not null",
    "alter table passages drop constraint passages_new_words_there",
    "drop trigger if exists passages_words on passages",
    "drop trigger passages_new_words on passages",
    "alter table passages drop column words",
    "alter table passages rename column new_words to words",
    "alter index passages_new_words rename to passages_words",
    "create trigger passages_words before insert or update of section, text on passages"
    " for each row execute function keep_words('{0}')",
    "create or replace function words_language() returns regconfig language sql stable parallel safe"
    " as $$ select '{0}'::regconfig $$",
)


def speaks(connection: Connection, language: str) -> bool:
    """Whether the passages' words are kept in this language."""
    return bool(connection.execute(_LANGUAGE).scalar_one() == language)


def has_remains(connection: Connection) -> bool:
    """Whether a change to another language was begun and never ended."""
    return bool(connection.execute(text(_REMAINS)).scalar_one())


def clear(connection: Connection) -> None:
    """Take away what such a change left, which every upload would go on filling."""
    _all(connection, _CLEAR)


def rebuild(step: Step, pool: Engine, language: str) -> int:
    """Keep the words in this language from now on; searches find the old ones meanwhile. The passages' number.

    ``step`` runs what it is given in one transaction, which nobody has to wait for long.
    """

    def begin(connection: Connection) -> None:
        if not connection.execute(text(_BEGUN.format(language))).scalar_one():
            _all(connection, _BEGIN, language)

    def change(connection: Connection) -> None:
        # Another host's migration may have been quicker.
        if not speaks(connection, language):
            _all(connection, _CHANGE, language)

    def count(connection: Connection) -> int:
        return int(connection.execute(text("select count(*) from passages")).scalar_one())

    step(begin)
    _fill(step, language)
    _index(pool)
    step(lambda connection: _all(connection, _ALL_THERE))
    step(lambda connection: _all(connection, (_LOOK,)))
    step(change)
    step(lambda connection: connection.execute(text("analyze passages")))
    # By itself: nobody may read a passage until the change has ended.
    counted: int = step(count)
    return counted


def _all(connection: Connection, statements: Sequence[str], language: str = "") -> None:
    for statement in statements:
        connection.execute(text(statement.format(language)))


def _fill(step: Step, language: str) -> None:
    last: tuple[UUID | None, int] = (None, 0)

    def some(connection: Connection) -> tuple[UUID, int] | None:
        found = connection.execute(
            text(_SOME), {"document": last[0], "ordinal": last[1], "language": language, "batch": BATCH}
        ).one_or_none()
        return (found.document_id, found.ordinal) if found else None

    while (reached := step(some)) is not None:
        last = reached


def _index(pool: Engine) -> None:
    """Made beside uploads and searches, which no transaction can."""
    with pool.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.execute(text(_HALF_AN_INDEX)).scalar_one():
            connection.execute(text("drop index concurrently passages_new_words"))
        connection.execute(
            text("create index concurrently if not exists passages_new_words on passages using gin (new_words)")
        )
