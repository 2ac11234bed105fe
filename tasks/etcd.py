"""etcd: holds the primary's lease; three members, and every client shows a certificate."""

from pyinfra.api import deploy

from inventories.certificates import ETCD_AUTHORITY, certificate_of
from inventories.network import ETCD, ETCD_PEER
from inventories.settings import Machine, Site
from tasks.operations import ensure
from tasks.wants import Check, Directory, File, Unit, rendered, verbatim

CONFIG = "/etc/default/etcd"
RESTART = "/etc/systemd/system/etcd.service.d/rag.conf"


@deploy("etcd")
def etcd(site: Site, machine: Machine) -> None:
    """A member that waits for its peers; restarts go one machine at a time."""
    certificate = certificate_of(site, machine, "etcd")
    ensure(
        name="Run etcd",
        directories=[Directory("/var/lib/etcd", "700", "etcd", "etcd")],
        files=[
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
            File(RESTART, verbatim("etcd/restart.conf")),
        ],
        units=[Unit("etcd.service", reads=(CONFIG, RESTART, certificate.certificate), in_turn=True)],
        check=Check(
            f"ETCDCTL_API=3 etcdctl --endpoints https://{machine.name}:{ETCD} --cacert {ETCD_AUTHORITY} "
            f"--cert {certificate.certificate} --key {certificate.key} --command-timeout 3s endpoint health",
        ),
    )
