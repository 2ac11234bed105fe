"""node_exporter: the machine's figures, for the monitoring hosts' certificates alone."""

from pyinfra.api import deploy

from inventories.certificates import AUTHORITY, FOLDER
from inventories.network import NODE_EXPORTER
from inventories.settings import Machine, Site
from tasks.operations import ensure
from tasks.wants import Check, Directory, File, Unit, rendered

UNIT = "prometheus-node-exporter.service"
CERTIFICATE = f"{FOLDER}/node-exporter.crt"


@deploy("node_exporter")
def node_exporter(site: Site, machine: Machine) -> None:
    """Certificate against certificate on port 9100."""
    files = [
        File("/etc/default/prometheus-node-exporter", rendered("node_exporter/default.j2", port=NODE_EXPORTER)),
        File(
            "/etc/rag/node-exporter-web.yml",
            rendered(
                "node_exporter/web.yml.j2",
                certificate=CERTIFICATE,
                key=f"{FOLDER}/node-exporter.key",
                authority=AUTHORITY,
                clients=[machine.name, *(peer.name for peer in site.having("monitoring") if peer != machine)],
            ),
        ),
    ]
    ensure(
        name="Serve the machine's figures",
        directories=[*_textfiles(machine)],
        files=files,
        units=[Unit(UNIT, reads=(*(file.path for file in files), CERTIFICATE))],
        check=Check(
            f"curl --fail --silent --cacert {AUTHORITY} --cert {CERTIFICATE} --key {FOLDER}/node-exporter.key "
            f"https://{machine.name}:{NODE_EXPORTER}/"
        ),
    )


def _textfiles(machine: Machine) -> list[Directory]:
    # What a backup did and found is written there by its own user.
    mode, group = ("2775", "rag-backup") if "backup" in machine.roles else ("755", "prometheus")
    # Debian gives the folder above to the exporter, who could put a link where root sets rights and writes figures.
    return [
        Directory("/var/lib/prometheus"),
        Directory("/var/lib/prometheus/node-exporter", mode, "prometheus", group),
    ]
