"""`make cluster`, `make switchover` and the other verbs of day 2: exit 0 done, 1 stopped, 2 refused."""

import json
import re
import runpy
import sys
import time
from dataclasses import asdict
from pathlib import Path

from pyinfra.api import Config
from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import ctx_config

from inventories.settings import SettingsError, Site
from inventories.sizing import promise
from tasks import patroni, repair, upgrade
from tasks.members import Cluster, RefusedError, why_not

VERBS = ("show", "json", "switchover", "rolling-restart", "upgrade", "reinit", "pause", "resume", "remove-member")


def site_of(name: str) -> Site:
    """What ``inventories/<name>`` wants; a file that is not there is refused."""
    path = Path("inventories") / name
    if not re.fullmatch("[a-z][a-z0-9-]{0,30}", name) or not path.is_file():
        raise SettingsError(f"SITE = {name}; a file inventories/{name} is needed; ls inventories")
    # A site file sets pyinfra's config, so one must be there to be set.
    with ctx_config.use(Config()):  # type: ignore[no-untyped-call]
        site: Site = runpy.run_path(str(path))["site"]
    return site


def as_json(cluster: Cluster, site: Site) -> str:
    """Everything that is known, for programs."""
    why = why_not(cluster, site)
    addresses = {machine.name: str(machine.address) for machine in site.machines}
    members = [asdict(member) | {"address": addresses.get(member.name, "")} for member in cluster.members]
    whole = asdict(cluster) | {"site": site.name, "members": members, "healthy": not why, "why": why}
    whole |= {"survives": _survives(site)}
    return json.dumps(whole, indent=2)


def as_table(cluster: Cluster, site: Site) -> str:
    """The same for people."""
    addresses = {machine.name: str(machine.address) for machine in site.machines}
    rows = [("member", "address", "role", "state", "timeline", "lag", "sync", "restart")]
    rows += [
        (
            member.name,
            addresses.get(member.name, "not in the site"),
            member.role,
            member.state,
            str(member.timeline or "?"),
            "?" if member.lag is None else str(member.lag),
            member.sync or "-",
            "pending" if member.pending_restart else "-",
        )
        for member in cluster.members
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    slots = [
        f"{slot.name} {'in use' if slot.active else 'idle'}, {slot.wal}, keeps {slot.kept} B" for slot in cluster.slots
    ]
    etcds = [f"{name} {'ok' if well else 'SILENT'}" for name, well in cluster.etcd.items()]
    why = why_not(cluster, site)
    return "\n".join(
        [
            *lines,
            "",
            f"PostgreSQL  {cluster.version or '?'}, synchronous: {cluster.sync}, "
            f"failsafe: {'on' if cluster.failsafe else 'off'}, failover: {'PAUSED' if cluster.paused else 'on'}",
            f"slots       {'; '.join(slots) or '-'}",
            f"etcd        {', '.join(etcds) or '-'}",
            f"size        {_survives(site)}",
            f"well        {f'no: {why}' if why else 'yes'}",
        ]
    )


def _survives(site: Site) -> str:
    return promise(len(site.having("database")), len(site.having("etcd")), site.replication)


def act(site: Site, verb: str, member: str) -> None:
    """Do what the verb says, a line a step with the seconds since the beginning."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    match verb:
        case "show":
            print(as_table(patroni.look(site), site))
        case "json":
            print(as_json(patroni.look(site), site))
        case "switchover":
            patroni.switch_over(site, member or None, say)
        case "rolling-restart":
            patroni.roll(site, {machine.name for machine in site.having("database")}, say)
        case "upgrade":
            upgrade.upgrade(site, say)
        case "reinit":
            repair.reinit(site, member, say)
        case "pause":
            repair.pause(site, say)
        case "resume":
            repair.resume(site, say)
        case "remove-member":
            repair.remove(site, member, say)


def main(arguments: list[str]) -> int:
    """SITE VERB [MEMBER]."""
    if len(arguments) not in {2, 3} or arguments[1] not in VERBS:
        verbs = ", ".join(VERBS)
        print(f"verb = {arguments[1:2] or '(nothing)'}; SITE and one of {verbs} are needed; make help", file=sys.stderr)
        return 2
    site, verb, member = (*arguments, "")[:3]
    try:
        act(site_of(site), verb, member)
    except (RefusedError, SettingsError) as refused:
        print(refused, file=sys.stderr)
        return 2
    except PyinfraError as stopped:
        print(stopped, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Who reads the table has seen enough.
        sys.stdout = sys.stderr
        return 0
    except KeyboardInterrupt:
        print(f"{verb} = interrupted; what was begun there goes on; make cluster SITE={site}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
