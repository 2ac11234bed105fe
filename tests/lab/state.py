"""What a lab is, written down: for this computer in its state folder, for this clone in build/lab/lab.json."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.lab import plan
from tests.lab.host import LabError, replace_text

CLONE = Path(__file__).resolve().parents[2]
BUILD = CLONE / "build" / "lab"


@dataclass(frozen=True)
class Lab:
    name: str
    clone: Path
    subnet: str
    gateway: str
    bridge: str
    machines: dict[str, str]
    vip: str
    ssh_key: Path
    known_hosts: Path
    ssh_config: Path

    @property
    def tag(self) -> str:
        return plan.tag(self.name)

    @property
    def folder(self) -> Path:
        return root() / self.name

    @property
    def sockets(self) -> Path:
        # A socket's path must be short: the kernel takes 107 bytes.
        return Path("/run/rag-lab", self.tag)

    def disk(self, machine: str) -> Path:
        return self.folder / machine


def root() -> Path:
    """A folder that only labs are in, since what looks dead there is removed."""
    return Path(os.environ.get("RAG_LAB_DIR", "/var/lib")) / "rag-lab"


def here() -> Lab | None:
    """The lab that this clone wrote down; a copied or moved clone has none yet."""
    file = BUILD / "lab.json"
    if not file.exists():
        return None
    lab = read(file)
    return lab if lab.clone == CLONE else None


def name_here() -> str:
    """The lab that the verbs mean: the one asked for, else this clone's present one, else its next one."""
    chosen = os.environ.get("RAG_LAB_NAME")
    if chosen:
        return plan.checked_name(chosen)
    lab = here()
    return lab.name if lab else plan.lab_name(CLONE)


def planned(name: str, subnet: str, machines: tuple[str, ...]) -> Lab:
    """The lab of this clone as it is to be."""
    return Lab(
        name=name,
        clone=CLONE,
        subnet=subnet,
        gateway=plan.numbered(subnet, plan.GATEWAY),
        bridge=plan.bridge(name),
        machines={machine: plan.address(subnet, machine) for machine in machines},
        vip=plan.numbered(subnet, plan.VIP),
        ssh_key=BUILD / "id_ed25519",
        known_hosts=BUILD / "known_hosts",
        ssh_config=BUILD / "ssh_config",
    )


def with_machines(lab: Lab, machines: tuple[str, ...]) -> Lab:
    added = {machine: plan.address(lab.subnet, machine) for machine in machines}
    merged = lab.machines | added
    return replace(lab, machines={machine: merged[machine] for machine in plan.KNOWN if machine in merged})


def write(lab: Lab) -> None:
    """Write the lab down, for this computer first: what is not written there cannot be cleared."""
    for file in (lab.folder / "lab.json", lab.ssh_config.with_name("lab.json")):
        replace_text(file, json.dumps(asdict(lab), indent=2, default=str) + "\n")


def read(file: Path) -> Lab:
    try:
        raw = json.loads(file.read_text())
        paths = {field: Path(raw[field]) for field in ("clone", "ssh_key", "known_hosts", "ssh_config")}
        return Lab(**(raw | paths))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise LabError(f"{file} = not readable ({problem}); a lab writes it; make lab-down && make lab") from None


def names_on_this_computer() -> list[str]:
    """Every lab that has a state folder here, of whichever clone."""
    return sorted(path.name for path in root().glob("*") if _is_lab(path))


def _is_lab(folder: Path) -> bool:
    """Whether a lab wrote here, be it for a moment; anybody else's folder is left alone."""
    records = any((folder / name).exists() for name in ("lab.json", "lab.json.new"))
    return records or any((folder / machine).is_dir() for machine in plan.KNOWN)
