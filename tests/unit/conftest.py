"""Fixtures: a folder of secrets, four sites, and machines that are only written down."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inventories import secrets
from inventories.settings import Site
from tasks.cluster import site_of
from tests.unit import sites
from tests.unit.recovering import Machines


@pytest.fixture(scope="session")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Secrets of all four sites, and the age key that opens them, in a folder of their own."""
    folder = tmp_path_factory.mktemp("safe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAG_SECRETS_DIR", str(folder))
        patch.setenv("RAG_AGE_KEY", str(folder / "age-key"))
        for site in ("prod", "lab", "solo", "edge"):
            secrets.create(site)
        yield folder


@pytest.fixture(scope="session")
def every_site(safe: Path) -> Iterator[dict[str, Site]]:
    """The four sites by name."""
    folder = safe / "lab-state"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        yield {"prod": site_of("prod"), "edge": sites.edge_site(), **sites.lab_sites(folder, patch)}


@pytest.fixture
def prod(every_site: dict[str, Site]) -> Site:
    """The checked-in example of a fleet."""
    return every_site["prod"]


@pytest.fixture
def edge(every_site: dict[str, Site]) -> Site:
    """One machine with every role, and with what the checked-in sites leave at its default."""
    return every_site["edge"]


@pytest.fixture(params=["prod", "lab", "solo", "edge"])
def site(request: pytest.FixtureRequest, every_site: dict[str, Site]) -> Site:
    """Each of the four."""
    return every_site[request.param]


@pytest.fixture
def machines(prod: Site, monkeypatch: pytest.MonkeyPatch) -> Machines:
    """The fleet's machines, of which each is only written down."""
    return Machines(prod, monkeypatch)
