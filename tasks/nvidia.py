"""NVIDIA's driver from Debian, on machines that declare a GPU: the module is built for the kernel that runs."""

from collections.abc import Iterable

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation

from tasks.apt import installed
from tasks.operations import Commands, ensure
from tasks.wants import Check, Unit

DRIVER = ("firmware-nvidia-gsp", "libcuda1", "libnvidia-ml1", "nvidia-kernel-dkms", "nvidia-persistenced", "nvidia-smi")


class NonFree(FactBase[bool]):
    """Whether APT sees Debian's non-free packages."""

    @staticmethod
    def default() -> bool:
        """No."""
        return False

    def command(self) -> str:
        """One look at APT's own list of sources."""
        return "apt-get indextargets --format '$(COMPONENT)' 'Created-By: Packages' | grep -cx non-free || true"

    def process(self, output: Iterable[str]) -> bool:
        """At least one."""
        return next(iter(output), "0") != "0"


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
    """Add contrib, non-free and its firmware to the sources that the machine has; their addresses stay."""
    if host.get_fact(NonFree):
        host.noop("non-free packages are there")
        return
    parts = "main contrib non-free non-free-firmware"
    yield StringCommand(
        f"sed -i -E 's/^Components: .*/Components: {parts}/' /etc/apt/sources.list.d/*.sources 2>/dev/null; "
        f"sed -i -E '/^deb /s/ main.*/ {parts}/' /etc/apt/sources.list 2>/dev/null; apt-get -qq update"
    )


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


@deploy("NVIDIA")
def nvidia() -> None:
    """Sources, headers, driver, daemon; the preflight has already refused a machine without the device."""
    non_free_enabled(name="See Debian's non-free packages")
    driver_installed(name="Install the driver")
    held(name="Hold the driver", packages=DRIVER)

    ensure(
        name="Keep the GPU awake",
        units=[Unit("nvidia-persistenced.service")],
        check=Check("modprobe nvidia && nvidia-smi --list-gpus | grep -q GPU", seconds=30),
    )
