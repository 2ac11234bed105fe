"""Something is brought back: beside production, in its place, one document alone; what must not be done is refused."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest

from inventories.settings import Machine, Site
from tasks import outage, restored
from tests.live.fleet import PYINFRA, ROOT, Fleet, deploy
from tests.live.test_database import PSQL, Run, leader, whole
from tests.live.waiting import until

pytestmark = pytest.mark.lab
Measured = Callable[[str], None]
NOW = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00'"
# A drill's lock is no data.
LEFT = f"find {restored.FOLDER}/scratch -mindepth 1 ! -name drill.lock"


def recovery(site: Site, *words: str, seconds: float = 1200) -> "subprocess.CompletedProcess[str]":
    """What the Makefile's verbs call; without a terminal, as CI has none."""
    return subprocess.run(
        [sys.executable, "-m", "tasks.recovery", site.name, *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def well(site: Site, *words: str) -> str:
    done = recovery(site, *words)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def keeper(site: Site, run: Run) -> Iterator[str]:
    """The backup host, with a base backup; no restored copy is left there."""
    if not site.having("backup"):
        pytest.skip("the site has no backup host")
    name = site.having("backup")[0].name
    recovery(site, "end")
    # One that was asked for is begun by itself; the same unit is waited for here.
    run(name, "systemctl start rag-base; systemctl start rag-backup")
    yield name
    recovery(site, "end")


def moment(site: Site, run: Run) -> str:
    """Now, by the primary's clock, as a person may type it."""
    return run(leader(site, run), f'{PSQL}"{NOW}"')


def newest_canary(site: Site, run: Run) -> int:
    return int(run(leader(site, run), f'{PSQL}"select coalesce(max(number), 0) from canaries" rag'))


def after_another_canary(site: Site, run: Run) -> int:
    before = newest_canary(site, run)
    until(lambda: newest_canary(site, run) > before, "another canary", 30)
    return newest_canary(site, run)


def test_a_moment_between_two_canaries_is_brought_back_beside_production(
    site: Site, run: Run, keeper: str, measured: Measured
) -> None:
    # Given
    there = after_another_canary(site, run)
    to = moment(site, run)
    later = after_another_canary(site, run)
    run(keeper, "systemctl start rag-backup")
    before = production(site, run)

    # When
    began = time.monotonic()
    said = well(site, "restore", "--to", to)
    seconds = time.monotonic() - began

    # Then
    machine = site.machine(keeper)
    held = json.loads(restored.query(site, machine, "select json_agg(number) from canaries"))
    assert there in held
    assert later not in held
    assert "look into it:" in said
    assert production(site, run).keys() == before.keys()
    measured(f"restore to a moment beside production: {seconds:.1f} s until it could be looked into")

    # A second one at the same time is refused, and so is one in place; this one is ended as it says.
    for words in (("restore", "--to", "latest"), ("restore", "--to", to, "--in-place", "--confirm", site.name)):
        refused = recovery(site, *words)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "has a restored copy since" in refused.stderr
    well(site, "end")
    assert not run(keeper, LEFT)
    assert whole(site, run)


def production(site: Site, run: Run) -> dict[str, str]:
    """Each database machine with the system that it is a member of."""
    version = site.database.version
    control = f"/usr/lib/postgresql/{version}/bin/pg_controldata /var/lib/postgresql/{version}/rag"
    found = {one.name: run(one, f"{control} | grep 'system identifier'") for one in site.having("database")}
    assert len({*found.values()}) == 1
    return found


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--to", "2020-01-01 08:00"), "the repository holds no other"),
        (("--to", "2099-01-01 08:00"), "a moment that is over is needed"),
        (("--to", "yesterday"), "a moment or latest is needed"),
        (("--to", "latest", "--in-place"), "lab is needed, nothing was changed"),
        (("--to", "latest", "--in-place", "--confirm", "prod"), "lab is needed, nothing was changed"),
    ],
)
def test_what_cannot_be_or_is_not_agreed_to_is_refused_in_one_line(
    site: Site, run: Run, keeper: str, words: tuple[str, ...], why: str
) -> None:
    done = recovery(site, "restore", *words)

    assert done.returncode == 2
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert whole(site, run)


def test_no_deploy_and_no_other_recovery_begins_while_the_site_goes_back(site: Site, run: Run, keeper: str) -> None:
    held: Machine = site.having("database")[-1]
    lock = "exec 9>>/run/lock/rag-recovery; flock 9; echo 'restore in place by somebody' > /run/lock/rag-recovery"
    run(held, f"systemd-run --quiet --unit rag-test-recovery sh -c {json.dumps(f'{lock}; sleep 120')}")
    try:
        until(lambda: "somebody" in run(held, "cat /run/lock/rag-recovery 2>/dev/null; true"), "the lock")

        done = deploy(site.name)
        other = recovery(site, "restore", "--to", "latest", "--in-place", "--confirm", site.name)

        assert done.rc != 0
        assert f"{held.name}: recovery = restore in place by somebody; its end is needed" in done.said
        assert not done.changed
        assert (other.returncode, "another action runs: restore in place by somebody" in other.stderr) == (2, True)
    finally:
        run(held, "systemctl stop rag-test-recovery")


