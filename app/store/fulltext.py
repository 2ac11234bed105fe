"""The full text's language: PostgreSQL keeps each passage's words in it, so another language means all words anew.

They are made beside the old ones, which are searched until the last of the new ones is there. Each step may break off.
"""

from collections.abc import Callable
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

_BEGIN = (
    # What was begun in yet another language.
    "drop trigger if exists passages_new_words on passages",
    "alter table passages drop column if exists new_words",
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

_CHANGE = (
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


def rebuild(step: Step, pool: Engine, language: str) -> int:
    """Keep the words in this language from now on; searches find the old ones meanwhile. The passages' number.

    ``step`` runs what it is given in one transaction, which nobody has to wait for long.
    """

    def begin(connection: Connection) -> None:
        if not connection.execute(text(_BEGUN.format(language))).scalar_one():
            for statement in _BEGIN:
                connection.execute(text(statement.format(language)))

    def change(connection: Connection) -> None:
        # Another host's migration may have been quicker.
        if not speaks(connection, language):
            for statement in _CHANGE:
                connection.execute(text(statement.format(language)))

    def count(connection: Connection) -> int:
        return int(connection.execute(text("select count(*) from passages")).scalar_one())

    step(begin)
    _fill(step, language)
    _index(pool)
    step(change)
    step(lambda connection: connection.execute(text("analyze passages")))
    # By itself: nobody may read a passage until the change has ended.
    counted: int = step(count)
    return counted


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
