#!/usr/bin/python3
# Written by tasks/database.py; local edits are overwritten.
"""
Hand etcd's lead to another machine while this one leads PostgreSQL.

A new leader of etcd lets every lease begin anew (etcd's lessor, Promote). A machine that held both leads would take
etcd's along when it dies, and the primary's lease would end an election and its timeout later: 25 seconds measured
without a write instead of 22.
"""

import json
import ssl
import sys
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

PKI = "/etc/rag/pki"
# etcd sends no word when its lead moves, so somebody asks; a machine that dies before that takes three seconds more.
ROUND_SECONDS = 5.0
PATIENCE_SECONDS = 2.0
# A member that is further behind would hold writes up while it takes over.
NEAR = 100

Status = Mapping[str, Any]


def successor(own: Status, others: Mapping[str, Status | None]) -> str:
    """Who shall lead instead of this member: of those that answer, vote and are near, who has most; or nobody."""
    votes = {
        member: int(told["raftIndex"])
        for member, told in others.items()
        if told and not told.get("isLearner") and not told.get("errors")
    }
    near = {member: index for member, index in votes.items() if int(own["raftIndex"]) - index < NEAR}
    return max(near, key=lambda member: (near[member], member), default="")


def asked(url: str, authority: str, own: str, body: object = None) -> Any:
    """The answer as JSON; OSError when there is none. Certificates are read anew each time, as they are renewed."""
    trust = ssl.create_default_context(cafile=f"{PKI}/{authority}.crt")
    trust.load_cert_chain(f"{PKI}/{own}.crt", f"{PKI}/{own}.key")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - https alone
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS, context=trust) as answer:  # noqa: S310 - https alone
        return json.loads(answer.read())


def etcd(url: str, path: str, **body: str) -> Any:
    """What a member of etcd answers."""
    return asked(f"{url}/v3/{path}", "etcd-ca", "patroni-etcd", body)


def status(url: str) -> Any:
    """What a member tells of itself; nothing while it is silent."""
    try:
        return etcd(url, "maintenance/status")
    except (OSError, ValueError):
        return None


def hand_over(url: str) -> None:
    """Give the lead away, when the member at ``url`` has it and another one can take it."""
    own = etcd(url, "maintenance/status")
    if own["leader"] != own["header"]["member_id"]:
        return
    # A member that was added and never started has no name yet, and no address for clients.
    members = etcd(url, "cluster/member/list")["members"]
    peers = {one["ID"]: one["clientURLs"][0] for one in members if one.get("name") and one["ID"] != own["leader"]}
    to = successor(own, {member: status(peer) for member, peer in peers.items()})
    if to:
        etcd(url, "maintenance/transfer-leadership", targetID=to)
        print(f"etcd's lead = handed to {peers[to]}; this machine leads PostgreSQL", flush=True)


def main(machine: str) -> None:
    """Look every few seconds until stopped."""
    while True:
        try:
            # Who does not lead PostgreSQL answers 503, which is an OSError here.
            asked(f"https://{machine}:8008/primary", "ca", "patroni")
            hand_over(f"https://{machine}:2379")
        except (OSError, ValueError):
            # Nothing to hand over, or etcd is busy with itself: the next round sees what has become of it.
            pass
        time.sleep(ROUND_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
