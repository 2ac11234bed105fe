"""Runs on a database machine as postgres: what tasks/patroni.py asks there, answered as one JSON value."""

import json
import re
import shutil
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2  # Patroni brings it

PKI = "/etc/rag/pki"
PATRONI, ETCD = 8008, 2379
# Between two looks during a switchover, of which PostgreSQL sends no word: shorter costs of what is waited for.
LOOK_SECONDS = 0.03


def trust(authority: str, own: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=f"{PKI}/{authority}.crt")
    made.load_cert_chain(f"{PKI}/{own}.crt", f"{PKI}/{own}.key")
    return made


def http(context: ssl.SSLContext, url: str, body: Any = None, method: str | None = None, seconds: float = 5) -> str:
    data = None if body is None else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, kind, method=method)  # noqa: S310 - https alone
    try:
        with urllib.request.urlopen(request, timeout=seconds, context=context) as answer:  # noqa: S310 - https alone
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:
        raise SystemExit(f"{url} = {refused.code}; {refused.read().decode().strip()[:300]}") from None


def patroni(member: str, path: str, body: Any = None, method: str | None = None, seconds: float = 5) -> str:
    return http(trust("ca", "patroni"), f"https://{member}:{PATRONI}/{path}", body, method, seconds)


def etcd(member: str, path: str, body: Any = None, seconds: float = 3) -> Any:
    # The gateway speaks JSON, so no etcdctl is needed, which not every database machine has.
    return json.loads(http(trust("etcd-ca", "patroni-etcd"), f"https://{member}:{ETCD}/{path}", body, None, seconds))


def first_etcd(members: list[str], path: str, body: Any) -> Any:
    problem: object = "no etcd member is known"
    for member in members:
        try:
            return etcd(member, path, body)
        except (OSError, ValueError, SystemExit) as silent:
            problem = silent
    raise SystemExit(f"etcd = not answering; {problem}")


def quiet(question: Any, *arguments: Any) -> Any:
    """The answer, or nothing when there is none."""
    try:
        return question(*arguments)
    except (OSError, ValueError, SystemExit):
        return None


def each(names: list[str], question: Any) -> dict[str, Any]:
    with ThreadPoolExecutor(len(names) or 1) as pool:
        return dict(zip(names, pool.map(lambda name: quiet(question, name), names), strict=True))


def connected() -> Any:
    link = psycopg2.connect(dbname="postgres", user="postgres", host="/var/run/postgresql", connect_timeout=3)
    link.autocommit = True
    return link


def rows(link: Any, question: str, *values: Any) -> list[dict[str, Any]]:
    cursor = link.cursor()
    cursor.execute(question, values)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def primary() -> dict[str, Any] | None:
    """Replicas and slots as this machine's PostgreSQL sees them, when it is the primary."""
    try:
        link = connected()
        if rows(link, "select pg_is_in_recovery() as replica")[0]["replica"]:
            return None
        standbys = (
            "select application_name as name, state, sync_state as sync, "
            "pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint as lag from pg_stat_replication"
        )
        slots = (
            "select slot_name as name, slot_type as type, active, coalesce(wal_status, '') as wal, "
            "coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint as kept "
            "from pg_replication_slots order by 1"
        )
        return {"standbys": rows(link, standbys), "slots": rows(link, slots)}
    except psycopg2.Error:
        return None


def look(name: str, members: list[str], etcds: list[str]) -> dict[str, Any]:
    own = quiet(lambda: json.loads(patroni(name, "patroni")))
    if own is None:
        raise SystemExit("Patroni = not answering; it tells about the cluster; journalctl -u patroni -n 50")
    known = quiet(lambda: first_etcd(etcds, "v3/cluster/member/list", {})["members"]) or []
    # A member that was added and never started has no name yet, only the address that it shall have.
    peers = [one.get("name") or one["peerURLs"][0].split("//")[1].split(":")[0] for one in known]
    return {
        "cluster": quiet(lambda: json.loads(patroni(name, "cluster"))),
        "config": quiet(lambda: json.loads(patroni(name, "config"))) or {},
        "told": each(members, lambda member: json.loads(patroni(member, "patroni", seconds=3))),
        "etcd": {
            peer: bool(health and health.get("health") == "true")
            for peer, health in each([*dict.fromkeys([*etcds, *peers])], lambda peer: etcd(peer, "health")).items()
        },
        "primary": primary(),
    }


