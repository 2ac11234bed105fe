"""The cluster at one moment, as data, and what may be decided from that alone; no machine is asked or touched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api.exceptions import PyinfraError

from inventories.settings import Site

NEAR = 1 << 20
"""Bytes that a replica may be behind and still take over: Patroni's own limit (maximum_lag_on_failover)."""


class RefusedError(PyinfraError):
    """It would make things worse; nothing was touched."""


class StoppedError(PyinfraError):
    """It stopped in the middle; the text says where it stands and how to go on."""


@dataclass(frozen=True)
class Member:
    """One PostgreSQL of the cluster."""

    name: str
    role: str = "replica"
    """``leader`` or ``replica``."""
    state: str = "streaming"
    timeline: int | None = 1
    lag: int | None = 0
    """Bytes that it has still to replay; none: nobody knows."""
    sync: str = "quorum"
    """``leader``, ``quorum``, ``sync``, or nothing when writes are acknowledged without it."""
    pending_restart: bool = False
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """A place in the log that the primary keeps for somebody."""

    name: str
    type: str
    active: bool
    wal: str
    kept: int
    """Bytes of log that are kept for it."""


@dataclass(frozen=True)
class Cluster:
    """The cluster at one moment."""

    members: tuple[Member, ...] = ()
    paused: bool = False
    slots: tuple[Slot, ...] = ()
    etcd: Mapping[str, bool] = field(default_factory=dict)
    """Member of etcd to whether it is healthy; those that the running etcd knows, and those that the site names."""
    sync: str = "quorum"
    """``quorum``, ``on`` or ``off``."""
    failsafe: bool = True
    version: str = ""

    @property
    def leader(self) -> Member | None:
        """Who leads, when exactly one does."""
        leaders = [member for member in self.members if member.role == "leader"]
        return leaders[0] if len(leaders) == 1 else None

    @property
    def leading(self) -> str:
        """The leader's name; empty while nobody leads."""
        return self.leader.name if self.leader else ""

    @property
    def replicas(self) -> tuple[Member, ...]:
        """Everybody else."""
        return tuple(member for member in self.members if member.role != "leader")

    def member(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in self.members if member.name == name), None)

    @property
    def elects(self) -> bool:
        """Whether etcd has its majority."""
        return 2 * sum(self.etcd.values()) > len(self.etcd)


def behind(cluster: Cluster, member: Member) -> str:
    """Why this replica could not take over at this moment, in words; empty when it could."""
    leader = cluster.leader
    if member.state != "streaming":
        return f"{member.name} is {member.state}"
    if leader and None not in {leader.timeline, member.timeline} and leader.timeline != member.timeline:
        return f"{member.name} is on timeline {member.timeline} and {leader.name} on {leader.timeline}"
    if member.lag is None or member.lag > NEAR:
        return f"{member.name} is {'an unknown number of' if member.lag is None else member.lag} bytes behind"
    if cluster.sync != "off" and not member.sync and not member.tags.get("nosync"):
        return f"{member.name} is not in the quorum set"
    return ""


def why_not(cluster: Cluster, site: Site, without: frozenset[str] = frozenset()) -> str:
    """
    Why the cluster is not well, in words; empty when it is.

    ``without``: members whose own state does not count, because they are about to be mended.
    """
    leaders = [member.name for member in cluster.members if member.role == "leader"]
    if len(leaders) != 1:
        return f"{' and '.join(leaders)} both lead" if leaders else "nobody leads"
    leader = cluster.leader
    if leader and leader.state != "running":
        return f"{leader.name} leads and is {leader.state}"
    known = {member.name for member in cluster.members}
    for machine in site.having("database"):
        if machine.name not in known | without:
            return f"{machine.name} is not a member"
    troubles = [trouble for member in cluster.replicas if member.name not in without
                if (trouble := behind(cluster, member))]  # fmt: skip
    if troubles:
        return ", ".join(troubles)
    if not cluster.elects:
        silent = ", ".join(name for name, well in cluster.etcd.items() if not well)
        return f"etcd has no majority, {silent or 'everybody'} is silent"
    return ""


def healthy(cluster: Cluster, site: Site) -> bool:
    """One leads, every member of the site is there and could take over, and etcd could elect."""
    return not why_not(cluster, site)


def refusal_of_switchover(cluster: Cluster, to: str | None) -> str:
    """Why the lead may not be given to ``to`` (or to the best member), in words; empty when it may."""
    leader = cluster.leader
    if cluster.paused:
        return "the cluster is paused"
    if leader is None or leader.state != "running":
        return "no healthy leader gives the lead away"
    if not cluster.elects:
        return "etcd has no majority"
    if to is None:
        return "" if best(cluster) else _nobody(cluster)
    if to == leader.name:
        return f"{to} leads already"
    member = cluster.member(to)
    return _unfit(cluster, member) if member else f"{to} is not a member; {_names(cluster)} are"


def _names(cluster: Cluster) -> str:
    return ", ".join(member.name for member in cluster.members)


def _nobody(cluster: Cluster) -> str:
    if not cluster.replicas:
        return "there is no other member"
    return "no member could take over: " + ", ".join(_unfit(cluster, member) for member in cluster.replicas)


def _unfit(cluster: Cluster, member: Member) -> str:
    if member.tags.get("nofailover") or member.tags.get("failover_priority") == 0:
        return f"{member.name} must never lead, as its tags say"
    return behind(cluster, member)


