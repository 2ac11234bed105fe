"""Refuse a machine that cannot carry its roles, before anything changes on any machine."""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyinfra import host
from pyinfra.api import FactBase, deploy, operation
from pyinfra.api.exceptions import OperationError

from inventories import network
from inventories.settings import Inference, Machine, Site
from tasks.facts import quoted
from tasks.lock import deploying
from tasks.operations import Commands, call
from tasks.outage import drop_in

BASE_MB = 1024
DISK_MB = {"database": 4096, "etcd": 1024, "inference": 4096, "app": 4096, "backup": 8192}
MEMORY_MB = {
    "every": 256,
    "etcd": 256,
    "inference": 2048,
    "app": 512,
    "balancer": 128,
    "monitoring": 128,
    "backup": 512,
}
# What is there already needs no more room.
WHOLE = {
    "database": "/var/lib/postgresql/*/rag",
    "etcd": "/var/lib/etcd/*",
    "inference": "/var/lib/ollama/models/manifests",
    "app": "/opt/rag/current",
    "backup": "/var/lib/rag-backup/spool/*",
}
CLOCK_SECONDS = 60
OUR_UNITS = ("etcd.service", "haproxy.service", "ollama.service", "patroni.service", "prometheus-node-exporter.service")
MODELS = "/var/lib/ollama/models"

Found = dict[str, list[str]]
"""The first word of the machine's lines to the rest of them."""


class Hardware(FactBase[Found]):
    """What the machine is and has, what lies there already, who listens, and who answers at the common address."""

    @staticmethod
    def default() -> Found:
        """Nothing is known."""
        return {}

    def command(self, site: Site, machine: Machine) -> str:
        """A line for each finding; a bare machine has no Python and may have no ``ip``."""
        wanted = [f"{MODELS}/{model.manifest}" for model in site.inference.models]
        archive = f"/opt/ollama/releases/{site.inference.archive_sha256[:16]}/.whole"
        whole = "; ".join(f"ls -d {path} >/dev/null 2>&1 && echo whole {role}" for role, path in WHOLE.items())
        return (
            ". /etc/os-release; echo debian ${ID}-${VERSION_ID}; echo architecture $(uname -m); "
            "echo memory $(( $(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) / 1024 )); "
            "echo disk $(df -Pm /var/lib | awk 'END {print $4}'); "
            "echo nvidia $(grep -lx 0x10de /sys/bus/pci/devices/*/vendor 2>/dev/null | while read v; do "
            "grep -l '^0x03' ${v%vendor}class; done | wc -l); "
            "test -r /sys/kernel/security/lsm && echo lsm $(cat /sys/kernel/security/lsm); "
            "test -r /proc/sys/user/max_user_namespaces && echo namespaces $(cat /proc/sys/user/max_user_namespaces); "
            "{ test -e /dev/watchdog || modprobe --dry-run --quiet softdog 2>/dev/null; } && echo watchdog there; "
            f"{whole}; test -e {archive} && echo archive there; "
            "echo data $(du -sm /var/lib/postgresql/*/rag 2>/dev/null | awk '{sum += $1} END {print sum + 0}'); "
            f"sha256sum {quoted(wanted)} 2>/dev/null | sed 's/^/model /'; "
            f"ip -oneline -4 address show dev {machine.interface} 2>/dev/null | "
            'awk \'{sub("/.*", "", $4); print "address", $4}\'; command -v ip >/dev/null || echo address unknown; '
            f"{MIDWAY}; {LISTENERS}; {_who_answers(site, machine)} echo clock $(date +%s)"
        )

    def process(self, output: Iterable[str]) -> Found:
        """By first word; the clock as seconds ahead of the controller's."""
        found: Found = {}
        for line in output:
            word, _, rest = line.partition(" ")
            found.setdefault(word, []).append(rest)
        if "clock" in found:
            found["clock"] = [str(int(found["clock"][0]) - round(time.time()))]
        return found


# What a recovery that stopped midway left behind on a machine that was not started anew since.
MIDWAY = f"test ! -e {drop_in('patroni')} -a ! -e {drop_in('rag-api')} || echo midway yes"

# `port 80 nginx nginx.service`: the process and its unit, which tells a service of ours from somebody else's.
LISTENERS = """ss -Hltnp 2>/dev/null |
sed -nE 's/^([^ ]+ +){3}[^ ]*:([0-9]+) .*users:.."([^"]+)",pid=([0-9]+).*/\\2 \\3 \\4/p' |
while read port name pid; do echo port $port $name $(sed -n 's/^0::.*[/]//p' /proc/$pid/cgroup); done"""


