"""Refused sign-ins in the audit: one by one, until so many came from one address that a line for each is a flood."""

from sqlalchemy import Connection

from app.store import audit, guesses, rates
from app.store.audit import Actor, Detail

# In an hour from one address; what comes after them is told by one more entry, and counted by a metric alone.
LISTED = 30


def note(connection: Connection, by: Actor, what: str, detail: Detail | None = None) -> None:
    """Write down that ``what`` was refused to somebody, for a wrong password or by what their provider says."""
    number = rates.count_in_hour(connection, rates.place(guesses.site(by.address)), "refused").used
    if number <= LISTED:
        audit.note(connection, by, f"{what}.refused", "token", detail)
    elif number == LISTED + 1:
        flood = {"listed": LISTED, "others": "from this address are not listed until the hour ends"}
        audit.note(connection, by, f"{what}.flood", "token", flood)
