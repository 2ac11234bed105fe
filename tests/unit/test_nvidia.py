"""The driver's packages come from Debian's own sources, and its devices are there before Ollama."""

from inventories.settings import Site
from tasks.nvidia import DRIVER, DROP_IN, SOURCES, non_free
from tests.unit.plans import plan

KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEBIAN = ["Debian", "/etc/apt/sources.list.d/debian.sources:1", "http://deb.debian.org/debian/", "trixie", KEY]
DOCKER = [
    "Docker",
    "/etc/apt/sources.list.d/docker.sources:1",
    "https://download.docker.com/linux/debian/",
    "trixie",
    "",
]


def test_debian_s_own_entries_get_the_parts_that_they_lack_and_nobody_else_s() -> None:
    text = non_free([[*DEBIAN, "main"], [*DEBIAN, "contrib"], [*DOCKER, "stable"]])

    assert text.splitlines()[1:] == [
        "Types: deb",
        "URIs: http://deb.debian.org/debian/",
        "Suites: trixie",
        "Components: non-free non-free-firmware",
        f"Signed-By: {KEY}",
    ]


def test_our_own_file_is_not_what_it_is_derived_from() -> None:
    ours = [DEBIAN[0], f"{SOURCES}:2", *DEBIAN[2:]]

    with_ours = non_free([[*DEBIAN, "main"], [*ours, "contrib"], [*ours, "non-free"], [*ours, "non-free-firmware"]])

    assert with_ours == non_free([[*DEBIAN, "main"]]) != ""
    assert non_free([[*DEBIAN, part] for part in ("main", "contrib", "non-free", "non-free-firmware")]) == ""


def test_the_devices_that_cuda_opens_are_made_before_ollama_starts(edge: Site) -> None:
    files = plan(edge, edge.machine("edge1")).files

    assert b"ExecStartPost=/usr/bin/nvidia-modprobe -c 0 -u" in files[DROP_IN].content
    assert "nvidia-modprobe" in DRIVER
    unit = files["/etc/systemd/system/ollama.service"].content
    assert b"After=nvidia-persistenced.service\nWants=nvidia-persistenced.service" in unit


def test_a_machine_without_a_gpu_waits_for_no_driver(prod: Site) -> None:
    machine = prod.machine("gpu1").model_copy(update={"gpu": False})
    files = plan(prod, machine).files

    assert b"nvidia" not in files["/etc/systemd/system/ollama.service"].content
    assert DROP_IN not in files
