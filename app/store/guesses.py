"""Wrong passwords, counted so that guessing slows down at every host and nobody is kept from their account for long.

A person is delayed by what was guessed from their own address, up to a minute. What was guessed from elsewhere delays
only who signs in from an address that is new to them, and a few seconds.
"""

import hashlib
import ipaddress
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

# So many wrong ones are a slip; then a second, and twice as long each time.
FREE = 5
LONGEST_SECONDS = 60.0
# From all other addresses together, in the same time.
FREE_ELSEWHERE = 50
ELSEWHERE_SECONDS = 10.0
# After so long without another one they are forgotten, and after so many days that somebody signed in from there.
MINUTES = 15
DAYS = 30


@dataclass(frozen=True)
class Source:
    """A name that somebody signs in with and where from; of the name only a hash: it may be a password, mistyped."""

    name_sha256: bytes
    address: str


@dataclass(frozen=True)
class Tally:
    """Wrong ones of late, and the seconds since the last; ``known``: this name has signed in from this address."""

    wrong: int = 0
    age: float = 0.0
    elsewhere: int = 0
    elsewhere_age: float = 0.0
    known: bool = False


def source(name: str, address: str) -> Source:
    """Where a sign-in comes from."""
    return Source(hashlib.sha256(name.encode()).digest(), network(address))


def network(address: str) -> str:
    """An address as it is counted; of IPv6 the network, since each of its machines has as many as it wants."""
    return _within(address, 64)


def site(address: str) -> str:
    """An address as a flood from it is counted; of IPv6 what a customer is given, with 65,536 networks in it."""
    return _within(address, 48)


def _within(address: str, bits: int) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, bits), strict=False))
    return address


def wait(tally: Tally) -> float:
    """Seconds until the next try is let through; 0 for at once."""
    own = min(2.0 ** min(tally.wrong - FREE, 10), LONGEST_SECONDS) if tally.wrong >= FREE else 0.0
    others = ELSEWHERE_SECONDS if tally.elsewhere >= FREE_ELSEWHERE and not tally.known else 0.0
    return max(own - tally.age, others - tally.elsewhere_age, 0.0)


def tally(connection: Connection, one: Source) -> Tally:
    """What is known of the name and the address."""
    row = connection.execute(
        text(
            f"""
            with lately as (
                select wrong, address = :address as here, right_at > now() - interval '{DAYS} days' as known,
                extract(epoch from clock_timestamp() - wrong_at) as age, wrong_at > now() - interval '{MINUTES} minutes'
                and wrong > 0 as counts from guesses where name_sha256 = :name
            )
            select coalesce(sum(wrong) filter (where here and counts), 0) as wrong,
            coalesce(min(age) filter (where here and counts), 0) as age,
            coalesce(sum(wrong) filter (where not here and counts), 0) as elsewhere,
            coalesce(min(age) filter (where not here and counts), 0) as elsewhere_age,
            coalesce(bool_or(here and known), false) as known from lately
            """  # noqa: S608 - of our own words only
        ),
        {"name": one.name_sha256, "address": one.address},
    ).one()
    return Tally(int(row.wrong), float(row.age), int(row.elsewhere), float(row.elsewhere_age), row.known)


def count(connection: Connection, one: Source, by: UUID) -> None:
    """Count a wrong password, once for the request ``by``; after a quiet time the count begins anew."""
    connection.execute(
        text(
            f"""
            insert into guesses as g (name_sha256, address, wrong, wrong_at, counted_by)
            values (:name, :address, 1, clock_timestamp(), :by)
            on conflict (name_sha256, address) do update set wrong_at = clock_timestamp(), counted_by = :by,
            wrong = case when g.counted_by = :by then g.wrong
                when g.wrong_at > now() - interval '{MINUTES} minutes' then g.wrong + 1 else 1 end
            """  # noqa: S608 - of our own words only
        ),
        {"name": one.name_sha256, "address": one.address, "by": by},
    )


def forgive(connection: Connection, one: Source) -> None:
    """Somebody showed the right password: what was wrong from there is forgotten, and the address known."""
    connection.execute(
        text(
            "insert into guesses (name_sha256, address, wrong, right_at) values (:name, :address, 0, now())"
            " on conflict (name_sha256, address) do update set wrong = 0, right_at = now()"
        ),
        {"name": one.name_sha256, "address": one.address},
    )


def forget(connection: Connection, most: int) -> int:
    """Take away what counts no more, so many rows at most; how many it were."""
    statement = text(
        "delete from guesses where ctid = any(array("
        "select ctid from guesses where coalesce(wrong_at < now() - make_interval(mins => :minutes), true)"
        " and coalesce(right_at < now() - make_interval(days => :days), true) limit :most))"
    )
    return connection.execute(statement, {"minutes": MINUTES, "days": DAYS, "most": most}).rowcount
