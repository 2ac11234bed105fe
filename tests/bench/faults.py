"""The faults: how each is inflicted on the leader or its neighbours, how it is healed, what is promised meanwhile."""

import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from inventories.network import ETCD, PATRONI, POSTGRESQL
from inventories.sizing import share_of
from tasks import patroni
from tests.bench.cluster import Cluster, MissedError, until
from tests.lab import fleet
from tests.lab.host import LabError

# A pause that a client with one retry does not notice; on two busy cores a write now and then takes that long anyway.
NO_OUTAGE = 1.0
FILLER = "rag-bench-filler"
SMALL_DISK_MB = 400


@dataclass
class Scene:
    """One repeat of a fault: the cluster, who leads it, and what must be undone."""

    cluster: Cluster
    number: int = 1
    leader: str = ""
    frozen: dict[str, list[int]] = field(default_factory=dict)
    """Processes that were stopped, by machine."""

    @property
    def others(self) -> tuple[str, ...]:
        return self.cluster.others(self.leader)


Step = Callable[[Scene], None]


def nothing(_: Scene) -> None:
    """Heals itself."""


@dataclass(frozen=True)
class Fault:
    """A fault and its promises; figures without a promise are shown all the same."""

    name: str
    what: str
    inflict: Step
    hold: Step = nothing
    """How long it lasts."""
    heal: Step = nothing
    """Undo it; also called when the repeat was interrupted, so it copes with what was never inflicted."""
    prepare: Step = nothing
    """Before each repeat, while nothing is hurt."""
    restore: Step = nothing
    """After the last repeat."""
    most: float | None = None
    """Seconds without an accepted write, at most."""
    middle: float | None = None
    """The same, in the middle of the repeats."""
    whole: float | None = None
    """Seconds until the cluster is whole again."""
    deadline: float = 180
    """Seconds after which the wait for the whole cluster is given up."""


# How long a fault lasts.


def for_seconds(seconds: float) -> Step:
    """As long as said: what happens during that time is what is measured."""
    return lambda _: time.sleep(seconds)


def until_replaced(most: float, then: float) -> Step:
    """Until another member leads, and a little longer, for that is when two could; at most so long."""

    def hold(scene: Scene) -> None:
        end = time.monotonic() + most
        with suppress(MissedError):
            until(lambda: scene.cluster.leader_besides(scene.leader), most, "another leader")
        time.sleep(max(0, min(then, end - time.monotonic())))

    return hold


# Processes.


def patroni_of(scene: Scene, name: str) -> int:
    return int(scene.cluster.shell(name, "systemctl show --property MainPID --value patroni.service"))


def postmaster_of(scene: Scene, name: str) -> int:
    return int(scene.cluster.shell(name, f"head -1 {scene.cluster.data}/postmaster.pid"))


def kill_postmaster(scene: Scene) -> None:
    scene.cluster.shell(scene.leader, f"kill -9 {postmaster_of(scene, scene.leader)}")


def kill_patroni(scene: Scene) -> None:
    scene.cluster.shell(scene.leader, f"kill -9 {patroni_of(scene, scene.leader)}")


def freeze_patroni(scene: Scene) -> None:
    freeze(scene, scene.leader, [patroni_of(scene, scene.leader)])


def freeze_postgresql(scene: Scene) -> None:
    """The postmaster first: afterwards it starts nothing that would escape."""
    postmaster = postmaster_of(scene, scene.leader)
    freeze(scene, scene.leader, [postmaster])
    children = scene.cluster.shell(scene.leader, f"pgrep --parent {postmaster}").split()
    freeze(scene, scene.leader, [int(child) for child in children])


def freeze(scene: Scene, name: str, processes: list[int]) -> None:
    scene.frozen.setdefault(name, []).extend(processes)
    scene.cluster.shell(name, f"kill -STOP {' '.join(str(one) for one in processes)} 2>/dev/null || true")


def thaw(scene: Scene) -> None:
    """What was killed meanwhile needs none; a number that somebody else has by now is not harmed by it."""
    for name, processes in scene.frozen.items():
        for one in processes:
            scene.cluster.says(name, f"kill -CONT {one}")
    scene.frozen.clear()


# Machines and their network.


def switch_off(scene: Scene) -> None:
    fleet.kill(scene.cluster.lab, scene.leader)


def switch_on(scene: Scene) -> None:
    fleet.start(scene.cluster.lab, scene.leader)


