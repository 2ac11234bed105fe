"""NVIDIA's driver from Debian, on machines that declare a GPU: the module is built for the kernel that runs."""

from collections.abc import Iterable

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation
from pyinfra.facts.server import Command

from tasks.apt import installed
from tasks.operations import Commands, ensure
from tasks.wants import Check, File, Unit, verbatim

DRIVER = (
    "firmware-nvidia-gsp",
    "libcuda1",
    "libnvidia-ml1",
    "nvidia-kernel-dkms",
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-smi",
)
SOURCES = "/etc/apt/sources.list.d/rag-non-free.sources"
DROP_IN = "/etc/systemd/system/nvidia-persistenced.service.d/rag.conf"
PARTS = ("contrib", "non-free", "non-free-firmware")
HEAD = (
    "# Written by tasks/nvidia.py; local edits are overwritten. The machine's own Debian sources, their other parts.\n"
)
LOAD = """modprobe -r nouveau 2>/dev/null; modprobe nvidia && exit
echo "module nvidia = not loaded on $(uname -n); nouveau may hold the card; reboot it, then deploy again" >&2; exit 1"""


class Targets(FactBase[list[list[str]]]):
    """What APT fetches: origin, file that says so, address, suite, key and component of each list of packages."""

    @staticmethod
    def default() -> list[list[str]]:
        """Nothing."""
        return []

    def command(self) -> str:
        """APT's own account, whatever the form of its sources."""
        words = "|".join(
            f"$({word})" for word in ("ORIGIN", "SOURCESENTRY", "REPO_URI", "RELEASE", "SIGNED_BY", "COMPONENT")
        )
        return f"apt-get indextargets --format '{words}' 'Created-By: Packages'"

    def process(self, output: Iterable[str]) -> list[list[str]]:
        """Six words a line."""
        return [line.split("|") for line in output if line.count("|") == 5]


def non_free(targets: list[list[str]]) -> str:
    """Sources of the parts that Debian's own entries lack; nobody else's entries count, nor are they touched."""
    parts: dict[tuple[str, str, str], set[str]] = {}
    for origin, entry, uri, suite, key, part in targets:
        if origin == "Debian" and not entry.startswith(SOURCES):
            parts.setdefault((uri, suite, key), set()).add(part)
    stanzas = [
        f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {' '.join(lacking)}\n"
        + (f"Signed-By: {key}\n" if key else "")
        for (uri, suite, key), found in sorted(parts.items())
        if (lacking := [part for part in PARTS if part not in found])
    ]
    return HEAD + "\n".join(stanzas) if stanzas else ""


class Headers(FactBase[list[str]]):
    """The headers of the running kernel, when Debian has them, and those of the kernels to come."""

    @staticmethod
    def default() -> list[str]:
        """Those to come."""
        return ["linux-headers-amd64"]

    def command(self) -> str:
        """APT's own list of names."""
        return 'apt-cache pkgnames "linux-headers-$(uname -r)" | grep -x "linux-headers-$(uname -r)" || true'

    def process(self, output: Iterable[str]) -> list[str]:
        """Both."""
        return ["linux-headers-amd64", *output]


class Held(FactBase[set[str]]):
    """Packages that no upgrade may touch."""

    @staticmethod
    def default() -> set[str]:
        """None."""
        return set()

    def command(self) -> str:
        """APT's marks."""
        return "apt-mark showhold"

    def process(self, output: Iterable[str]) -> set[str]:
        """A name a line."""
        return set(output)


@operation()
def non_free_enabled() -> Commands:
    """Add contrib, non-free and its firmware to Debian's sources that the machine has, in a file of our own."""
    text = non_free(host.get_fact(Targets))
    yield from ensure._inner(files=[File(SOURCES, text.encode())] if text else [], absent=[] if text else [SOURCES])


@operation()
def driver_installed() -> Commands:
    """The driver and the headers that DKMS builds its module with, which takes minutes."""
    yield from installed._inner(packages=[*host.get_fact(Headers), *DRIVER])


@operation()
def held(packages: Iterable[str]) -> Commands:
    """
    Keep every upgrade away from these packages: a new driver's tools refuse the module that still runs.

    + packages: Debian's names
    """
    found = host.get_fact(Held)
    free = sorted(set(packages) - found)
    if not free:
        host.noop("the driver is held")
        return
    yield StringCommand("apt-mark", "hold", *free)


@operation()
def module_loaded() -> Commands:
    """Have the driver's module in the kernel; until a restart the free driver, nouveau, may hold the card."""
    if host.get_fact(Command, "test -d /sys/module/nvidia && echo yes || echo no") == "yes":
        host.noop("the module is loaded")
        return
    yield StringCommand(LOAD)


@deploy("NVIDIA")
def nvidia() -> None:
    """Sources, headers, driver, daemon; the preflight has already refused a machine without the device."""
    non_free_enabled(name="See Debian's non-free packages")
    driver_installed(name="Install the driver")
    held(name="Hold the driver", packages=DRIVER)
    module_loaded(name="Load the driver's module")

    ensure(
        name="Keep the GPU awake",
        files=[File(DROP_IN, verbatim("nvidia/persistenced.conf"))],
        units=[Unit("nvidia-persistenced.service", reads=(DROP_IN,))],
        check=Check("test -c /dev/nvidia-uvm && nvidia-smi --list-gpus | grep -q GPU", seconds=30),
    )
