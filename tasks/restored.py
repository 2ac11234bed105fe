"""The restored copy on the backup host: asked for, waited for, looked into, ended."""

import json
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inventories.network import RESTORED
from inventories.settings import Machine, Site
from tasks.members import RefusedError, StoppedError
from tasks.patroni import Say
from tasks.ssh import AskError, SilentError, ask

FOLDER = "/var/lib/rag-backup"
UNIT = "rag-restored.service"
COPY = f"{FOLDER}/scratch/restored"
LONGEST = 24 * 3600.0
"""Seconds for a restore: a big repository is read at the speed of its disk."""
TOLD_SECONDS = 20
SILENCE = 300.0
"""Seconds for which a backup host that restores may not be reached."""
ROOM_MB = 512
"""Beside base and log: what recovery writes, and the server's own log; as the backup host itself asks for."""


@dataclass(frozen=True)
class Copy:
    """What the restored copy holds."""

    to: str
    reached: str
    """When its newest canary was written; empty where there is none."""
    rows: Mapping[str, int]
    canary: int
    schema: str
    timeline: int
    bytes: int
    size: int
    base: str
    log: tuple[str, ...]
    seconds: Mapping[str, float]


def keeper_of(site: Site) -> Machine:
    """The backup host."""
    if not site.having("backup"):
        raise RefusedError(
            f"machines with role backup = 0; one is needed; add it to inventories/{site.name} and deploy"
        )
    return site.having("backup")[0]


def as_keeper(script: str) -> str:
    """
    A shell line that does it as the user of the backups, to whom the folders in the backups' folder belong.

    Root would follow a link that this user may have put into one of them; the user itself gains nothing by it.
    """
    return f"cd /; runuser -u rag-backup -- sh -c {shlex.quote(f'umask 077; {script}')}"


def anew(name: str, mark: str) -> str:
    """A shell line of root's: one of the folders there is empty, and what lay in it is in ``aside/``."""
    folder = f"{FOLDER}/{name}"
    aside = f"test ! -e {folder} || mv -T {folder} {FOLDER}/aside/{name}-{mark}"
    return f"{aside}; install -d -m 700 -o rag-backup -g rag-backup {folder}"


def verb_on(
    site: Site, keeper: Machine, verb: str, seconds: float = 120, stdin: str = "", *, elsewhere: bool = False
) -> str:
    """
    What a verb of the backup program prints, run as its units run it.

    + elsewhere: it reads repositories on another server, and gets what that server wants, where it wants some
    """
    program = "/opt/rag/current"
    words = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--uid=rag-backup"]
    words += ["--property=LoadCredential=repository-password", f"--working-directory={program}"]
    words += [f"--setenv=PYTHONPATH={program}/lib:{program}"]
    secrets = "$(cd /etc/credstore; find . -name 'second-repository-*' -printf '--property=LoadCredential=%f ')"
    script = f"{shlex.join(words)} {secrets if elsewhere else ''} /usr/bin/python3 -m app.backup {verb}"
    return ask(site, keeper, script, stdin, seconds=seconds, what=f"backup {verb.split(maxsplit=1)[0]}")


def window(site: Site, keeper: Machine) -> dict[str, Any]:
    """From when to when any moment can be brought back."""
    told: dict[str, Any] = json.loads(verb_on(site, keeper, "window"))
    return told


def refuse_outside(told: Mapping[str, Any], to: datetime | None) -> None:
    """Refuse a moment that no backup bears."""
    first, last = (datetime.fromisoformat(told[name]) for name in ("first", "last"))
    if to is not None and not first <= to <= last:
        raise RefusedError(
            f"TO = {to:%Y-%m-%d %H:%M:%S%z}; a moment from {first:%Y-%m-%d %H:%M:%S%z} to {last:%Y-%m-%d %H:%M:%S%z} "
            "is needed, or latest; the repository holds no other"
        )


def room(site: Site, keeper: Machine, told: Mapping[str, Any], base: str = "") -> None:
    """Refuse while nothing stands still yet when the backup host cannot hold the copy; ``base``: of which one."""
    sizes = {each["id"]: each["bytes"] for each in told["bases"]}
    need = (sizes.get(base, told["bases"][-1]["bytes"]) + told["log"]["bytes"] >> 20) + ROOM_MB
    free = int(ask(site, keeper, f"df --block-size=1M --output=avail {FOLDER}/scratch | tail -1"))
    if free < need:
        raise RefusedError(
            f"free disk of {keeper.name} = {free} MB; {need} MB are needed for the restored copy; "
            f"df -h {FOLDER}; du -sh {FOLDER}/*"
        )


