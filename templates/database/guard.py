#!/usr/bin/python3
# Written by tasks/database.py; local edits are overwritten.
"""
End a primary whose Patroni hangs, before another machine can take its lease: a watchdog's work where none is required.

Patroni is asked each second. Its process must answer, and its loop must have reached etcd since the last answer, unless
it lives on failsafe mode: the loop renews the lease, and a loop that hangs in a process that answers is as silent as a
frozen process. After --silence seconds all of the unit is killed at once, as a watchdog would do to the machine, and
systemd starts Patroni again, which joins whatever cluster there is then. A cluster that was paused when Patroni last
spoke is left alone, since nobody takes a lease then: Patroni disarms a watchdog for the same reason.
"""

import argparse
import http.client
import json
import ssl
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

ROUND_SECONDS = 1.0
PATIENCE_SECONDS = 2.0
CGROUP = Path("/sys/fs/cgroup/system.slice/patroni.service")


class Patroni:
    """Patroni's REST API, asked with the certificate of this machine."""

    def __init__(self, url: str, authority: str, certificate: str, key: str) -> None:
        self._host = urlsplit(url).netloc
        self._files = (authority, certificate, key)

    def ask(self, path: str) -> tuple[int, bytes]:
        """Status and body; (0, b"") when nothing comes in time."""
        authority, certificate, key = self._files
        try:
            # Read anew each time: a renewed certificate needs no restart of the guard.
            trust = ssl.create_default_context(cafile=authority)
            trust.load_cert_chain(certificate, key)
            link = http.client.HTTPSConnection(self._host, timeout=PATIENCE_SECONDS, context=trust)
            try:
                link.request("GET", path)
                answer = link.getresponse()
                return answer.status, answer.read()
            finally:
                link.close()
        except (OSError, http.client.HTTPException):
            return 0, b""


def now() -> float:
    """Seconds that a sleeping machine counts too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def alive(told: dict[str, object], seen: object) -> bool:
    """Whether Patroni's loop has moved since ``seen``, or the others agreed that it may go on without etcd."""
    return bool(told.get("failsafe_mode_is_active")) or told.get("dcs_last_seen") != seen


def leads(data: Path) -> bool:
    """Whether PostgreSQL runs here and takes writes."""
    try:
        pid = (data / "postmaster.pid").read_text().split()[0]
        command = Path("/proc", pid, "comm").read_text().strip()
    except (OSError, IndexError):
        return False
    return command == "postgres" and not (data / "standby.signal").exists()


def end_everything() -> None:
    """Kill all processes of Patroni's unit at once, the frozen ones too; no other process is asked for help."""
    (CGROUP / "cgroup.kill").write_text("1")


def main() -> None:
    """Watch until stopped."""
    words = argparse.ArgumentParser(description=__doc__)
    for name in ("url", "authority", "certificate", "key"):
        words.add_argument(f"--{name}", required=True)
    words.add_argument("--data", type=Path, required=True)
    words.add_argument("--silence", type=float, required=True)
    given = words.parse_args()
    patroni = Patroni(given.url, given.authority, given.certificate, given.key)
    heard, seen, paused = now(), None, False
    while True:
        began = time.monotonic()
        status, _ = patroni.ask("/liveness")
        # What Patroni tells of its loop needs its database too; one that hangs takes the loop along.
        status, body = patroni.ask("/patroni") if status == 200 else (0, b"")
        if status in {200, 503}:
            told = json.loads(body)
            paused = bool(told.get("pause"))
            if alive(told, seen):
                heard, seen = now(), told.get("dcs_last_seen")
        if paused:
            heard = now()
        if now() - heard > given.silence and leads(given.data):
            print(f"patroni = silent for {now() - heard:.0f} s; this primary ends before its lease does", flush=True)
            end_everything()
            heard = now()
        time.sleep(max(0.0, ROUND_SECONDS - (time.monotonic() - began)))


if __name__ == "__main__":
    sys.exit(main())
