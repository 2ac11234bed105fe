"""A site file's Site, as pyinfra would read it."""

import runpy
from pathlib import Path

from pyinfra.api import Config
from pyinfra.context import ctx_config

from inventories.settings import Site


def load_site(name: str) -> Site:
    """Execute ``inventories/<name>``; a site file sets pyinfra's config, so one must be there to be set."""
    with ctx_config.use(Config()):  # type: ignore[no-untyped-call]
        site = runpy.run_path(str(Path("inventories") / name))["site"]
    assert isinstance(site, Site)
    return site
