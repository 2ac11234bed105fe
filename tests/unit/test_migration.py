"""The schema is migrated in every run that brings new code, by one machine of that run."""

import pytest

from inventories.settings import Site
from tests.unit.plans import plan


@pytest.mark.parametrize(
    ("present", "migrates"),
    [((), "app1"), (("app1", "app2"), "app1"), (("app2",), "app2"), (("db1", "app2", "gpu1"), "app2")],
)
def test_the_first_app_host_of_the_run_migrates_the_schema(prod: Site, present: tuple[str, ...], migrates: str) -> None:
    names = [name for name in ("app1", "app2") if name in present or not present]

    asked = {name: plan(prod, prod.machine(name), *present).called("migrated")[0]["needed"] for name in names}

    assert [name for name, needed in asked.items() if needed] == [migrates]
