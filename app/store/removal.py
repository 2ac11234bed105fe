"""Taking a whole collection away: out of sight at once, then its documents some at a time, each told to every index."""

from uuid import UUID

from sqlalchemy import Connection, text

from app.store import changes

# No name that a person can give holds a capital letter.
_HIDDEN = "Deleted-"
SOME = 500


def hide(connection: Connection, collection_id: UUID) -> None:
    """Nobody finds the collection by its name any more, and the name is free."""
    connection.execute(
        text("update collections set name = :hidden where id = :id"),
        {"hidden": f"{_HIDDEN}{collection_id}", "id": collection_id},
    )
    for table in ("grants", "group_grants"):
        connection.execute(text(f"delete from {table} where collection_id = :id"), {"id": collection_id})  # noqa: S608


def take_some(connection: Connection, collection_id: UUID, most: int = SOME) -> int:
    """Delete at most so many of the collection's documents with all that is theirs; how many there were."""
    # Held by their ids, as whoever publishes several versions of a document holds them.
    rows = connection.execute(
        text("select id from documents where collection_id = :id order by id limit :most for update"),
        {"id": collection_id, "most": most},
    )
    ids = [row.id for row in rows]
    # Counted by a statement of its own, which sees what was published while the first one waited.
    counted = connection.execute(
        text(
            "select document_id, count(*) as passages from passages where document_id = any(:ids) group by document_id"
        ),
        {"ids": ids},
    ).all()
    connection.execute(text("delete from documents where id = any(:ids)"), {"ids": ids})
    changes.append_deletions(connection, collection_id, {row.document_id: row.passages for row in counted})
    return len(ids)


def finish(connection: Connection, collection_id: UUID) -> None:
    """Delete the collection with what an upload in flight may have put into it meanwhile."""
    # From here on an upload waits, and then finds no collection.
    connection.execute(text("select 1 from collections where id = :id for update"), {"id": collection_id})
    while take_some(connection, collection_id):
        pass
    connection.execute(text("delete from collections where id = :id"), {"id": collection_id})


def go_on(connection: Connection) -> int:
    """Take a step with a deletion that broke off, as when its process died; 0 when there is none to take."""
    statement = text("select id from collections where name like :hidden order by id limit 1")
    collection_id = connection.execute(statement, {"hidden": f"{_HIDDEN}%"}).scalar_one_or_none()
    if not collection_id:
        return 0
    taken = take_some(connection, collection_id)
    if not taken:
        finish(connection, collection_id)
    return taken or 1


def hold(connection: Connection, collection_id: UUID) -> bool:
    """Keep the collection from being deleted until this transaction ends; False when it is gone."""
    statement = text("select 1 from collections where id = :id and name not like :hidden for key share")
    return connection.execute(statement, {"id": collection_id, "hidden": f"{_HIDDEN}%"}).scalar_one_or_none() == 1