def cut(*, ports: tuple[int, ...] = (), way: str = "both", alone: bool = False) -> Step:
    """Take the leader's machine apart from the other database machines, or from everybody."""

    def inflict(scene: Scene) -> None:
        if alone:
            fleet.cut(scene.cluster.lab, scene.leader)
        elif way == "out":
            fleet.cut(scene.cluster.lab, scene.leader, scene.others, ports=ports, way="out")
        elif way == "in":
            fleet.cut(scene.cluster.lab, scene.leader, scene.others, ports=ports, way="in")
        else:
            fleet.cut(scene.cluster.lab, scene.leader, scene.others, ports=ports)

    return inflict


def cut_from_etcd(scene: Scene) -> None:
    """Its client port on the others is out of reach, and its machine's own member hangs; the two others go on."""
    fleet.cut(scene.cluster.lab, scene.leader, scene.others, ports=(ETCD,))
    freeze(scene, scene.leader, [etcd_of(scene, scene.leader)])


def etcd_of(scene: Scene, name: str) -> int:
    return int(scene.cluster.shell(name, "systemctl show --property MainPID --value etcd.service"))


def mend_network(scene: Scene) -> None:
    thaw(scene)
    fleet.heal(scene.cluster.lab, scene.leader)


# etcd.


def stop_etcd(count: int) -> Step:
    """Members of etcd stopped by systemd, which does not start again what it was told to stop; the leader's first."""

    def inflict(scene: Scene) -> None:
        for name in (scene.leader, *scene.others)[:count]:
            scene.cluster.shell(name, "systemctl stop --no-block etcd.service")

    return inflict


def start_etcd(scene: Scene) -> None:
    for name in scene.cluster.members:
        scene.cluster.says(name, "systemctl start --no-block etcd.service")


# Disks.


def wal(scene: Scene) -> str:
    return f"{scene.cluster.data}/pg_wal"


def disk(scene: Scene) -> str:
    """Where a small disk is mounted, beside the data: what fills it is none of PostgreSQL's files."""
    return f"{scene.cluster.data}.small"


def small_disk(scene: Scene) -> str:
    """The member whose pg_wal lies on a small disk of its own; empty when none does."""
    for name in scene.cluster.members:
        if scene.cluster.says(name, f"test -L {wal(scene)} && mountpoint --quiet {disk(scene)} && echo there"):
            return name
    return ""


def lead_on_a_small_disk(scene: Scene) -> None:
    """Give one replica's pg_wal a small disk, and let that member lead."""
    name = small_disk(scene)
    if not name:
        name, place, small, cluster = scene.others[0], wal(scene), disk(scene), scene.cluster
        without_disks(scene)
        used = int(cluster.shell(name, f"du --summarize --block-size=M {place}").split("M")[0])
        size = max(SMALL_DISK_MB, used + 128)
        cluster.shell(
            name,
            f"set -e; systemctl stop patroni.service; install -d -m 700 -o postgres -g postgres {small}; "
            f"mount -t tmpfs -o size={size}m,mode=700,uid=$(id -u postgres),gid=$(id -g postgres) rag-bench {small}; "
            f"cp -a {place} {small}/pg_wal; rm -rf {place}; ln -s {small}/pg_wal {place}; "
            f"chown -h postgres:postgres {place}; systemctl start patroni.service",
            120,
        )
        cluster.wait_until_whole(120)
    if scene.leader != name:
        scene.cluster.switchover(name)
        scene.cluster.wait_until_whole(60)
    scene.leader = name


def without_disks(scene: Scene) -> None:
    """A member that fetched its data anew has its pg_wal among them again, and the disk lies there for nothing."""
    for name in scene.cluster.members:
        small = disk(scene)
        scene.cluster.says(name, f"test -L {wal(scene)} || {{ umount {small}; rmdir {small}; }}")


def fill_wal(scene: Scene) -> None:
    """Fill the disk, then use up the segments that PostgreSQL had in store, until it cannot go on."""
    cluster = scene.cluster
    cluster.shell(scene.leader, f"dd if=/dev/zero of={disk(scene)}/{FILLER} bs=1M 2>/dev/null || true")
    more = "select pg_logical_emit_message(false, 'rag-bench', 'a segment ends'); select pg_switch_wal()"
    for _ in range(60):
        try:
            cluster.sql(scene.leader, more, seconds=15)
        except LabError:
            return
    raise LabError(f"{scene.leader} = writes on with a full disk after 60 segments; the fault needs a smaller one")


def empty_wal(scene: Scene) -> None:
    for name in scene.cluster.members:
        scene.cluster.says(name, f"rm -f {disk(scene)}/{FILLER}")


