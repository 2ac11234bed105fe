"""What `make lab` built: the addresses and keys of this clone's lab."""

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from inventories.settings import Model, SettingsError

STATE = Path(__file__).parent.parent / "build" / "lab" / "lab.json"
OLLAMA = Path(__file__).parent.parent / "build" / "ollama" / "manifest.json"


@dataclass(frozen=True)
class Lab:
    """A lab as it stands."""

    subnet: IPv4Network
    machines: dict[str, IPv4Address]
    vip: IPv4Address
    ssh_key: Path
    known_hosts: Path

    def address(self, name: str) -> IPv4Address:
        """Where the machine is; refused in one line when the lab has none of that name."""
        if name not in self.machines:
            raise SettingsError(f"machine {name} = not in the lab; it must be up; python3 -m tests.lab up {name}")
        return self.machines[name]

    @property
    def public_key(self) -> str:
        """The key that logs in."""
        return self.ssh_key.with_suffix(".pub").read_text().strip()


@dataclass(frozen=True)
class StandIn:
    """Ollama's stand-in as the lab built it."""

    archive: Path
    sha256: str
    version: str
    chat_model: Model
    embedding_model: Model
    store: Path


def lab() -> Lab:
    """This clone's lab; refused in one line when there is none."""
    state = _read(STATE, "lab = not built; its addresses are needed; make lab")
    return Lab(
        subnet=IPv4Network(state["subnet"]),
        machines={name: IPv4Address(address) for name, address in state["machines"].items()},
        vip=IPv4Address(state["vip"]),
        ssh_key=Path(state["ssh_key"]),
        known_hosts=Path(state["known_hosts"]),
    )


def stand_in() -> StandIn:
    """The archive that stands in for Ollama's in the lab; refused in one line when it is not built."""
    state = _read(OLLAMA, "stand-in for Ollama = not built; the lab deploys it; make stand-in")
    archive = OLLAMA.parent / Path(state["archive"]).name
    chat, embedding = (
        Model(name=name, digest=state["models"][name]) for name in (state["chat_model"], state["embedding_model"])
    )
    return StandIn(archive, state["sha256"], state["version"], chat, embedding, OLLAMA.parent / "models")


def _read(path: Path, refusal: str) -> dict[str, Any]:
    if not path.is_file():
        raise SettingsError(refusal)
    state: dict[str, Any] = json.loads(path.read_text())
    return state
