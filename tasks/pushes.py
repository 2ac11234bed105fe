"""etcd's own backup: each member pushes a snapshot to the backup hosts every day, and cannot take it back."""

from pyinfra.api import deploy

from inventories.certificates import AUTHORITY, ETCD_AUTHORITY, certificate_of
from inventories.escrow import push_password
from inventories.network import ETCD, REST_DOOR
from inventories.settings import Machine, Site
from tasks.operations import ensure
from tasks.wants import Directory, File, Unit, credential, rendered, verbatim

PROGRAM = "/usr/local/lib/rag/etcd-snapshot"
UNIT = "/etc/systemd/system/rag-etcd-snapshot"


@deploy("Pushed backups")
def pushes(site: Site, machine: Machine) -> None:
    """The machine holds the key of its own repository alone; it opens nobody else's."""
    timer = f"{UNIT}.timer"
    ensure(
        name="Push snapshots of etcd",
        directories=[Directory("/usr/local/lib/rag"), Directory("/etc/credstore", "700")],
        files=[
            File(PROGRAM, verbatim("pushes/etcd_snapshot.py"), mode="755"),
            File(
                f"{UNIT}.service",
                rendered(
                    "pushes/rag-etcd-snapshot.service.j2",
                    machine=machine,
                    targets=[target.name for target in site.having("backup")],
                    etcd=certificate_of(site, machine, "etcd"),
                    push=certificate_of(site, machine, "push"),
                    authority=AUTHORITY,
                    etcd_authority=ETCD_AUTHORITY,
                    etcd_port=ETCD,
                    door=REST_DOOR,
                ),
            ),
            File(timer, verbatim("pushes/rag-etcd-snapshot.timer")),
            credential("push-password", push_password(site.secret("push-password"), machine.name)),
        ],
        units=[Unit("rag-etcd-snapshot.timer", reads=(timer,))],
    )
