"""The embedding models in which passages are kept: the one that questions are compared in, and in a change another.

The change has one row, and its state says which of the two is served; who publishes a document holds that row, so that
no document slips through between two states.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, text

State = Literal["embedding", "switched", "held", "finishing", "cancelling"]

# In these both models are kept, and either can be served; in the others one of them is being taken away.
BOTH: frozenset[State] = frozenset({"embedding", "switched", "held"})
_NEW_SERVES: frozenset[State] = frozenset({"switched", "finishing"})


@dataclass(frozen=True)
class Kept:
    """A model with vectors of passages; ``slot`` marks the collections of each index that hold them."""

    model: str
    dimension: int
    slot: str = ""

    @property
    def space(self) -> tuple[str, int]:
        """What vectors must share to be compared."""
        return self.model, self.dimension

    def __str__(self) -> str:
        return f"{self.model} ({self.dimension})"


@dataclass(frozen=True)
class Change:
    """From one model to another."""

    id: UUID
    old: Kept
    new: Kept
    state: State
    started_by: str
    started_at: datetime
    changed_at: datetime
    problem: str | None = None

    @property
    def served(self) -> Kept:
        """The one that questions are compared in."""
        return self.new if self.state in _NEW_SERVES else self.old

    @property
    def other(self) -> Kept:
        """The one beside it."""
        return self.old if self.state in _NEW_SERVES else self.new


@dataclass(frozen=True)
class Stored:
    """What the database holds; ``served`` is None while it holds no passage, ``strangers`` should not be there."""

    served: Kept | None = None
    change: Change | None = None
    strangers: tuple[Kept, ...] = ()

    @property
    def kept(self) -> tuple[Kept, ...]:
        """Every model whose vectors are whole, or are being made whole; the served one first."""
        served = (self.served,) if self.served else ()
        return (*served, self.change.other) if self.change and self.change.state in BOTH else served

    def foreign(self, configured: Iterable[tuple[str, int]]) -> Kept | None:
        """A model that stands in the way of serving, since it is served and not configured or should not be there."""
        if self.strangers:
            return self.strangers[0]
        return self.served if self.served and self.served.space not in set(configured) else None

    def refusal(self, configured: Sequence[tuple[str, int]]) -> str | None:
        """Why a site with these models must not be deployed, the one to embed with first; None when it may be."""
        model, *following = (name for name, _ in configured)
        if foreign := self.foreign(configured):
            return (
                f"inference.embedding_model = {model}; {foreign}, as the stored passages were embedded;"
                " rag reembed goes to another model"
            )
        if lost := next((one for one in self.kept if one.space not in set(configured)), None):
            named = following[0] if following else "none"
            return (
                f"inference.next_embedding_model = {named}; {lost}, which is kept beside {self.served};"
                " rag reembed status says how far it is"
            )
        return None


def stored(connection: Connection, *, hold: bool = False) -> Stored:
    """The models and their change, if there is one; ``hold`` keeps its state until this transaction ends."""
    if found := change(connection, hold="for key share" if hold else ""):
        return Stored(found.served, found)
    rows = connection.execute(
        text("select model, dimension, slot from embedding_models order by first_used, model, dimension")
    )
    kept = [Kept(row.model, row.dimension, row.slot) for row in rows]
    return Stored(kept[0] if kept else None, None, tuple(kept[1:]))


def change(connection: Connection, hold: Literal["", "for key share", "for update"] = "") -> Change | None:
    """The change that is under way, or None."""
    row = connection.execute(text(f"select * from reembedding {hold}")).one_or_none()  # noqa: S608 - of the three above
    return _change(row) if row else None


def note(connection: Connection, model: str, dimension: int) -> None:
    """Say that vectors of this model are stored; during a change its row says so."""
    connection.execute(
        text(
            "insert into embedding_models (model, dimension) select :model, :dimension"
            " where not exists (select from reembedding) on conflict (model, dimension) do nothing"
        ),
        {"model": model, "dimension": dimension},
    )


def begin(connection: Connection, change_id: UUID, old: Kept, model: str, dimension: int, by: str) -> None:
    """Begin a change; the index keeps the new model's vectors under a name that no change before had."""
    connection.execute(
        text(
            "insert into reembedding"
            " (id, old_model, old_dimension, old_slot, new_model, new_dimension, new_slot, state, started_by)"
            " values (:id, :old_model, :old_dimension, :old_slot, :model, :dimension, :slot, 'embedding', :by)"
            " on conflict do nothing"
        ),
        {
            "id": change_id,
            "old_model": old.model,
            "old_dimension": old.dimension,
            "old_slot": old.slot,
            "model": model,
            "dimension": dimension,
            "slot": uuid4().hex[:8],
            "by": by,
        },
    )


def move(connection: Connection, state: State) -> None:
    """Bring the change, which the caller holds for update, into this state."""
    connection.execute(
        text("update reembedding set state = :state, changed_at = now(), problem = null"), {"state": state}
    )
    if state == "finishing":
        # From here on nothing but the new model counts, for programs of before too.
        connection.execute(text("delete from embedding_models"))
        connection.execute(
            text(
                "insert into embedding_models (model, dimension, slot)"
                " select new_model, new_dimension, new_slot from reembedding"
            )
        )


def end(connection: Connection) -> None:
    """The change is over; one model is left, which embedding_models names."""
    connection.execute(
        text(
            "delete from index_slots where slot = (select case state when 'finishing' then old_slot else new_slot end"
            " from reembedding)"
        )
    )
    connection.execute(text("delete from reembedding"))


def lead(connection: Connection, owner: str, lease_seconds: float) -> Change | None:
    """The change, if there is one and nobody else is at work on it; ours for so long then."""
    row = connection.execute(
        text(
            "update reembedding set owner = :owner, lease_until = clock_timestamp() + make_interval(secs => :lease)"
            " where owner = :owner or owner is null or lease_until < clock_timestamp() returning *"
        ),
        {"owner": owner, "lease": lease_seconds},
    ).one_or_none()
    return _change(row) if row else None


def leave(connection: Connection, owner: str) -> None:
    """Let another worker lead at once."""
    connection.execute(
        text("update reembedding set owner = null, lease_until = null where owner = :owner"), {"owner": owner}
    )


def tell_problem(connection: Connection, problem: str | None) -> None:
    """Show what keeps the change from going on."""
    statement = text("update reembedding set problem = :problem where problem is distinct from :problem")
    connection.execute(statement, {"problem": problem})


def _change(row: Row[Any]) -> Change:
    return Change(
        row.id,
        Kept(row.old_model, row.old_dimension, row.old_slot),
        Kept(row.new_model, row.new_dimension, row.new_slot),
        row.state,
        row.started_by,
        row.started_at,
        row.changed_at,
        row.problem,
    )