def plain_wal(scene: Scene) -> None:
    """pg_wal back on the machine's disk, as it was."""
    cluster, place, small = scene.cluster, wal(scene), disk(scene)
    empty_wal(scene)
    cluster.wait_until_whole(120)
    name = small_disk(scene)
    if name and cluster.leader() == name:
        cluster.switchover()
        cluster.wait_until_whole(60)
    if name:
        cluster.shell(
            name,
            f"set -e; systemctl stop patroni.service; cp -a {small}/pg_wal {place}.plain; rm {place}; "
            f"mv {place}.plain {place}; systemctl start patroni.service",
            120,
        )
    without_disks(scene)
    cluster.wait_until_whole(120)


def delete_a_replica(scene: Scene) -> None:
    """Gone under its name at once; what PostgreSQL still writes into it goes after."""
    place = shlex.quote(scene.cluster.data)
    remove = f"for try in 1 2 3 4 5 6 7 8 9; do rm -rf {place}.gone 2>/dev/null && exit; done; rm -rf {place}.gone"
    scene.cluster.shell(scene.others[0], f"mv {place} {place}.gone; {remove}")


# Planned.


def switch_over(scene: Scene) -> None:
    """As `make switchover` does."""
    patroni.switch_over(scene.cluster.site, say=lambda _: None)


def change_a_parameter(scene: Scene) -> None:
    """One connection more with every repeat: replicas must never allow fewer than their primary."""
    before = scene.cluster.settings()["postgresql"]["parameters"]["max_connections"]
    scene.cluster.configure({"postgresql": {"parameters": {"max_connections": int(before) + 1}}})
    until(lambda: len(scene.cluster.pending()) == len(scene.cluster.members), 30, "every member waits for its restart")
    scene.cluster.roll()


def parameter_as_it_was(scene: Scene) -> None:
    """Down again, the primary first, since replicas follow what it has."""
    cluster, site = scene.cluster, scene.cluster.site
    # The same on every machine, however big it is.
    wanted = share_of(site, site.having("database")[0], 1024, 1).connections
    if cluster.settings()["postgresql"]["parameters"]["max_connections"] == wanted and not cluster.pending():
        return
    cluster.configure({"postgresql": {"parameters": {"max_connections": wanted}}})
    first = cluster.leader()
    until(lambda: first in cluster.pending(), 30, f"{first} waits for its restart")
    for name in (first, *cluster.others(first)):
        cluster.restart(name)
        cluster.wait_until_whole(60)
    until(lambda: not cluster.pending(), 30, "no member waits for a restart")


DATABASE = (POSTGRESQL, PATRONI)
FAULTS = (
    Fault("postmaster", "postmaster killed", kill_postmaster, most=5, middle=2, whole=60),
    Fault("patroni", "Patroni killed", kill_patroni, most=NO_OUTAGE, whole=60),
    Fault("patroni-frozen", "Patroni frozen", freeze_patroni, until_replaced(40, then=8), thaw),
    Fault("postgresql-frozen", "PostgreSQL frozen 30 s", freeze_postgresql, for_seconds(30), thaw),
    Fault("machine", "the leader's machine off", switch_off, until_replaced(40, then=2), switch_on, most=23, whole=60),
    Fault("cut-etcd", "leader cut from etcd", cut_from_etcd, until_replaced(40, then=8), mend_network),
    Fault("cut-replicas", "leader cut from its replicas", cut(ports=DATABASE), for_seconds(40), mend_network),
    Fault("cut-all", "leader cut from everything", cut(alone=True), until_replaced(40, then=8), mend_network),
    Fault("cut-out", "leader cannot send to the others", cut(way="out"), until_replaced(40, then=8), mend_network),
    Fault("cut-in", "leader cannot hear the others", cut(way="in"), until_replaced(40, then=8), mend_network),
    Fault("etcd-1", "one etcd member down 30 s", stop_etcd(1), for_seconds(30), start_etcd, most=NO_OUTAGE),
    Fault("etcd-2", "two etcd members down 30 s", stop_etcd(2), for_seconds(30), start_etcd, most=NO_OUTAGE),
    Fault("etcd-3", "all etcd members down 30 s", stop_etcd(3), for_seconds(30), start_etcd, most=NO_OUTAGE),
    Fault(
        "wal-full",
        "the leader's pg_wal full",
        fill_wal,
        until_replaced(40, then=5),
        empty_wal,
        prepare=lead_on_a_small_disk,
        restore=plain_wal,
    ),
    Fault("replica-deleted", "a replica's data deleted", delete_a_replica, most=NO_OUTAGE),
    Fault("switchover", "planned switchover", switch_over, middle=2),
    Fault("rolling", "rolling parameter change", change_a_parameter, middle=2, restore=parameter_as_it_was),
)
