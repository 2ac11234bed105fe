"""What is taken away because it is old: in batches between which others write, until nothing is left."""

import logging
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from app.api.housekeeping import BATCH, tidy
from app.api.later import Later
from app.settings import Database
from app.store.database import engine
from tests.app.servers import wait_for
from tests.app.site import Site

OLD = 2 * BATCH + 500


@pytest.fixture
def primary(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder))
    made = engine(Database(hosts=("127.0.0.1",), port=site.postgresql.port), "read-write", 20)
    yield made
    made.dispose()


@pytest.fixture
def old(site: Site) -> str:
    """An actor whose entries in the audit are old, more of them than two batches hold."""
    actor = f"a{uuid4().hex[:8]}"
    with site.database.begin() as connection:
        connection.execute(
            text(
                "insert into audit (id, at, actor, action, object, detail, request_id, address)"
                " select gen_random_uuid(), now() - interval '800 days', :actor, 'test', '', '{}', '', ''"
                " from generate_series(1, :number)"
            ),
            {"actor": actor, "number": OLD},
        )
    return actor


def left(site: Site, actor: str) -> int:
    with site.database.connect() as connection:
        return int(
            connection.execute(text("select count(*) from audit where actor = :actor"), {"actor": actor}).scalar_one()
        )


def test_all_that_is_old_goes_a_batch_in_each_transaction_and_other_writes_go_in_between(
    site: Site, primary: Engine, old: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen: list[int] = []
    later = Later(primary)
    # Behind it in the line, as a question's record is: it must not wait for all of them.
    tidy(later, 365)
    later.write("between", lambda _: seen.append(left(site, old)))
    wait_for("all are gone", lambda: not left(site, old))
    later.close()

    assert seen[0] == OLD - BATCH
    batches = [record.getMessage() for record in caplog.records if "housekeeping audit=" in record.getMessage()]
    assert batches == [f"housekeeping audit={BATCH}", f"housekeeping audit={BATCH}", "housekeeping audit=500"]


def test_what_broke_off_is_gone_on_with(site: Site, primary: Engine, old: str) -> None:
    first = Later(primary)
    tidy(first, 365)
    # As when the program ends: what waits is written, and nothing more is begun.
    first.close()
    assert 0 < left(site, old) < OLD

    second = Later(primary)
    tidy(second, 365)
    wait_for("the rest is gone too", lambda: not left(site, old))
    second.close()