def test_no_recovery_begins_while_a_deploy_works_and_one_that_was_killed_holds_up_none(
    site: Site, run: Run, keeper: str, fleet: Fleet
) -> None:
    lock, machines = "/run/lock/rag-recovery", (*site.having("database"), site.machine(keeper))
    # One that changes nothing: it takes its locks as any other does, and here it goes no further.
    words = [str(PYINFRA), f"inventories/{site.name}", "deploy.py", "--dry"]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as dry:
        try:
            held = f"flock --nonblock {lock} true || cat {lock}"
            until(lambda: all("deploy by" in run(one, held) for one in machines), "the lock of the deploy")
            dry.send_signal(signal.SIGSTOP)

            for more in ((), ("--in-place", "--confirm", site.name)):
                refused = recovery(site, "restore", "--to", "latest", *more)

                assert refused.returncode == 2, refused.stdout + refused.stderr
                assert re.fullmatch("restore.* = refused; another action runs: deploy by .+\n", refused.stderr)
        finally:
            dry.kill()
    free = f"flock --nonblock {lock} echo free || true"
    until(lambda: all(run(one, free) == "free" for one in machines), "the lock of a killed deploy to be free", 30)


def test_what_is_held_starts_for_nobody_until_it_is_let_go(site: Site, run: Run) -> None:
    app = site.having("app")[0]
    try:
        run(app, outage.held(["rag-migrate"]))

        said = run(app, "systemctl start rag-migrate 2>&1 || echo refused")

        assert said.endswith("refused")
    finally:
        run(app, outage.free(["rag-migrate"]))
    run(app, "systemctl start rag-migrate")


@pytest.mark.recovery
def test_one_document_comes_back_and_nothing_else_changes(
    site: Site, run: Run, keeper: str, platform: httpx.Client
) -> None:
    # Given
    platform.post("/api/v1/collections", json={"name": "brought-back"})
    path = "/api/v1/collections/brought-back/documents"
    for name in ("lost.txt", "kept.txt"):
        file = {"file": (name, f"The notice period of {name} is 90 days.", "text/plain")}
        assert platform.post(path, files=file).status_code == 202
    after_another_canary(site, run)
    to = moment(site, run)
    lost = next(each for each in platform.get(path).json()["items"] if each["file_name"] == "lost.txt")
    assert platform.delete(f"/api/v1/documents/{lost['id']}").status_code == 204
    after_another_canary(site, run)
    run(keeper, "systemctl start rag-backup")

    # When
    said = well(site, "document", "--to", to, "--document", "lost.txt")

    # Then
    assert "lost.txt: indexed" in said
    names = [each["file_name"] for each in platform.get(path).json()["items"]]
    assert sorted(names) == ["kept.txt", "lost.txt"]
    twice = recovery(site, "document", "--to", to, "--document", "nobody.txt")
    assert (twice.returncode, run(keeper, LEFT)) == (2, "")


@pytest.mark.recovery
def test_the_site_goes_back_to_a_moment_and_returns(
    site: Site, run: Run, keeper: str, fleet: Fleet, platform: httpx.Client, measured: Measured
) -> None:
    # Given
    platform.post("/api/v1/collections", json={"name": "before-the-moment"})
    after_another_canary(site, run)
    to = moment(site, run)
    after_another_canary(site, run)
    platform.post("/api/v1/collections", json={"name": "after-the-moment"})

    # When
    said = well(site, "restore", "--to", to, "--in-place", "--confirm", site.name)

    # Then
    assert "1 × collection.create" in said
    assert collections(fleet) & {"before-the-moment", "after-the-moment"} == {"before-the-moment"}
    for machine in site.having("database"):
        assert run(machine, f"ls -d /var/lib/postgresql/{site.database.version}/rag.before-*")
    measured(f"the site goes back to a moment: {together(said)} s")
    receives_and_misses_nothing(run, keeper)

    # And back: what it had when it was left.
    said = well(site, "restore", "--to", "before", "--in-place", "--confirm", site.name)
    assert {"before-the-moment", "after-the-moment"} <= collections(fleet)
    measured(f"and returns to what it was: {together(said)} s")
    receives_and_misses_nothing(run, keeper)
    until(lambda: whole(site, run), "a whole cluster", 120)
    for machine in site.having("database"):
        run(machine, f"rm -rf /var/lib/postgresql/{site.database.version}/rag.before-*")


def receives_and_misses_nothing(run: Run, keeper: str) -> None:
    """The canaries of the history that was left are no loss to the one that goes on."""
    figures = "cat /var/lib/prometheus/node-exporter/rag_backup_wal.prom"
    wanted = ("rag_backup_wal_receiving 1.0", "rag_backup_canaries_lost 0.0", 'rag_backup_last_result{kind="wal"} 1.0')
    until(lambda: {*wanted} <= {*run(keeper, figures).splitlines()}, "a log without a loss", 90)
    assert run(keeper, "systemctl is-active rag-wal") == "active"


def together(said: str) -> str:
    found = re.search(r"^together +([\d.]+) s$", said, re.MULTILINE)
    assert found, said
    return found[1]


def collections(fleet: Fleet) -> set[str]:
    fleet.wait_until_ready()
    with closing(fleet.signed_in()) as client:
        return {each["name"] for each in client.get("/api/v1/collections", params={"limit": 500}).json()["items"]}