def _who_answers(site: Site, machine: Machine) -> str:
    # The kernel asks for the address by ARP when a packet is sent; no tool for that is on a bare machine.
    if site.vip is None or "balancer" not in machine.roles:
        return ""
    vip, dev = site.vip.address, machine.interface
    peers = [str(peer) for peer in network.vrrp_peers(site, machine)]
    return (
        f"ip -oneline -4 address | grep -q ' {vip}/' || {{ ip neigh flush to {vip} dev {dev} 2>/dev/null; "
        f'for a in {vip} {" ".join(peers)}; do timeout 1 bash -c "echo > /dev/udp/$a/9" 2>/dev/null; done; '
        f"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do ip neigh show {vip} dev {dev} | grep -q lladdr && break; "
        f"sleep 0.1; done; mac() {{ ip neigh show \"$1\" dev {dev} | sed -n 's/.*lladdr \\([^ ]*\\).*/\\1/p'; }}; "
        f"echo vip $(mac {vip}); for a in {' '.join(peers)}; do echo peer $(mac $a); done; }};"
    )


def problems(site: Site, machine: Machine, found: Found) -> list[str]:
    """What stops ``machine`` from carrying its roles: thing = value; need; command."""
    return [
        *_recovery(site, found),
        *_system(site, machine, found),
        *_room(site, machine, found),
        *_network(site, machine, found),
        *(_supplies(site.inference, found) if "inference" in machine.roles else ()),
    ]


def _one(found: Found, word: str, default: str = "0") -> str:
    return found.get(word, [default])[0]


def _recovery(site: Site, found: Found) -> Iterator[str]:
    """What a deploy would start in the middle of an exchange would be an empty platform, or write what is lost."""
    if "midway" in found:
        yield (
            f"recovery = stopped midway; its end is needed; make restored-end SITE={site.name}, which says what goes on"
        )


def _system(site: Site, machine: Machine, found: Found) -> Iterator[str]:
    if _one(found, "debian") != "debian-13":
        yield f"system = {_one(found, 'debian')}; Debian 13 is needed; cat /etc/os-release"
    if _one(found, "architecture") != "x86_64":
        yield f"architecture = {_one(found, 'architecture')}; x86_64 is needed; uname -m"
    if abs(ahead := int(_one(found, "clock"))) > CLOCK_SECONDS:
        yield f"clock = {ahead:+d} s against the controller; {CLOCK_SECONDS} s at most are needed; date -u"
    if machine.gpu and _one(found, "nvidia") == "0":
        yield "gpu = declared; no NVIDIA device is on PCI; lspci -d 10de: , or set gpu=False for this machine"
    if "database" in machine.roles and site.database.watchdog == "required" and "watchdog" not in found:
        yield "database.watchdog = 'required'; /dev/watchdog or the module softdog is needed; modprobe softdog"
    if "app" in machine.roles:
        yield from _sandbox(found)


def _sandbox(found: Found) -> Iterator[str]:
    """Without these no document would ever be parsed; where the kernel does not tell, the parser will."""
    if (modules := _one(found, "lsm", "landlock")) and "landlock" not in modules.split(","):
        yield f"/sys/kernel/security/lsm = {modules}; landlock is needed there; cat /proc/cmdline shows a lsm= to drop"
    if _one(found, "namespaces", "unknown") == "0":
        yield "user.max_user_namespaces = 0; one at least is needed; sysctl -w user.max_user_namespaces=10000"


def _room(site: Site, machine: Machine, found: Found) -> Iterator[str]:
    roles = {"every", *machine.roles}
    memory = sum(MEMORY_MB.get(role, 0) for role in roles)
    memory += (site.database.memory_mb or 256) if "database" in roles else 0
    memory += site.application.memory_mb if "app" in roles else 0
    if int(_one(found, "memory")) < memory:
        yield f"memory = {_one(found, 'memory')} MB; {memory} MB are needed for its roles; free -m, or fewer roles"
    yield from _room_for_replica(site, machine, found)
    lacking = roles - {*found.get("whole", ())}
    disk = BASE_MB + sum(DISK_MB.get(role, 0) for role in lacking)
    disk += _pushed_mb(site.inference) if "inference" in lacking else 0
    disk += site.database.slot_wal_mb if "database" in lacking else 0
    if int(_one(found, "disk")) < disk:
        yield f"free disk in /var/lib = {_one(found, 'disk')} MB; {disk} MB are needed; df -h /var/lib"


