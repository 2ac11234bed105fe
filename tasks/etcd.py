"""etcd: holds the primary's lease; three members, and every client shows a certificate."""

import json
from collections.abc import Iterable

from gevent.lock import BoundedSemaphore
from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation
from pyinfra.api.exceptions import OperationError

from inventories.certificates import ETCD_AUTHORITY, Certificate, certificate_of
from inventories.network import ETCD, ETCD_PEER
from inventories.settings import Machine, Site
from tasks.operations import Commands, barrier, call, ensure, put, waiting
from tasks.wants import Check, Directory, File, Unit, rendered, verbatim

CONFIG = "/etc/default/etcd"
DROP_IN = "/etc/systemd/system/etcd.service.d/rag.conf"
FOLDER = "/var/lib/etcd"
JOIN = f"{FOLDER}/join.env"


@deploy("etcd")
def etcd(site: Site, machine: Machine) -> None:
    """A member that waits for its peers, or joins those that run; restarts go one machine at a time."""
    certificate = certificate_of(site, machine, "etcd")
    files = [
        File(
            CONFIG,
            rendered(
                "etcd/etcd.default.j2",
                site=site.name,
                machine=machine,
                members=site.having("etcd"),
                settings=site.etcd,
                certificate=certificate,
                authority=ETCD_AUTHORITY,
                client_port=ETCD,
                peer_port=ETCD_PEER,
            ),
        ),
        File(DROP_IN, verbatim("etcd/rag.conf")),
    ]
    directories = [Directory(FOLDER, "700", "etcd", "etcd")]
    check = Check(f"{_etcdctl(certificate, [machine])} endpoint health")
    joined(
        name="Join the members that run",
        site=site,
        machine=machine,
        certificate=certificate,
        directories=directories,
        files=files,
        check=check,
    )
    # A machine that starts before another one has asked would look to it like a cluster that runs.
    barrier(name="Every machine knows whether etcd runs already")

    ensure(
        name="Run etcd",
        directories=directories,
        files=files,
        # It reads its certificate anew for every connection.
        units=[Unit("etcd.service", reads=(CONFIG, DROP_IN, ETCD_AUTHORITY), in_turn=True)],
        check=check,
    )


def _etcdctl(certificate: Certificate, members: Iterable[Machine]) -> str:
    endpoints = ",".join(f"https://{member.name}:{ETCD}" for member in members)
    return (
        f"ETCDCTL_API=3 etcdctl --endpoints {endpoints} --cacert {ETCD_AUTHORITY} "
        f"--cert {certificate.certificate} --key {certificate.key} --command-timeout 3s --dial-timeout 2s"
    )


class Members(FactBase[dict[str, str] | None]):
    """
    Peer URL to id of the members that run, while this machine is none of them; None: nothing to join.

    Nobody at all, while this machine has no data: the cluster is new, or out of its reach.
    """

    @staticmethod
    def default() -> None:
        """Nothing to join."""

    def command(self, certificate: Certificate, peers: list[Machine], url: str) -> str:
        """The peers' own list; a cluster without a quorum gives none. Who is on it with its data is a member."""
        if not peers:
            return "true"
        data = f"test -e {FOLDER}/rag/member"
        return (
            f"{data} && systemctl is-active --quiet etcd || ! command -v etcdctl >/dev/null || {{ "
            f"listed=$({_etcdctl(certificate, peers)} --write-out json --hex member list 2>/dev/null); "
            f'{data} && echo "$listed" | grep -q \'"{url}"\' || echo "$listed"; '
            f'{data} || test -n "$listed" || echo nobody; }}'
        )

    def process(self, output: Iterable[str]) -> dict[str, str] | None:
        """JSON."""
        text = "".join(output)
        if text == "nobody":
            return {}
        if not text.startswith("{"):
            return None
        return {url: _hex(member["ID"]) for member in json.loads(text)["members"] for url in member["peerURLs"]}


def _hex(identity: int | str) -> str:
    return identity if isinstance(identity, str) else f"{identity:x}"


@operation()
def joined(
    site: Site,
    machine: Machine,
    certificate: Certificate,
    directories: list[Directory],
    files: list[File],
    check: Check,
) -> Commands:
    """
    Make a machine a member of the etcd that runs on the others, one machine at a time.

    A member that lost its data must not come back under its old identity: it would vote on what it does not know. So
    the old one is taken off the list first. Data of a member that was taken off the list are worth nothing.

    + site, machine, certificate: who joins, and with what it asks
    + directories, files: what etcd needs before it starts
    + check: says that it is a member
    """
    peers = [peer for peer in site.having("etcd") if peer != machine]
    url = f"https://{machine.name}:{ETCD_PEER}"
    listed = host.get_fact(Members, certificate=certificate, peers=peers, url=url)
    if listed is None or (not listed and _all_are_here(site)):
        host.noop("it has its data, or there is nothing to join")
        return
    if not listed:
        # Started alone it would make a cluster of its own, or come back as somebody who has forgotten everything.
        yield call(_refuse, machine.name)
        return
    for entry in directories:
        yield StringCommand(f"install -d -m {entry.mode} -o {entry.owner} -g {entry.group} {entry.path}")
    yield from put(files)
    yield call(_join, machine.name, url, listed.get(url), _etcdctl(certificate, peers), check)


def _all_are_here(site: Site) -> bool:
    present = {peer.name for peer in host.state.active_hosts if host.state.is_host_in_limit(peer)}
    return present >= {member.name for member in site.having("etcd")}


def _refuse(name: str) -> None:
    raise OperationError(
        f"etcd on {name} = no data, and no other member answers it; all of them are needed in one run; "
        "deploy without --limit"
    )


_turn = BoundedSemaphore(1)


def _join(name: str, url: str, former: str | None, etcdctl: str, check: Check) -> None:
    lines = [
        "set -e",
        *([f"{etcdctl} member remove {former} >&2"] if former else []),
        f"systemctl stop etcd; rm -rf {FOLDER}/rag",
        f"{etcdctl} member add {name} --peer-urls={url} | grep ^ETCD_INITIAL_CLUSTER > {JOIN}",
        f"systemctl daemon-reload; systemctl enable --quiet etcd; systemctl start etcd; {waiting(check)}",
    ]
    with _turn:
        well, output = host.run_shell_command(StringCommand("; ".join(lines)), _sudo=True)
    if not well:
        raise OperationError(f"etcd on {name} = not joined; {' '.join(output.stderr_lines[-3:])}")
