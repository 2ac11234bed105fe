"""Passwords: what is kept of them, and whether one fits; slow on purpose, so never while a connection is held."""

from dataclasses import dataclass

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

# What is kept of somebody who has none, as whoever signs in at the site's provider; nothing fits it.
NONE = "!"

_HASHER = PasswordHash((Argon2Hasher(time_cost=3, memory_cost=65536, parallelism=4),))
# An unknown name must cost as long as a wrong password, else names can be told apart by the clock. Written down, since
# making it would cost every start a quarter of a second; of what it is the hash, nobody knows any more.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$WpkRto4+XhABGWh3SmDNZA$7/B4/xIetD+dhfKHOL9C/Gn4FZJIdUwBC3d/OT3tMiA"


@dataclass(frozen=True)
class Verdict:
    """Whether a password fits, and the hash to keep from now on when the one that is kept was made more cheaply."""

    fits: bool
    better_hash: str | None = None


def hashed(password: str) -> str:
    """What is kept of a password; another one each time."""
    return _HASHER.hash(password)


def check(kept: str | None, password: str) -> Verdict:
    """Whether it is the password of which ``kept`` is the hash; takes as long where there is none."""
    if kept == NONE:
        kept = None
    try:
        fits, better = _HASHER.verify_and_update(password, kept or _NOBODY)
    except UnknownHashError:
        # A hash that nobody can read, as an operator may write one to shut somebody out.
        return Verdict(fits=False)
    return Verdict(fits and kept is not None, better if kept else None)
