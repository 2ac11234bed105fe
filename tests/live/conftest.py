"""pytest tests/live --site SITE: what the fleet promises, asked from the fleet itself."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pyinfra.api.exceptions import PyinfraError
from testinfra.host import Host

from inventories.settings import Machine, Site
from tasks.cluster import site_of
from tests.lab import fleet as lab_fleet
from tests.lab.host import LabError
from tests.live.fleet import Fleet, Run, deploy, ssh_config_of

# A story: the fleet is deployed, every part of it is looked at, people use it, then it is hurt.
ORDER = (
    "test_deploy",
    "test_base",
    "test_access",
    "test_firewall",
    "test_network",
    "test_pki",
    "test_node_exporter",
    "test_etcd",
    "test_database",
    "test_roles",
    "test_cluster",
    "test_backup",
    "test_repository",
    "test_second_repository",
    "test_pushed",
    "test_ollama",
    "test_chroma",
    "test_proxy",
    "test_app",
    "test_questions",
    "test_drill",
    "test_recovery",
    "test_faults",
    "test_guard",
    "test_replacement",
    "test_solo",
    "test_nvidia",
)
SITE = pytest.StashKey[Site]()
FIGURES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--site", default="lab", help="a file in inventories/; only lab is deployed to and hurt")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "role(name): the test runs for each machine with that role")
    config.addinivalue_line("markers", "lab: the test breaks things; it runs on the lab alone")
    config.addinivalue_line("markers", "recovery: takes minutes; -m recovery runs these")
    config.stash[FIGURES] = []
    name = config.getoption("--site")
    try:
        if name == "lab":
            lab_fleet.require_lab()
        config.stash[SITE] = site_of(name)
    except (LabError, PyinfraError) as refused:
        raise pytest.UsageError(str(refused)) from None


def pytest_report_header(config: pytest.Config) -> str:
    site = config.stash[SITE]
    ollama = "the lab's stand-in for Ollama" if site.inference.stand_in else "Ollama"
    return f"site: {site.name}, {len(site.machines)} machines, {ollama} with {site.inference.chat_model.name}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("role")
    if marker and "machine" in metafunc.fixturenames:
        machines = metafunc.config.stash[SITE].having(marker.args[0])
        metafunc.parametrize("machine", machines, ids=[machine.name for machine in machines])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places[item.path.stem])
    if not config.getoption("markexpr"):
        long = [item for item in items if item.get_closest_marker("recovery")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    if config.stash[SITE].name != "lab":
        hurting = [item for item in items if item.get_closest_marker("lab")]
        config.hook.pytest_deselected(items=hurting)
        items[:] = [item for item in items if item not in hurting]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[FIGURES]:
        terminalreporter.section("measured")
        for line in config.stash[FIGURES]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def site(pytestconfig: pytest.Config) -> Site:
    return pytestconfig.stash[SITE]


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Say a figure at the end of the run."""
    return pytestconfig.stash[FIGURES].append


@pytest.fixture(scope="session")
def fleet(site: Site) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="rag-") as folder:
        path = lab_fleet.load().ssh_config if site.name == "lab" else ssh_config_of(site, Path(folder))
        yield Fleet(site, Path(path))


@pytest.fixture(scope="session", autouse=True)
def deployed(site: Site, measured: Callable[[str], None]) -> Run | None:
    """The lab is brought up to date first; any other site is looked at as it is."""
    if site.name != "lab":
        return None
    run = deploy("lab")
    if run.rc:
        pytest.exit(f"deploy of the lab = exit {run.rc}; the tests need it; {run.said}", returncode=1)
    measured(f"first deploy: {run.seconds:.1f} s, {run.totals['success']} changes on {len(site.machines)} machines")
    return run


@pytest.fixture
def host(fleet: Fleet, machine: Machine) -> Host:
    """The machine of a test with a role, for testinfra."""
    return fleet.host(machine.name)


@pytest.fixture(scope="session")
def platform(fleet: Fleet, deployed: Run | None) -> Iterator[httpx.Client]:
    """The first administrator at the entry, over TLS."""
    client = fleet.signed_in()
    yield client
    client.close()


@pytest.fixture(scope="session")
def run(fleet: Fleet) -> Callable[[Machine | str, str], str]:
    """Run a shell script as root on a machine and give what it prints; fail with what it said."""
    return lambda machine, script: fleet.ask(machine if isinstance(machine, str) else machine.name, script)
