"""The backup host around a recovery in place: the last backup before it, its rest meanwhile, a new base after it."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from inventories.settings import Machine, Site
from tasks import restored
from tasks.members import StoppedError
from tasks.patroni import Say, look, of_anybody, until
from tasks.ssh import AskError, ask

RECORD = f"{restored.FOLDER}/recovery.json"
TIMERS = ("rag-backup", "rag-base", "rag-dump", "rag-maintain", "rag-copy", "rag-drill", "rag-drill-weekly")
PSQL = "cd /; runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname rag"
_UNITS = " ".join(["rag-base.path", *(f"{name}.timer" for name in TIMERS)])
TIMERS_ON = (
    f"for unit in {_UNITS}; do systemctl is-enabled --quiet $unit 2>/dev/null && systemctl start $unit; done; true"
)
"""A shell line: those that the deploy enabled run again."""
USED = (
    "select exists (select from audit where at > :'began') or exists (select from questions where asked_at > :'began')"
)


def record_of(site: Site, keeper: Machine) -> dict[str, Any]:
    """
    What the last recovery in place left behind; empty: there was none.

    Its last backup (``at``, ``base``, ``log``), when it ``began`` to exchange the data, whether it came to its end
    (``done``), and the stretches that no backup bears (``breaks``); the backup host reads it too.
    """
    told: dict[str, Any] = json.loads(ask(site, keeper, f"cat {RECORD} 2>/dev/null || echo '{{}}'"))
    return told


def unfinished(record: Mapping[str, Any], window: Mapping[str, Any]) -> bool:
    """
    Whether the cluster that a recovery in place began has no base backup of its own yet.

    Until then what the backup host received since is of a half-made cluster, and the last backup of before counts for
    the next recovery too; from then on that cluster is the site, however the recovery ended.
    """
    return bool(record) and not _since(record, window)


def used(site: Site, record: Mapping[str, Any]) -> bool:
    """Whether people did anything since that recovery began; a cluster that does not answer tells of nobody."""

    def asked(machine: Machine) -> bool:
        began = f"{PSQL} --set began={_began(record)}"
        return ask(site, machine, began, USED, what="who used the site since the last recovery") == "t"

    try:
        return of_anybody(site, asked, look(site).leading)
    except AskError:
        return False


def breaks_of(record: Mapping[str, Any], window: Mapping[str, Any]) -> list[list[str]]:
    """What no backup bears: between a recovery's last backup and the first base of the cluster that it made."""
    known: list[list[str]] = list(record.get("breaks", []))
    if record and (since := _since(record, window)) and record["at"] not in {begin for begin, _ in known}:
        known.append([record["at"], since[0]])
    return known


def _since(record: Mapping[str, Any], window: Mapping[str, Any]) -> list[str]:
    began = datetime.fromisoformat(_began(record))
    return [base["at"] for base in window["bases"] if datetime.fromisoformat(base["at"]) > began]


def _began(record: Mapping[str, Any]) -> str:
    # An older release wrote down only when the last backup was.
    return str(record.get("began", record["at"]))


def take(site: Site, keeper: Machine, say: Say) -> dict[str, Any]:
    """Everything that was acknowledged is in the repository; which snapshots hold it."""
    _wait_for_receiver(site, keeper)
    # A run that is under way may have read the spool before the last of it came: the second one has it.
    twice = "systemctl stop rag-backup.timer; systemctl start rag-backup; systemctl start rag-backup"
    ask(site, keeper, twice, seconds=1800, what="last backup")
    last = restored.window(site, keeper)
    say(f"last backup: the log until {last['last'][:19]} is in the repository")
    return held(last)


def held(window: Mapping[str, Any]) -> dict[str, Any]:
    """The newest backup that the repository has, as it is written down."""
    last = datetime.fromisoformat(window["last"])
    # In repositories of copies a base may have come without the log after it.
    base = next(one for one in reversed(window["bases"]) if datetime.fromisoformat(one["at"]) <= last)
    return {"at": window["last"], "base": base["id"], "log": window["log"]["id"]}


def remembered(site: Site, keeper: Machine, *, anew: bool = False) -> None:
    """
    What is known of recoveries is written down on the backup host: what it knew itself, and what the repositories tell.

    + anew: it has them from elsewhere, and whatever it knew was of others
    """
    # Each step of each recovery is read, and whoever has the repository may be waited for.
    told = json.loads(restored.verb_on(site, keeper, f"recoveries{' --anew' if anew else ''}", seconds=900))
    here = record_of(site, keeper)
    if told and told != here:
        _keep(site, keeper, told)
    elif here and not told:
        ask(site, keeper, f"rm -f {RECORD}")


def rest(site: Site, keeper: Machine) -> None:
    """The backup host receives nothing and begins nothing by itself, until it is started again."""
    units = [f"{name}.timer" for name in TIMERS] + ["rag-base.path"]
    units += [f"{name}.service" for name in ("rag-wal", "rag-base", "rag-dump")]
    ask(site, keeper, f"systemctl stop {' '.join(units)} 2>/dev/null || true", seconds=900)


def _wait_for_receiver(site: Site, keeper: Machine) -> None:
    """The backup host has what the primary has written; one that is dead has nobody to tell."""
    statement = (
        "select flush_lsn >= :'lsn' from pg_stat_replication where client_addr = :'keeper' "
        "and application_name = 'rag-wal' order by 1 desc nulls last limit 1"
    )
    try:
        leader = site.machine(look(site).leading or site.having("database")[0].name)
        lsn = ask(site, leader, PSQL, "select pg_current_wal_flush_lsn()", what="where the log ends")
    except AskError:
        return
    script = f"{PSQL} --set lsn={lsn} --set keeper={keeper.address}"
    if until(lambda: "" if ask(site, leader, script, statement) == "t" else "behind", 30):
        raise StoppedError(
            f"{keeper.name} = behind {lsn}; it must receive what was acknowledged; journalctl -u rag-wal"
        )


def begun(site: Site, keeper: Machine, taken: Mapping[str, Any], breaks: list[list[str]]) -> None:
    """From now on the data are exchanged: it is written down from which backup those of before come back."""
    began = ask(site, keeper, "date --utc +%Y-%m-%dT%H:%M:%S.%6N+00:00")
    _keep(site, keeper, {**taken, "began": began, "done": False, "breaks": breaks})


def resume(site: Site, keeper: Machine) -> None:
    """Backups go on: the timers that the deploy enabled, and a new base at once, since the old ones lead elsewhere."""
    ask(site, keeper, TIMERS_ON)
    base(site, keeper)


def base(site: Site, keeper: Machine) -> None:
    """A base backup, and with it the log until its end, without which it is not good."""
    ask(site, keeper, "systemctl start rag-base", seconds=24 * 3600, what="base backup")
    ask(site, keeper, "systemctl start rag-backup", seconds=900, what="the log of the base backup")


def done(site: Site, keeper: Machine) -> None:
    """What was written before the new base began can be brought back by none, and a later restore is told so."""
    if record := record_of(site, keeper):
        _keep(site, keeper, {**record, "done": True, "breaks": breaks_of(record, restored.window(site, keeper))})


def _keep(site: Site, keeper: Machine, record: Mapping[str, Any]) -> None:
    draft = f"{RECORD}.new"
    # The folder is root's; one that an older release left to the backups' user may hold a link, which is not followed.
    script = f"set -eC; umask 022; rm -f {draft}; cat > {draft}; mv -T {draft} {RECORD}"
    ask(site, keeper, script, json.dumps(record), what="write the recovery down")
