"""The schema is migrated in every run that brings new code, by one machine of that run."""

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.store import migrations
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


def test_every_migration_says_which_programs_of_before_work_in_the_schema_it_makes() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    order = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
    before = [script.revision for script in order]

    for number, script in enumerate(order):
        # A program that went back must be able to read it, so it names what that program knows.
        if script.revision >= "0010":
            assert script.module.serves in before[: number + 1], script.path
