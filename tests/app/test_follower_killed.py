"""The follower killed at the one moment that counts: a change is begun, and not yet in the index."""

import signal

from sqlalchemy import text

from tests.app.servers import wait_for
from tests.app.site import Person, Site
from tests.app.test_removal import Chroma, id_of, passages


def test_a_follower_that_is_killed_before_a_change_is_applied_applies_it_later(
    site: Site, admin: Person, collection: str
) -> None:
    collection_id = id_of(site, collection)
    site.wait_until_in_step()
    site.index.stop()
    admin.settled(admin.upload(collection, "crane.txt", b"The crane lifts nine tonnes."))

    with site.database.begin() as connection:
        # It reads the change, and cannot read the passages that it is about.
        connection.execute(text("lock table passages in access exclusive mode"))
        site.index.launch()
        wait_for("it is about to apply the change", lambda: waits_for_passages(site), 60)
        site.index.stop(signal.SIGKILL)
    site.index.launch()
    site.wait_until_in_step()

    assert Chroma(site).ids(collection_id) == passages(site, collection_id) != set()


def waits_for_passages(site: Site) -> bool:
    statement = text(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and usename = 'rag_read'"
        " and query like 'select p.document_id, p.ordinal, % as embedding from passages p%'"
    )
    with site.database.connect() as connection:
        return bool(connection.execute(statement).scalar_one())
