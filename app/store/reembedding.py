"""The steps from one embedding model to another, each in one transaction that holds the change."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from app.store import changes, embeddings, models, positions
from app.store.embeddings import Done
from app.store.models import Change, Kept
from app.store.positions import OfHost


@dataclass(frozen=True)
class Host:
    """How one host's index stands with the model that is asked about."""

    name: str
    # complete, filling, absent (it has not begun), without the model (its site's file does not name it), old release
    index: str


def wanted(change: Change) -> tuple[Kept, ...]:
    """The models in which no passage may lack its vector, as the change stands."""
    if change.state == "embedding":
        return (change.new,)
    return (change.served, change.other) if change.state in models.BOTH else (change.served,)


def switch(connection: Connection) -> bool:
    """Go over to the new model, if every passage has its vector and every host's index all of them."""
    found = models.change(connection)
    if found is None or found.state != "embedding" or not _whole(connection, found.new):
        return False
    # Looked at again while no document can be published: what came in since was embedded in both, or is found here.
    found = models.change(connection, "for update")
    if found is None or found.state != "embedding" or counted(connection, found.new).lacking:
        return False
    models.move(connection, "switched")
    return True


def end_if_settled(connection: Connection, change: Change) -> bool:
    """End the change, if nothing but the served model is left."""
    found = models.change(connection, "for update")
    if found is None or found.id != change.id or found.state in models.BOTH:
        return True
    if not embeddings.settled(connection, found.served):
        return False
    models.end(connection)
    return True


def hosts(connection: Connection, kept: Kept) -> list[Host]:
    """Every host that is there, and how its index stands."""
    last = changes.last_embedded(connection, kept.slot)
    return [Host(one.host, _index(one, (last.xid, last.seq))) for one in positions.of_hosts(connection, kept.slot)]


def outdated(found: Sequence[Host]) -> list[str]:
    """Hosts whose release knows of one model only."""
    return [host.name for host in found if host.index == "old release"]


def without_model(found: Sequence[Host]) -> list[str]:
    """Hosts whose site's file does not name the model, so that they could not embed a question with it."""
    return [host.name for host in found if host.index == "without the model"]


def counted(connection: Connection, kept: Kept) -> Done:
    """How many passages there are, and how many have this model's vector."""
    return embeddings.count(connection, kept)


def passages(connection: Connection) -> int:
    """How many passages there are."""
    return int(connection.execute(text("select count(*) from passages")).scalar_one())


def _whole(connection: Connection, kept: Kept) -> bool:
    if counted(connection, kept).lacking:
        return False
    found = hosts(connection, kept)
    return bool(found) and all(host.index == "complete" for host in found)


def _index(host: OfHost, last: tuple[int, int]) -> str:
    if not host.knows:
        return "old release"
    if host.filled is None:
        return "absent"
    if not host.embeds:
        return "without the model"
    return "complete" if host.filled and host.position >= last else "filling"