def switch(leader: str, to: str, limit: float) -> dict[str, Any]:
    """Seconds from the request to the first write that this machine accepts."""
    link, said = connected(), []

    def request() -> None:
        try:
            said.append(patroni(leader, "switchover", {"leader": leader, "candidate": to}, "POST", 60))
        except (OSError, SystemExit) as problem:
            said.append(f"refused: {problem}")

    began, thread = time.monotonic(), threading.Thread(target=request, daemon=True)
    thread.start()
    cursor = link.cursor()
    while time.monotonic() - began < limit:
        cursor.execute("select pg_is_in_recovery()")
        if not cursor.fetchone()[0]:
            cursor.execute("select pg_logical_emit_message(true, 'rag', 'switched over')")
            return {"seconds": time.monotonic() - began, "said": ""}
        if said and said[0].startswith("refused"):
            raise SystemExit(said[0].removeprefix("refused: "))
        time.sleep(LOOK_SECONDS)
    raise SystemExit(f"{to} = not a primary after {limit:.0f} s; {' '.join(said) or 'Patroni said nothing'}")


def follow(to: str, limit: float) -> bool:
    """
    Stream from the member that is about to lead, from the moment the old primary is gone.

    Patroni's replicas sleep two seconds before they follow whom a switchover names (ha.py, process_unhealthy_cluster),
    and until one of them follows, no write is acknowledged. The change is the one that Patroni makes when it wakes, in
    the same file; where the switchover fails, Patroni's next round takes it back.
    """
    link, began, old = connected(), time.monotonic(), ""
    config = Path(rows(link, "show config_file")[0]["config_file"])
    while time.monotonic() - began < limit:
        seen = rows(link, "select status, sender_host as host, received_tli as line from pg_stat_wal_receiver")
        streams = bool(seen) and seen[0]["status"] == "streaming"
        if streams and not old:
            old, line = seen[0]["host"], seen[0]["line"]
        elif streams and seen[0]["host"] == to and seen[0]["line"] > line:
            return True
        elif old and not streams and _point(config, to):
            rows(link, "select pg_reload_conf()")
        time.sleep(LOOK_SECONDS)
    return False


def _point(config: Path, to: str) -> bool:
    """Let this replica's own settings name another primary; whether they had named somebody else."""
    text = config.read_text()
    new = re.sub(r"^(primary_conninfo = .*\bhost=)[\w.-]+", rf"\g<1>{to}", text, flags=re.MULTILINE)
    if new == text:
        return False
    # Patroni's file of passwords knows only the primary that it follows.
    if found := re.search(r"^primary_conninfo = .*\bpassfile=(\S+)", text, re.MULTILINE):
        passwords = Path(found[1])
        _replace(passwords, re.sub(r"^[^:\n]+:", f"{to}:", passwords.read_text(), flags=re.MULTILINE))
    _replace(config, new)
    return True


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".following")
    draft.touch(0o600)
    draft.write_text(text)
    shutil.copymode(path, draft)
    draft.replace(path)


def rounds(members: list[str], more: int, limit: float) -> dict[str, Any]:
    """Return when the Patroni of every member that answers has looked ``more`` times again."""

    def seen(member: str) -> int:
        return int(json.loads(patroni(member, "patroni", seconds=3))["dcs_last_seen"])

    began = time.monotonic()
    last = {member: at for member, at in each(members, seen).items() if at is not None}
    silent = sorted(set(members) - set(last))
    missing = dict.fromkeys(last, more)
    while missing:
        if time.monotonic() - began > limit:
            raise SystemExit(f"{', '.join(missing)} = no round of Patroni for {limit:.0f} s; journalctl -u patroni")
        time.sleep(0.2)
        for member, at in each([*missing], seen).items():
            if at is not None and at != last[member]:
                last[member] = at
                missing[member] -= 1
                if not missing[member]:
                    del missing[member]
    return {"silent": silent}


def config(member: str) -> Any:
    return json.loads(patroni(member, "config"))


def checkpoint() -> None:
    connected().cursor().execute("checkpoint")


VERBS = {
    "look": look,
    "primary": primary,
    "switch": switch,
    "follow": follow,
    "rounds": rounds,
    "checkpoint": checkpoint,
    "config": config,
    "patroni": patroni,
    "etcd": first_etcd,
}
if __name__ == "__main__":
    try:
        print(json.dumps(VERBS[sys.argv[1]](**json.loads(sys.argv[2]))))
    except (OSError, psycopg2.Error) as problem:
        sys.exit(f"{sys.argv[1]} = not done; {' '.join(str(problem).split())}")
