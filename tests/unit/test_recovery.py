"""What a recovery is told, what it refuses, and what it tells Patroni; no machine is there."""

import json
import os
import shlex
import subprocess
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from inventories.settings import Site
from tasks import documents, losses, recovery, restored, swap
from tasks.in_place import Phases
from tasks.members import RefusedError
from tasks.moments import moment_of, shown, stamp
from tasks.ssh import SilentError
from tests.unit.recovering import COPY
from tests.unit.sites import ROOT

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WINDOW = {"first": "2026-11-20T01:00:00+00:00", "last": "2026-11-22T11:59:40+00:00"}


@pytest.mark.parametrize(
    ("typed", "moment"),
    [
        ("latest", None),
        ("2026-11-22 08:00+00:00", datetime(2026, 11, 22, 8, tzinfo=UTC)),
        ("2026-11-22T08:00:30Z", datetime(2026, 11, 22, 8, 0, 30, tzinfo=UTC)),
        ("2026-11-22 08:00:00+01:00", datetime(2026, 11, 22, 7, tzinfo=UTC)),
        # Without a zone it is the time of the computer at which it was typed.
        ("2026-11-22 08:00", datetime(2026, 11, 22, 8).astimezone()),
    ],
)
def test_a_moment_is_read_as_typed(typed: str, moment: datetime | None) -> None:
    assert moment_of(typed, NOW) == moment


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "TO = (nothing); a moment or latest is needed"),
        ("yesterday", "TO = yesterday; a moment or latest is needed"),
        ("2026-13-22 08:00", "a moment or latest is needed"),
        ("2026-11-22 12:00:01+00:00", "a moment that is over is needed, it is 2026-11-22 12:00:00"),
    ],
)
def test_what_is_no_moment_of_the_past_is_refused_in_one_line(typed: str, why: str) -> None:
    with pytest.raises(RefusedError, match="TO = ") as refused:
        moment_of(typed, NOW)

    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_moment_is_shown_so_that_nobody_mistakes_its_zone() -> None:
    assert shown(NOW).endswith("UTC)") or shown(NOW) == "2026-11-22 12:00:00 UTC"
    assert shown(None) == "the newest moment"
    assert stamp(NOW) == "20261122T120000Z"


def test_a_moment_that_no_backup_bears_is_refused_with_the_window() -> None:
    restored.refuse_outside(WINDOW, None)
    restored.refuse_outside(WINDOW, NOW - timedelta(hours=1))
    for moment in (NOW, NOW - timedelta(days=30)):
        with pytest.raises(RefusedError) as refused:
            restored.refuse_outside(WINDOW, moment)
        assert "from 2026-11-20 01:00:00+0000 to 2026-11-22 11:59:40+0000 is needed" in str(refused.value)


def test_the_first_member_copies_the_recovered_server_by_its_certificate_alone(prod: Site) -> None:
    shared = {"ttl": 20, "primary_stop_timeout": 17}

    made = swap.bootstrap_of(prod, prod.machine("db1"), swap.Source("ops1", 5433), shared)

    # What a person had set for the cluster is set for the new one.
    assert made["bootstrap"]["dcs"] == shared
    assert made["bootstrap"]["method"] == "restored"
    words = shlex.split(made["bootstrap"]["restored"]["command"])
    assert words[0] == "/usr/lib/postgresql/17/bin/pg_basebackup"
    assert "--pgdata=/var/lib/postgresql/17/rag" in words
    link = next(word for word in words if word.startswith("--dbname="))
    assert "host=ops1 port=5433 user=replicator sslmode=verify-full" in link
    assert "sslcert=/etc/rag/pki/postgresql.crt" in link
    assert "password" not in json.dumps(made)


def test_settings_that_nobody_could_ask_for_are_left_to_the_deploy_s(prod: Site) -> None:
    made = swap.bootstrap_of(prod, prod.machine("db1"), swap.Source("ops1", 5433), {})

    assert "dcs" not in made["bootstrap"]