def busy(site: Site, keeper: Machine) -> str:
    """What is known of a copy that is there already; empty: there is none."""
    script = (
        f"systemctl is-active --quiet {UNIT} || systemctl show {UNIT} --property ActiveState --value | grep -q ing$"
    )
    since = f"systemctl show {UNIT} --property StateChangeTimestamp --value"
    return ask(site, keeper, f"if {script}; then {since}; fi")


def make(site: Site, keeper: Machine, request: dict[str, Any], say: Say) -> Copy:
    """Restore beside production and start the server; what does not get whole, or is interrupted, is ended."""
    if since := busy(site, keeper):
        raise RefusedError(
            f"restore = refused; {keeper.name} has a restored copy since {since}, one at a time is possible; "
            f"make restored-end SITE={site.name}"
        )
    members = {machine.name: str(machine.address) for machine in site.having("database")}
    put = as_keeper(f"cat > {FOLDER}/run/restore.json")
    ask(site, keeper, put, json.dumps(request | {"members": members}), what="write the request")
    begin = f"systemctl reset-failed {UNIT} 2>/dev/null; date +%s; systemctl start --no-block {UNIT}"
    try:
        _wait(site, keeper, ask(site, keeper, begin), say)
        return copy_of(ask(site, keeper, as_keeper(f"cat {COPY}/restored.json"), what="what was restored"))
    except BaseException:
        with suppress(AskError):
            end(site, keeper)
        raise


def copy_of(text: str) -> Copy:
    """Read what the backup host says of the copy."""
    told = json.loads(text)
    return Copy(**(told | {"log": tuple(told["log"])}))


def _wait(site: Site, keeper: Machine, since: str, say: Say) -> None:
    asked = (
        f"systemctl show {UNIT} --property ActiveState --value; "
        f"journalctl -u {UNIT} -o cat --since @{since} _COMM=python3; du -sm {COPY} 2>/dev/null | cut -f 1; true"
    )
    seen, told, heard, end = 0, time.monotonic(), time.monotonic(), time.monotonic() + LONGEST
    while time.monotonic() < end:
        try:
            state, *lines = ask(site, keeper, asked, seconds=300).splitlines()
        except SilentError:
            # It goes on there, whatever the way to it does.
            if time.monotonic() - heard > SILENCE:
                raise
            time.sleep(1)
            continue
        heard = time.monotonic()
        size = lines.pop() if lines and lines[-1].isdigit() else "0"
        for line in lines[seen:]:
            say(f"{keeper.name}: {line}")
        seen, told = len(lines), time.monotonic() if lines[seen:] else told
        if state == "active":
            return
        if state in {"failed", "inactive"}:
            why = lines[-1] if lines else f"journalctl -u {UNIT} -n 50 there"
            raise (RefusedError if "= refused" in why else StoppedError)(f"{keeper.name}: {why}")
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            say(f"{keeper.name}: {size} MB are restored")
        time.sleep(0.5)
    raise StoppedError(f"{keeper.name}: restore = not done in {LONGEST:.0f} s; journalctl -u {UNIT} -n 50 there")


def end(site: Site, keeper: Machine) -> None:
    """Stop the copy's server and remove the copy; that it was interrupted is no failure of the unit's."""
    ask(site, keeper, f"systemctl stop {UNIT} && {{ systemctl reset-failed {UNIT} 2>/dev/null; true; }}", seconds=900)


def query(site: Site, keeper: Machine, statement: str, seconds: float = 300, values: str = "") -> str:
    """What a statement returns in the copy; ``values`` are psql's words for the variables in it."""
    psql = f"cd /; runuser -u rag-backup -- psql --no-psqlrc --quiet --tuples-only --no-align {_place()} rag"
    return ask(site, keeper, f"{psql} --set ON_ERROR_STOP=1 {values}", statement, seconds=seconds, what="ask the copy")


def look_into(site: Site, keeper: Machine) -> list[str]:
    """The lines that a person types to look into the copy, to take a table out of it, and to end it."""
    there = f"ssh -t {site.ssh.user}@{keeper.address} sudo -u rag-backup"
    return [
        f"look into it:   {there} psql {_place()} rag",
        f"take a table:   {there.replace(' -t', '')} pg_dump {_place()} --data-only --table grants rag > grants.sql",
        f"end it:         make restored-end SITE={site.name}",
    ]


def _place() -> str:
    return f"-h {COPY}/server -p {RESTORED} -U postgres"
