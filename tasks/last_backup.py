"""The backup host around a recovery in place: the last backup before it, its rest meanwhile, a new base after it."""

import json
from collections.abc import Mapping
from typing import Any

from inventories.settings import Machine, Site
from tasks import restored
from tasks.members import StoppedError
from tasks.patroni import Say, look, until
from tasks.ssh import AskError, ask

RECORD = f"{restored.FOLDER}/recovery.json"
TIMERS = ("rag-backup", "rag-base", "rag-dump", "rag-maintain", "rag-copy", "rag-drill", "rag-drill-weekly")
PSQL = "cd /; runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname rag"


def record_of(site: Site, keeper: Machine) -> dict[str, Any]:
    """The last backup that a recovery in place took, and whether that one came to its end; empty: there was none."""
    told: dict[str, Any] = json.loads(ask(site, keeper, f"cat {RECORD} 2>/dev/null || echo '{{}}'"))
    return told


def unfinished(record: Mapping[str, Any]) -> bool:
    """Whether a recovery in place was interrupted; the last backup that it took counts for the next one too."""
    return bool(record) and not record["done"]


def take(site: Site, keeper: Machine, say: Say) -> None:
    """Everything that was acknowledged is in the repository, and it is written down which snapshots hold it."""
    known = record_of(site, keeper)
    if unfinished(known):
        # What is received since that one is of the half-made cluster.
        return
    _wait_for_receiver(site, keeper)
    # A run that is under way may have read the spool before the last of it came: the second one has it.
    twice = "systemctl stop rag-backup.timer; systemctl start rag-backup; systemctl start rag-backup"
    ask(site, keeper, twice, seconds=1800, what="last backup")
    last = restored.window(site, keeper)
    record = {"at": last["last"], "base": last["bases"][-1]["id"], "log": last["log"]["id"], "done": False}
    _keep(site, keeper, record | {"breaks": known.get("breaks", [])})
    say(f"last backup: the log until {last['last'][:19]} is in the repository")


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


def resume(site: Site, keeper: Machine) -> None:
    """Backups go on: the timers that the deploy enabled, and a new base at once, since the old ones lead elsewhere."""
    units = " ".join(["rag-base.path", *(f"{name}.timer" for name in TIMERS)])
    enabled = "systemctl is-enabled --quiet $unit 2>/dev/null && systemctl start $unit"
    ask(site, keeper, f"for unit in {units}; do {enabled}; done; true")
    ask(site, keeper, "systemctl start rag-base", seconds=24 * 3600, what="base backup")
    # A base is good only with the log until its end.
    ask(site, keeper, "systemctl start rag-backup", seconds=900, what="the log of the base backup")


def done(site: Site, keeper: Machine) -> None:
    """What was written before the new base began can be brought back by none, and a later restore is told so."""
    if record := record_of(site, keeper):
        new = restored.window(site, keeper)["bases"][-1]["at"]
        _keep(site, keeper, record | {"done": True, "breaks": [*record["breaks"], [record["at"], new]]})


def _keep(site: Site, keeper: Machine, record: Mapping[str, Any]) -> None:
    draft = f"{RECORD}.new"
    ask(site, keeper, f"cat > {draft} && chmod 644 {draft} && mv {draft} {RECORD}", json.dumps(record))
