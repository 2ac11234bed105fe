"""A site that deployed the next release and goes back to this one: its schema stays, and this program works in it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app.store.schema import Scripts, served
from tests.app import formats
from tests.app.conftest import whole_site
from tests.app.servers import ROOT
from tests.app.site import Site

MIGRATION = '''"""What the next release needs."""

from alembic import op

revision = "{revision}"
down_revision = "{before}"
{serves}


def upgrade() -> None:
    op.execute("create table made_by_{revision} (id bigint generated always as identity primary key)")
    op.execute("alter table documents add column if not exists of_{revision} text not null default ''")
'''


@pytest.fixture(scope="module")
def own() -> Iterator[Site]:
    with whole_site() as made:
        yield made


def head(site: Site) -> str:
    with site.database.connect() as connection:
        return str(Scripts(connection).directory.get_current_head())


def later_release(folder: Path, earlier: Path, before: str, revision: str, serves: str = "") -> Path:
    """The program of ``earlier`` with one migration more."""
    shutil.copytree(earlier / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    said = f'serves = "{serves}"' if serves else ""
    migration = MIGRATION.format(revision=revision, before=before, serves=said)
    (folder / "app/store/migrations/versions" / f"{revision}_later.py").write_text(migration)
    return folder


def migrated(site: Site, release: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the unit of that release does it."""
    command = [sys.executable, "-m", "app.store.migrate", *arguments]
    return subprocess.run(
        command, env=site.environment, cwd=release, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_site_goes_back_to_the_release_before_and_forward_again(own: Site, tmp_path: Path) -> None:
    ours = head(own)
    later = later_release(tmp_path / "next", ROOT, ours, "9001", serves=ours)
    admin = own.sign_in()
    collection = admin.make_collection()
    admin.settled(admin.upload(collection, "before.pdf", formats.contract("contract.pdf")))
    assert migrated(own, later).stdout == "changed\n"
    with own.database.connect() as connection:
        assert served(connection, "9001") == ours

    # The deploy of this release again: it finds nothing to do, and its programs start.
    assert (own.run("app.store.migrate", "--check").stdout, own.run("app.store.migrate").stdout) == (
        "unchanged\n",
        "unchanged\n",
    )
    for process in (own.api, own.worker, own.index):
        process.stop()
        process.start()
    own.wait_until_ready()

    person = own.add_user()
    mine = person.make_collection()
    assert (
        person.settled(person.upload(mine, "notes.md", b"# Crane\n\nThe crane lifts nine tons."))["state"] == "indexed"
    )
    own.wait_until_in_step()
    assert own.sign_in().search(collection, "notice period")["results"]
    assert person.search(mine, "how much does the crane lift")["results"]
    assert person.ask(mine, "How much does the crane lift?")["supported"]

    # What was made in the new schema meanwhile is there for the next release again, which has nothing to do either.
    assert migrated(own, later, "--check").stdout == "unchanged\n"
    with own.database.connect() as connection:
        made = connection.execute(text("select count(*) from documents where of_9001 = ''")).scalar_one()
    assert made == 2


def test_a_release_that_the_schema_does_not_serve_any_more_refuses_in_one_line(own: Site, tmp_path: Path) -> None:
    with own.database.connect() as connection:
        now = str(Scripts(connection).current())
    ours = head(own)
    first = later_release(tmp_path / "one", ROOT, ours, "9001", serves=ours)
    second = later_release(tmp_path / "two", first, "9001", "9002", serves="9001")
    assert now in {ours, "9001"}
    assert migrated(own, second).stdout == "changed\n"

    for arguments in ((), ("--check",)):
        refused = own.run("app.store.migrate", *arguments)

        assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
        assert refused.stderr == (
            f"schema = 9002; this release knows it up to {ours}, so another release: one of a program that knows 9001,"
            " or a later one; docs/operations.md, Go back to the release before\n"
        )
    # The one between works in it.
    assert migrated(own, first, "--check").stdout == "unchanged\n"
