"""What PostgreSQL gets of a machine, each figure with its source, and what a site of so many machines survives."""

from dataclasses import dataclass

from inventories.settings import Machine, Site


@dataclass(frozen=True)
class Sizing:
    """PostgreSQL's share of one machine: memory in MB, cores, and sessions that the whole site may open."""

    memory_mb: int
    cores: int
    connections: int

    @property
    def shared_buffers_mb(self) -> int:
        """A quarter: "a reasonable starting value" (PostgreSQL 17 manual, 19.4.1 shared_buffers)."""
        return self.memory_mb // 4

    @property
    def effective_cache_size_mb(self) -> int:
        """Half: the conservative of the two figures in PostgreSQL's wiki, Tuning Your PostgreSQL Server."""
        return self.memory_mb // 2

    @property
    def work_mem_mb(self) -> int:
        """What is left, for three sorts or hashes in each session at once; 19.4.1 warns of more than one. 1 to 64."""
        return min(64, max(1, (self.memory_mb - self.shared_buffers_mb) // (3 * self.connections)))

    @property
    def maintenance_work_mem_mb(self) -> int:
        """A sixteenth, for each of three autovacuum workers (19.4.1); above 1 GB vacuum gains little."""
        return min(1024, max(16, self.memory_mb // 16))

    @property
    def max_parallel_workers(self) -> int:
        """As many as there are cores, within PostgreSQL's own eight worker processes (19.4.6)."""
        return min(8, self.cores)

    @property
    def max_parallel_workers_per_gather(self) -> int:
        """Half of the cores and four at most, so that one big query leaves room for the others."""
        return min(4, self.cores // 2)


def share_of(site: Site, machine: Machine, memory_mb: int, cores: int) -> Sizing:
    """
    PostgreSQL's share of a machine with so much memory and so many cores; what the site file says comes first.

    A machine that has nothing but databases gives half, one with other roles a quarter; in steps of 256 MB, because a
    kernel's update changes the machine's own figure by a little, and every change is a restart of PostgreSQL.
    """
    part = 2 if machine.roles <= {"database", "etcd"} else 4
    asked = site.database.memory_mb or max(256, memory_mb // part // 256 * 256)
    # One figure for all members: a replica must not have less than its primary.
    return Sizing(asked, cores, site.database.max_connections or -(-site.sessions // 50) * 50)


def promise(databases: int, etcds: int, replication: str) -> str:
    """What a site of that many machines survives, and what a lost machine costs."""
    if databases == 1:
        return "one database machine: its loss stops writes and questions until it is back or restored from a backup"
    size = f"{databases} database machines, {etcds} of etcd"
    # etcd needs more than half of its members, whatever the databases do.
    if etcds < 3:
        return (
            f"{size}: a lost replica costs nothing; while the etcd machine is lost nobody takes over from a lost "
            "primary, and writes stop"
        )
    lost = "the acknowledged writes of its last moment" if replication == "asynchronous" else "no acknowledged write"
    rest = "the one left acknowledges alone" if databases == 2 else "a second replica still has every write"
    return f"{size}: any one may be lost, which costs {lost}; after that {rest}"