def best(cluster: Cluster, among: frozenset[str] | None = None) -> str:
    """The member that should take over: fit, highest in priority, least behind; empty when nobody is fit."""
    fit = [
        member for member in cluster.replicas if not _unfit(cluster, member) and (among is None or member.name in among)
    ]
    ranked = sorted(fit, key=lambda one: (-int(one.tags.get("failover_priority", 1)), one.lag or 0, one.name))
    return ranked[0].name if ranked else ""


def refusal_of_reinit(cluster: Cluster, name: str) -> str:
    """Why this member's data may not be fetched anew, in words; empty when it may."""
    member, leader = cluster.member(name), cluster.leader
    if cluster.paused:
        return "the cluster is paused"
    if leader is None or leader.state != "running":
        return "no healthy leader has the data"
    if leader.name == name:
        return f"{name} leads, its data are the cluster's"
    if member and not behind(cluster, member) and not _in_sync(cluster, name):
        return f"{name} is the only replica in sync"
    return ""


def refusal_of_removal(cluster: Cluster, name: str) -> str:
    """Why this member may not be taken away, in words; empty when it may."""
    leader, others = cluster.leader, [well for peer, well in cluster.etcd.items() if peer != name]
    reasons = {
        f"{name} is not a member; {_names(cluster)} are": cluster.member(name) is None and name not in cluster.etcd,
        "nobody leads": leader is None or leader.state != "running",
        f"{name} is the last member": len(cluster.members) == 1 and cluster.member(name) is not None,
        f"{name} leads; switch over first": leader is not None and leader.name == name,
        "etcd would lose its majority": name in cluster.etcd and (not cluster.elects or 2 * sum(others) <= len(others)),
        f"without {name} no replica would be in sync": len(cluster.replicas) > 1
        and cluster.member(name) is not None
        and not _in_sync(cluster, name),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _in_sync(cluster: Cluster, without: str) -> list[str]:
    return [member.name for member in cluster.replicas if member.name != without and not behind(cluster, member)]


def order_of_roll(cluster: Cluster, needing: set[str]) -> list[str]:
    """Replicas that are broken anyway first, then the others, and who leads last."""
    leaders = {member.name for member in cluster.members if member.role == "leader"}
    ill = {name for name in needing if (member := cluster.member(name)) is None or behind(cluster, member)}
    return sorted(needing, key=lambda name: (name in leaders, name not in ill, name))


def cluster_of(told: dict[str, Any]) -> Cluster:
    """Read what a database machine told (templates/patroni/member.py, ``look``)."""
    config = told["config"]
    # Without etcd Patroni cannot name the cluster, but every member still tells about itself.
    listed = (told["cluster"] or {}).get("members") or [
        _of_itself(name, own) for name, own in told["told"].items() if own
    ]
    sync = config.get("synchronous_mode", False)
    versions = {own["server_version"] for own in told["told"].values() if own and own.get("server_version")}
    return Cluster(
        members=tuple(sorted((_member(entry, told) for entry in listed), key=lambda member: member.name)),
        paused=bool(config.get("pause")),
        slots=tuple(Slot(**slot) for slot in (told["primary"] or {}).get("slots", ())),
        etcd=told["etcd"],
        sync="quorum" if sync == "quorum" else "on" if sync in {True, "on"} else "off",
        failsafe=bool(config.get("failsafe_mode")),
        version=" and ".join(f"{version // 10000}.{version % 10000}" for version in sorted(versions)),
    )


def _of_itself(name: str, own: dict[str, Any]) -> dict[str, Any]:
    leads = own.get("role") in {"primary", "master"}
    return {
        "name": name,
        "role": "leader" if leads else "quorum_standby" if own.get("quorum_standby") else "replica",
        "state": own.get("replication_state") or own.get("state", "unknown"),
        "timeline": own.get("timeline"),
        "lag": "unknown",
        "pending_restart": own.get("pending_restart", False),
        "tags": own.get("tags", {}),
    }


def _member(entry: dict[str, Any], told: dict[str, Any]) -> Member:
    name, role = entry["name"], entry["role"]
    leads = role in {"leader", "standby_leader"}
    own = told["told"].get(name)
    state, lag = entry["state"], entry.get("lag")
    sync = {"quorum_standby": "quorum", "sync_standby": "sync"}.get(role, "leader" if leads else "")
    if name in told["told"] and own is None:
        # etcd holds a member's last words until its lease ends.
        state, lag, sync = "silent", None, "leader" if leads else ""
    elif not leads and own and own.get("role") in {"primary", "master"} and own.get("state") == "running":
        # One that is down keeps the role in its Patroni's answer and harms nobody.
        state, lag, sync = "a primary without the lease", None, ""
    elif not leads and told["primary"] is not None:
        # What the primary sees now is newer than what the replica wrote down at its last round.
        seen = next((row for row in told["primary"]["standbys"] if row["name"] == name), None)
        lag = seen["lag"] if seen else None
        sync = sync if seen and seen["sync"] in {"quorum", "sync"} else ""
        if seen is None or seen["state"] != "streaming":
            state = "not streaming" if state == "streaming" else state
    return Member(
        name=name,
        role="leader" if leads else "replica",
        state=state,
        timeline=entry.get("timeline") if isinstance(entry.get("timeline"), int) else None,
        lag=0 if leads else lag if isinstance(lag, int) else None,
        sync=sync,
        pending_restart=bool(entry.get("pending_restart") or (own or {}).get("pending_restart")),
        tags=entry.get("tags") or {},
    )