_data_mb: dict[str, int] = {}
"""Machine to the size of its databases, as far as the run has asked; a replica gets as much as the primary has."""


def _room_for_replica(site: Site, machine: Machine, found: Found) -> Iterator[str]:
    if "database" not in machine.roles:
        return
    own = _data_mb[machine.name] = int(_one(found, "data"))
    largest = max(_data_mb.values())
    need, room = largest + site.database.slot_wal_mb, own + int(_one(found, "disk"))
    if own < largest / 2 and room < need:
        holder = max(_data_mb, key=lambda name: _data_mb[name])
        yield (
            f"free disk in /var/lib = {room} MB; {need} MB are needed for a replica of what {holder} holds; "
            "df -h /var/lib"
        )


def _pushed_mb(settings: Inference) -> int:
    # The archive itself and its content, about twice as much; the models as their manifests say.
    size = 3 * settings.archive.stat().st_size if settings.archive.is_file() else 0
    for model in settings.models:
        path = settings.model_store / model.manifest if settings.model_store else Path("/nonexistent")
        if path.is_file():
            size += sum(layer["size"] for layer in json.loads(path.read_text())["layers"])
    return size // 1_000_000


def _network(site: Site, machine: Machine, found: Found) -> Iterator[str]:
    held = found.get("address", [])
    if str(machine.address) not in held and "unknown" not in held:
        shown = " and ".join(held) or "no address"
        yield f"interface {machine.interface} = {shown}; {machine.address} is needed there; ip -br address"
    ours = _ports(site, machine)
    for line in found.get("port", ()):
        port, name, unit = [*line.split(), "no unit", ""][:3]
        if int(port) in ours and unit not in OUR_UNITS and not unit.startswith("rag-"):
            yield f"port {port} = {name} of {unit}; a free port is needed; ss -ltnp 'sport = {port}'"
    answered = _one(found, "vip", "")
    if site.vip and answered and answered not in found.get("peer", ()):
        yield (
            f"vip.address = {site.vip.address}, which {answered} answers; a free address is needed; "
            f"ip neigh show {site.vip.address}"
        )


def _ports(site: Site, machine: Machine) -> set[int]:
    opened = {flow.port for flow in network.flows(site) if machine in site.having(flow.target)} - {site.ssh.port}
    behind = {opening.door.backend for opening in network.doors(site, machine)}
    return opened | behind | _loopback(machine)


def _loopback(machine: Machine) -> set[int]:
    chroma = {network.CHROMA} if "app" in machine.roles else set()
    return chroma | ({network.INFERENCE_POOL} if machine.roles & {"app", "backup"} else set())


def _supplies(settings: Inference, found: Found) -> Iterator[str]:
    if "archive" not in found and not settings.archive.is_file() and not settings.archive_url:
        yield f"inference.archive = {settings.archive}; the file is needed; make stand-in builds the lab's"
    held = {path: digest for digest, path in (line.split("  ", 1) for line in found.get("model", ()))}
    for model in settings.models:
        digest = held.get(f"{MODELS}/{model.manifest}")
        there = digest is not None and model.digest in {None, digest}
        if settings.model_store and not there and not (settings.model_store / model.manifest).is_file():
            manifest = settings.model_store / model.manifest
            yield f"model {model.name} = not in {settings.model_store}; {manifest} is needed; ls {settings.model_store}"


@operation()
def fit(site: Site, machine: Machine) -> Commands:
    """
    Refuse the machine when it cannot carry its roles.

    + site, machine: what the site says of it
    """
    # Before the machine is asked: what a recovery leaves behind is seen, or none can begin any more.
    who = deploying.refused_by(site)
    said = [f"recovery = {who}; its end is needed; make cluster SITE={site.name}"] if who else []
    said += problems(site, machine, host.get_fact(Hardware, site=site, machine=machine))
    if not said:
        host.noop(f"{machine.name} fits its roles")
        return
    yield call(_refuse, f"{machine.name}: {said[0]}")


def _refuse(text: str) -> None:
    raise OperationError(text)


@deploy("Preflight")
def preflight(site: Site, machine: Machine) -> None:
    """Ask first, change later."""
    fit(name="The machine fits its roles", site=site, machine=machine)