def test_what_will_be_lost_is_named() -> None:
    told = {"actions": {"document.upload": 3, "user.create": 1}, "documents": ["manuals/crane.pdf"]}

    said = losses.said_of(told, NOW)

    assert "lost: 3 × document.upload, 1 × user.create" in said[0]
    assert "manuals/crane.pdf" in said[1]
    assert "nothing was written down after" in losses.said_of({"actions": {}, "documents": []}, NOW)[0]
    assert "nothing that reached the backup host is lost" in losses.said_of(told, None)[0]


@pytest.mark.parametrize("given", ["", "prod2", "PROD", "yes"])
def test_without_the_site_s_name_nothing_is_done(
    prod: Site, given: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115 - what a timer has for a terminal

    with pytest.raises(RefusedError, match="prod is needed, nothing was changed; CONFIRM=prod"):
        recovery.guard(prod, given)(["3 documents are lost"])

    assert "3 documents are lost" in capsys.readouterr().out


def test_with_the_site_s_name_it_is_done(prod: Site) -> None:
    recovery.guard(prod, "prod")([])


def test_a_site_without_a_backup_host_is_told_so(prod: Site) -> None:
    machines = tuple(machine for machine in prod.machines if "backup" not in machine.roles)

    with pytest.raises(RefusedError, match="machines with role backup = 0"):
        restored.keeper_of(prod.model_copy(update={"machines": machines}))


def test_what_is_asked_of_the_backup_host_is_written_by_the_user_of_the_backups(
    prod: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(_: object, __: object, script: str, *___: object, **____: object) -> str:
        asked.append(script)
        if "ActiveState" in script and "journalctl" in script:
            return "active"
        return json.dumps(asdict(COPY)) if "restored.json" in script else ""

    monkeypatch.setattr(restored, "ask", ask)

    assert restored.make(prod, prod.machine("ops1"), {"to": None}, lambda _: None) == COPY

    written = next(script for script in asked if "restore.json" in script)
    assert written == restored.as_keeper("cat > /var/lib/rag-backup/run/restore.json")
    assert written.startswith("cd /; runuser -u rag-backup -- sh -c ")


def test_a_copy_that_does_not_get_whole_is_ended_and_one_of_somebody_else_is_not(
    prod: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    silent = iter([True, False])

    def ask(_: object, __: object, script: str, *___: object, **____: object) -> str:
        asked.append(script)
        if "ActiveState" in script and "journalctl" in script:
            # A way that breaks for a moment ends nothing.
            if next(silent):
                raise SilentError("ops1: silent")
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(restored, "ask", ask)
    monkeypatch.setattr("time.sleep", lambda _: None)
    stop = "systemctl stop rag-restored.service"

    with pytest.raises(KeyboardInterrupt):
        restored.make(prod, prod.machine("ops1"), {"to": None}, lambda _: None)
    # An interrupted one would stand there as failed.
    assert asked[-1].startswith(f"{stop} && {{ systemctl reset-failed rag-restored.service")

    asked.clear()
    monkeypatch.setattr(restored, "busy", lambda *_: "yesterday")
    with pytest.raises(RefusedError, match="has a restored copy since yesterday"):
        restored.make(prod, prod.machine("ops1"), {"to": None}, lambda _: None)
    assert asked == []


def test_the_times_of_a_recovery_are_a_table() -> None:
    ticks = iter([0.0, 2.0, 5.0, 6.0])
    phases = Phases(print, lambda: next(ticks))
    for name in ("restore", "replicas", "restore"):
        phases.over(name)

    assert phases.seconds == {"restore": 3.0, "replicas": 3.0}
    assert phases.table().splitlines()[-1].split() == ["together", "6.0", "s"]


def document(identity: str, collection: str = "manuals") -> documents.Document:
    return documents.Document(identity, collection, "Crane", "crane.pdf", "application/pdf", "0" * 64, 9)


def test_one_document_is_meant_or_it_is_refused_with_the_ids_of_all() -> None:
    one, other = document("7d0c"), document("9e1f", "drafts")

    assert documents.chosen([one], "crane.pdf", "") == [one]
    assert documents.chosen([one, other], "", "manuals") == [one, other]
    with pytest.raises(RefusedError, match=r"these are 2: manuals/crane.pdf \(7d0c\), drafts/crane.pdf \(9e1f\)"):
        documents.chosen([one, other], "crane.pdf", "")
    with pytest.raises(RefusedError, match=r"DOCUMENT = crane\.pdf; one that was there at that moment is needed"):
        documents.chosen([], "crane.pdf", "")


def test_a_document_goes_to_its_own_collection_and_a_collection_beside_it() -> None:
    found = [document("7d0c")]

    assert documents.place(found, "crane.pdf", "", "20261122T080000Z") == "manuals"
    assert documents.place(found, "", "", "20261122T080000Z") == "manuals-20261122t0800"
    assert documents.place(found, "", "again", "20261122T080000Z") == "again"


@pytest.mark.parametrize(("typed", "meant"), [("", False), ("0", False), ("no", False), ("1", True), ("yes", True)])
def test_in_place_is_what_says_so(typed: str, meant: bool) -> None:
    assert recovery.wants_in_place(typed) is meant


def test_in_place_that_says_neither_is_refused() -> None:
    with pytest.raises(RefusedError, match="IN_PLACE = 2; 1 or nothing is needed"):
        recovery.wants_in_place("2")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["restore"], ["restore", "--to=", "--in-place=", "--confirm="]),
        (["restore", "TO=latest", "IN_PLACE=0"], ["restore", "--to=latest", "--in-place=0", "--confirm="]),
        (["rebuild", "FROM=/mnt/r"], ["rebuild", "--from=/mnt/r", "--to=", "--confirm="]),
        (
            ["restore-document", "DOCUMENT=O'Neil $5.pdf"],
            ["document", "--to=", "--document=O'Neil $5.pdf", "--collection=", "--into="],
        ),
        (["switchover"], ["switchover"]),
        (["reinit", "MEMBER=db2"], ["reinit", "db2"]),
    ],
)
def test_a_verb_takes_what_was_typed_with_it_and_nothing_from_the_environment(
    typed: list[str], words: list[str]
) -> None:
    around = dict.fromkeys(("TO", "IN_PLACE", "CONFIRM", "FROM", "INTO", "MEMBER"), "from-the-environment")
    made = ["-o", "setup", "-o", ".venv/ready", "-o", "build/venv/dev/ready", "-o", "/usr/bin/restic"]
    shown = subprocess.run(
        ["make", "-n", *made, "SITE=prod", *typed],
        cwd=ROOT,
        env=os.environ | around,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert shlex.split(shown.replace("\\\n", " "))[4:] == words


def test_a_document_that_is_there_already_is_not_fetched_again(prod: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        if request.method == "POST" and request.url.path.endswith("/collections"):
            return httpx.Response(409)
        if request.method == "GET" and request.url.path.endswith("/documents"):
            held = {"id": "9", "sha256": "0" * 64, "state": "indexed"}
            failed = {"id": "8", "sha256": "1" * 64, "state": "failed"}
            page = [[held], [failed]][bool(request.url.params.get("after"))]
            return httpx.Response(200, json={"items": page, "next": None if page == [failed] else "more"})
        if request.method == "GET":
            return httpx.Response(200, json={"state": "indexed"})
        return httpx.Response(202, json={"id": "7", "sha256": "1" * 64})

    transport = httpx.MockTransport(answers)
    monkeypatch.setattr(documents, "signed_in", lambda _: httpx.Client(transport=transport, base_url="https://rag"))
    monkeypatch.setattr(restored, "query", lambda *words: asked.append("the copy's bytes") or "")
    lacking = replace(document("7d0c"), sha256="1" * 64)

    ids = documents.bring_back(prod, prod.machine("ops1"), [document("9e1f"), lacking], "manuals", lambda _: None)

    # What failed there is sent again; what is there costs no fetching.
    assert ids == {"9": "crane.pdf", "7": "crane.pdf"}
    assert asked.count("the copy's bytes") == 1
    assert asked.count("POST /api/v1/collections/manuals/documents") == 1
