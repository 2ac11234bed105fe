"""Chroma: the vectors' index on this machine's loopback; it can be deleted at any time and refills from PostgreSQL."""

from pyinfra.api import deploy

from inventories.network import CHROMA as PORT
from inventories.settings import Machine, Site
from tasks.archives import unpacked
from tasks.operations import ensure
from tasks.release import CHROMA, built
from tasks.wants import Check, File, Unit, User, rendered

UNIT = "/etc/systemd/system/rag-chroma.service"
COMPILE = "python3 -m compileall -q -j 0 lib || true"


@deploy("Chroma")
def chroma(site: Site, machine: Machine) -> None:
    """The Rust server only: the Python one has a hole without a fix (CVE-2026-45829)."""
    unpacked(
        name="Unpack Chroma",
        folder="/opt/chroma",
        release=CHROMA.id,
        archive=lambda: built(CHROMA),
        ssh=site.ssh,
        machine=machine,
        after=COMPILE,
    )

    ensure(
        name="Run Chroma",
        users=[User("chroma")],
        files=[File(UNIT, rendered("chroma/rag-chroma.service.j2", port=PORT, release=CHROMA.id))],
        units=[Unit("rag-chroma.service", reads=(UNIT,))],
        check=Check(f"curl --fail --silent http://127.0.0.1:{PORT}/api/v2/heartbeat"),
    )
