"""A drill passes, changes nothing, finds what is planted, and puts away what a killed one left."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from inventories.settings import Site
from tests.lab.fleet import wait_until
from tests.live.fleet import Fleet
from tests.live.planted import CHANGED, FLIPPED, FOLDER, Keeper, Planted
from tests.live.test_questions import remembered

# What a drill would change if it touched production: rows, roles, schemas, and what was ever told to the indexes.
PRODUCTION = """
select json_build_object(
    'users', (select count(*) from users), 'documents', (select count(*) from documents),
    'questions', (select count(*) from questions), 'audit', (select count(*) from audit),
    'changes', (select max(seq) from changes), 'roles', (select json_agg(rolname order by rolname) from pg_roles),
    'schemas', (select json_agg(nspname order by nspname) from pg_namespace where nspname !~ '^pg_(toast_)?temp')
)
"""
MACHINE_ROOM = b"""The machine room is kept between eighteen and twenty-four degrees by two cooling units in the cellar.
Every visitor signs the book at the entrance before the guard opens the inner door of the machine room.
The diesel generator behind the building is started for ten minutes on the first Monday of each month.
Backup tapes of the old system are stored in the fireproof cabinet next to the emergency exit.
"""
INSIDE = f"find /proc -maxdepth 2 -name cwd -lname '{FOLDER}/scratch/drill*' 2>/dev/null | wc -l"


@pytest.fixture(scope="module")
def keeper(fleet: Fleet, site: Site) -> Keeper:
    machines = site.having("backup")
    if not machines:
        pytest.skip("the site has no backup host")
    return Keeper(fleet, machines[0])


@pytest.fixture(scope="module")
def document(platform: httpx.Client) -> Iterator[None]:
    """Something that a drill can ask for."""
    with remembered(platform, "machine-room.txt", MACHINE_ROOM):
        yield


@pytest.fixture(scope="module")
def backed_up(keeper: Keeper, document: None) -> None:
    """A base, and log of after it."""
    snapshots = "restic -r {} --password-file /etc/credstore/drill-password --no-cache --no-lock snapshots --json"
    name = keeper.machine.name
    if keeper.fleet.ask(name, snapshots.format(f"{FOLDER}/repositories/base")) in {"[]", "null"}:
        keeper.fleet.ask(name, "systemctl start rag-base")
    keeper.fleet.ask(name, "systemctl start rag-backup")


def production(fleet: Fleet, site: Site) -> dict[str, Any]:
    first = site.having("database")[0].name
    found: dict[str, Any] = json.loads(fleet.ask(first, f'runuser -u postgres -- psql -XAt rag -c "{PRODUCTION}"'))
    return found


def verdicts(evidence: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in evidence["checks"]}


def wrong(evidence: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["found"] for check in evidence["checks"] if check["verdict"] != "pass"}


@pytest.fixture(scope="module")
def killed(keeper: Keeper, backed_up: None) -> int:
    """How many processes a drill left that was killed, and nothing with it, while its PostgreSQL ran."""
    name, ask = keeper.machine.name, keeper.fleet.ask
    # As by hand: of a unit, systemd ends everything when its main process is gone.
    options = "-p KillMode=process --unit rag-drill-killed"
    start = keeper.fleet.ssh(
        name,
        command="release=$(readlink -f /opt/rag/current); sudo systemd-run --quiet --collect --uid=rag-backup"
        f" -p PrivateNetwork=yes -p LoadCredential=drill-password -E PYTHONPATH=$release/lib:$release {options}"
        " python3 -m app.backup drill",
    )
    assert start.returncode == 0, start.stderr
    ready = f"grep -q ready {FOLDER}/scratch/drill/base/data/postmaster.pid 2>/dev/null && echo yes || echo no"
    wait_until(lambda: ask(name, ready) == "yes", 120, "the drill's PostgreSQL runs")
    ask(name, "kill -9 $(systemctl show --property=MainPID --value rag-drill-killed)")
    return int(ask(name, INSIDE))


@pytest.mark.lab
def test_a_drill_passes_after_one_that_was_killed_and_changes_nothing_in_production(
    keeper: Keeper, site: Site, killed: int, measured: Callable[[str], None]
) -> None:
    assert killed > 0
    name, ask = keeper.machine.name, keeper.fleet.ask
    before = production(keeper.fleet, site)

    ask(name, "systemctl reset-failed rag-drill 2>/dev/null; systemctl start --no-block rag-drill")
    left = f"test -e {FOLDER}/scratch/drill/base/server/log && echo yes || echo no"
    wait_until(lambda: ask(name, left) == "no", 60, "the drill has begun and put away what the killed one left")
    code, said = keeper.drill()
    assert (code, "another one runs" in said) == (2, True), said
    over = "systemctl show --property=ActiveState --value rag-drill"
    wait_until(
        lambda: ask(name, over) not in {"activating", "active", "deactivating"}, 300, "the drill is over", every=1.0
    )

    evidence = keeper.evidence()
    assert wrong(evidence) == {}
    assert evidence["verdict"] == "pass"
    assert ask(name, "systemctl show --property=Result --value rag-drill") == "success"
    assert evidence["rpo_seconds"] < 120
    assert ask(name, INSIDE) == "0"
    assert ask(name, f"ls {FOLDER}/scratch | grep -vx drill.lock | wc -l") == "0"
    assert production(keeper.fleet, site) == before
    figures = ask(name, "cat /var/lib/prometheus/node-exporter/rag_backup_drill.prom")
    assert 'rag_backup_drill_check{check="restore",kind="drill"} 1.0' in figures
    assert 'rag_backup_last_result{kind="drill"} 1.0' in figures
    measured(
        f"drill: {evidence['seconds']:.0f} s, RTO {evidence['rto_seconds']:.1f} s, first answer after"
        f" {evidence['answer_seconds']:.1f} s, RPO {evidence['rpo_seconds']:.1f} s, cited"
        f" {evidence['answers']['cited']} of {evidence['answers']['asked']}"
    )


@pytest.mark.lab
def test_its_evidence_is_in_a_repository_of_its_own(keeper: Keeper, killed: int) -> None:
    listed = keeper.fleet.ask(
        keeper.machine.name,
        f"restic -r {FOLDER}/repositories/evidence --password-file /etc/credstore/drill-password --no-cache --no-lock"
        " ls latest",
    )

    newest = keeper.evidence()
    began = newest["began"][:19].replace("-", "").replace(":", "")
    assert f"{began}Z-{newest['kind']}.json" in listed


@pytest.mark.lab
def test_a_flipped_bit_in_a_repository_fails_the_restore_and_all_that_follows(keeper: Keeper, backed_up: None) -> None:
    planted = keeper.plant("flipped", FLIPPED, flip=True)
    try:
        code, said = keeper.drill(planted.config)
        evidence = keeper.evidence(planted.folder)
    finally:
        keeper.remove("flipped")

    assert code == 1, said
    assert verdicts(evidence)["restore"] == "fail"
    assert "corrupt" in wrong(evidence)["restore"]
    assert set(verdicts(evidence).values()) - {"pass"} == {"fail", "could not run"}
    assert "since restore did not pass" in wrong(evidence)["documents"]


@pytest.fixture
def changed(keeper: Keeper, backed_up: None) -> Iterator[Planted]:
    """A backup whose database lacks a canary, and one of whose documents is not what was uploaded."""
    statements = [
        "delete from canaries where number = (select max(number) - 2 from canaries)",
        "update documents set source = overlay(source placing '\\x00'::bytea from 1) where id ="
        " (select id from documents order by id limit 1)",
    ]
    yield keeper.plant("changed", CHANGED, statements=statements)
    keeper.remove("changed")


@pytest.mark.lab
@pytest.mark.recovery
def test_a_missing_canary_and_a_changed_document_fail_by_name_and_nothing_else_does(
    keeper: Keeper, changed: Planted
) -> None:
    code, said = keeper.drill(changed.config, "--weekly")

    evidence = keeper.evidence(changed.folder)
    assert code == 1, said
    # A base of a moment ago has no two canaries after it to choose a moment between.
    assert set(wrong(evidence)) == {"canaries", "documents", "moment"}
    assert "canaries = without" in wrong(evidence)["canaries"]
    assert "documents = 1 of" in wrong(evidence)["documents"]


@pytest.mark.lab
@pytest.mark.recovery
def test_the_weekly_drill_goes_to_a_random_moment_and_finds_a_damaged_copy(keeper: Keeper, backed_up: None) -> None:
    ask = partial(keeper.fleet.ask, keeper.machine.name)
    newest = "awk '/^rag_backup_canary_number/ {print int($2)}' /var/lib/prometheus/node-exporter/rag_backup_wal.prom"
    # On a new site the base backup may be of a moment ago, with no two canaries after it to choose a moment between.
    enough = int(ask(newest)) + 4
    wait_until(lambda: int(ask(newest)) >= enough, 90, "a few canaries after the base backup", every=2.0)
    ask("systemctl start rag-backup")

    ask("systemctl start rag-drill-weekly")

    evidence = keeper.evidence()
    assert evidence["kind"] == "drill-weekly"
    assert wrong(evidence) == {}
    assert {"moment", "control"} <= set(verdicts(evidence))


@pytest.mark.lab
@pytest.mark.recovery
def test_a_scratch_that_is_too_small_is_said_before_anything_is_written(keeper: Keeper, backed_up: None) -> None:
    planted = keeper.plant("small", FLIPPED, flip=False)
    scratch = f"{planted.folder}/scratch"
    owner = "mode=700,uid=rag-backup,gid=rag-backup"
    keeper.fleet.ask(keeper.machine.name, f"mount -t tmpfs -o size=16m,{owner} tmpfs {scratch}")
    try:
        code, said = keeper.drill(planted.config)
        evidence = keeper.evidence(planted.folder)
    finally:
        keeper.fleet.ask(keeper.machine.name, f"umount {scratch}")
        keeper.remove("small")

    assert code == 1, said
    assert verdicts(evidence)["space"] == "fail"
    assert f"df -h {scratch}/drill" in wrong(evidence)["space"]
    assert "since space did not pass" in wrong(evidence)["restore"]


@pytest.mark.lab
@pytest.mark.recovery
def test_a_scratch_that_fills_in_the_middle_fails_by_name_and_is_given_back(keeper: Keeper, backed_up: None) -> None:
    planted = keeper.plant("filling", FLIPPED, flip=False)
    name, ask = keeper.machine.name, keeper.fleet.ask
    scratch = f"{planted.folder}/scratch"
    owner = "mode=700,uid=rag-backup,gid=rag-backup"
    # More than any log of the lab is asked for; memory is taken by what is written alone.
    ask(name, f"mount -t tmpfs -o size=64g,{owner} tmpfs {scratch}")
    begun = f"test -e {scratch}/drill/base/data/global && echo yes || echo no"
    full = f"mount -o remount,size=$(( $(df --output=used {scratch} | tail -1) + 512 ))k {scratch}"
    try:
        with ThreadPoolExecutor(1) as pool:
            drill = pool.submit(keeper.drill, planted.config)
            wait_until(lambda: drill.done() or ask(name, begun) == "yes", 60, "the drill writes")
            assert not drill.done(), drill.result()
            # Who writes fast may be beyond what was used a moment ago.
            wait_until(lambda: ask(name, f"{full} 2>/dev/null && echo yes || echo no") == "yes", 30, "the disk is full")
            code, said = drill.result()
        evidence = keeper.evidence(planted.folder)
        left = ask(name, f"ls {scratch} | grep -vx drill.lock | wc -l")
    finally:
        ask(name, f"umount {scratch}")
        keeper.remove("filling")

    assert code == 1, said
    assert verdicts(evidence)["space"] == "pass"
    assert re.search("no space|space left|full", " ".join(wrong(evidence).values()), re.IGNORECASE), wrong(evidence)
    assert left == "0"


@pytest.mark.lab
@pytest.mark.recovery
@pytest.mark.parametrize(
    ("spoil", "check", "says"),
    [
        ("rm {folder}/repositories/wal/config", "snapshots", "absent"),
        ("printf wrong > {folder}/password", "snapshots", "password"),
        ("rm {pack}", "restore", ""),
        (
            "truncate -s 1000 {pack}",
            "restore",
            "",
        ),
    ],
    ids=["no repository", "wrong password", "a pack deleted", "a pack truncated"],
)
def test_a_repository_that_is_not_whole_is_a_failed_drill_that_says_so(
    keeper: Keeper, backed_up: None, spoil: str, check: str, says: str
) -> None:
    planted = keeper.plant("spoilt", FLIPPED, flip=False)
    keeper.fleet.ask(keeper.machine.name, spoil.format(folder=planted.folder, pack=planted.told["pack"]))
    options = f"-p LoadCredential=drill-password:{planted.folder}/password" if "password" in spoil else ""
    try:
        code, said = keeper.run("-m app.backup drill", config=planted.config, options=options)
    finally:
        keeper.remove("spoilt")

    assert code == 1, said
    assert check in said
    assert says in said
