"""Repositories that are hurt: each way has its kind, one line, a figure, and an end; a pusher can add and no more."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from app.backup.repositories import KINDS
from inventories import secrets
from inventories.escrow import offline_password
from inventories.settings import Machine
from tests.lab.fleet import wait_until
from tests.live.fleet import Fleet

pytestmark = pytest.mark.lab

RELEASE = "/opt/rag/current"
SCRATCH = "/var/lib/rag-backup/scratch/repositories-hurt"
PRELUDE = f"""
import json, os, signal, subprocess, time
from datetime import date, timedelta
from pathlib import Path
HERE = Path("{SCRATCH}")
os.environ["CREDENTIALS_DIRECTORY"] = str(HERE / "credentials")
from app.backup import copying, keys, maintain, process, restic, retention, settings as known
from app.backup.restic import Repository, RepositoryError
PASSWORD = HERE / "credentials" / "repository-password"
SOURCE = HERE / "source"
settings = known.load().model_copy(update={{"folder": HERE, "textfiles": HERE / "figures"}})
def at(name, password=PASSWORD):
    return Repository(str(HERE / name), password)
def said(work):
    "Kind and line of what went wrong."
    try:
        return ["", repr(work())]
    except RepositoryError as error:
        return [error.kind, str(error)]
def pack_of(repository):
    packs = [path for path in (repository.local / "data").rglob("*") if path.is_file()]
    return max(packs, key=lambda one: one.stat().st_size)
def copy_of(name):
    subprocess.run(["rm", "-rf", HERE / name], check=True)
    subprocess.run(["cp", "-a", HERE / "whole", HERE / name], check=True)
    return at(name)
def figures(kind):
    lines = (HERE / "figures" / f"rag_backup_{{kind}}.prom").read_text().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
def served(*arguments):
    server = subprocess.Popen(
        ["restic-rest-server", "--listen", "127.0.0.1:8451", "--path", HERE / "served",
         "--append-only", "--no-auth", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    for _ in range(100):
        if subprocess.run(["bash", "-c", "</dev/tcp/127.0.0.1/8451"], stderr=subprocess.DEVNULL).returncode == 0:
            return server
        time.sleep(0.05)
    raise SystemExit("the server does not answer")
PUSHED = Repository("rest:http://127.0.0.1:8451/db1/etcd", PASSWORD)
"""
MADE = """
import secrets
for name in ("credentials", "figures", "source"):
    (HERE / name).mkdir(parents=True)
for name in ("repository-password", "drill-password", "wrong"):
    (HERE / "credentials" / name).write_text(secrets.token_urlsafe(32))
(SOURCE / "large").write_bytes(os.urandom(3_000_000))
(SOURCE / "small").write_text("small")
restic.init(at("whole"))
restic.backup(at("whole"), SOURCE, tags=["wal"])
print("null")
"""


class Place:
    """The scratch place on the backup host, and programs that run there as the backups do."""

    def __init__(self, fleet: Fleet, machine: str) -> None:
        self._words = ["ssh", "-F", str(fleet.ssh_config), machine]

    def run(self, program: str) -> Any:
        """What the program prints as JSON; its standard output before the last line is the journal's."""
        command = (
            f"cd {RELEASE} && sudo -u rag-backup env HOME=/var/lib/rag-backup PYTHONDONTWRITEBYTECODE=1 "
            f"PYTHONPATH={RELEASE}/lib:{RELEASE} python3 -"
        )
        done = subprocess.run(
            [*self._words, command],
            input=f"{PRELUDE}\n{program}",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1500:]
        return json.loads(done.stdout.splitlines()[-1])

    def clear(self) -> None:
        """Nothing is left of it."""
        subprocess.run([*self._words, f"sudo rm -rf {SCRATCH}"], check=True, timeout=60)


@pytest.fixture(scope="module")
def place(fleet: Fleet) -> Iterator[Place]:
    made = Place(fleet, fleet.site.having("backup")[0].name)
    made.clear()
    made.run(MADE)
    yield made
    made.clear()


@pytest.mark.role("backup")
def test_what_restic_passes_over_in_silence_is_a_failure(machine: Machine, place: Place) -> None:
    found = place.run(
        """
raw = subprocess.run(
    ["restic", "-r", HERE / "whole", "-p", PASSWORD, "--no-cache", "backup", "--dry-run", SOURCE, HERE / "gone"],
    capture_output=True,
)
(HERE / "empty").mkdir()
print(json.dumps({
    "raw": raw.returncode,
    "gone": said(lambda: restic.backup(at("whole"), HERE / "gone", tags=["wal"])),
    "empty": said(lambda: restic.backup(at("whole"), HERE / "empty", tags=["wal"])),
    "few": said(lambda: restic.backup(at("whole"), SOURCE, tags=["wal"], least_files=3)),
    "nothing": said(lambda: restic.restore(at("whole"), "latest", HERE / "out", include=["/gone"])),
    "producer": said(lambda: restic.backup_output(at("whole"), "x", ["sh", "-c", "echo half; exit 7"], tags=["dump"])),
    "snapshots": len(restic.snapshots(at("whole"))),
}))
"""
    )

    assert found["raw"] == 0, "restic has learnt to say it: the guard may go"
    assert [found[name][0] for name in ("gone", "empty", "few", "nothing", "producer")] == ["failed"] * 5
    assert found["snapshots"] == 1


@pytest.mark.role("backup")
def test_absent_wrong_revoked_and_locked_are_told_apart(machine: Machine, place: Place) -> None:
    found = place.run(
        """
repository = copy_of("keyed")
keys.add_key(repository, "drill", file=HERE / "credentials" / "drill-password")
drill = at("keyed", HERE / "credentials" / "drill-password")
opened = said(lambda: restic.snapshots(drill))
keys.remove_key(repository, next(key for key in keys.keys(repository) if key.user == "drill"))
holder = subprocess.Popen(
    ["restic", "-r", repository.location, "-p", PASSWORD, "--no-cache",
     "backup", "--stdin-from-command", "sleep", "60"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
while not any((repository.local / "locks").iterdir()):
    time.sleep(0.05)
locked = said(lambda: process.run(repository, ["prune"], lock_minutes=0))
lives = restic.unlock(repository)
beside = said(lambda: restic.backup(repository, SOURCE, tags=["wal"]))
holder.send_signal(signal.SIGKILL)
holder.wait()
left = len(list((repository.local / "locks").iterdir()))
after = restic.unlock(repository)
print(json.dumps({
    "absent": said(lambda: restic.snapshots(at("nowhere"))),
    "wrong": said(lambda: restic.snapshots(at("whole", HERE / "credentials" / "wrong"))),
    "opened": opened, "revoked": said(lambda: restic.snapshots(drill)),
    "locked": locked, "lives": lives, "beside": beside, "left": left, "after": after,
    "pruned": said(lambda: process.run(repository, ["prune"], lock_minutes=0)),
}))
"""
    )

    assert found["absent"][0] == "absent"
    assert found["wrong"][0] == found["revoked"][0] == "password"
    assert found["opened"][0] == ""
    assert found["locked"][0] == "locked"
    # The lock of the living stays, and keeps no backup out; that of the killed goes.
    assert (found["lives"], found["beside"][0]) == (1, "")
    assert (found["left"] >= 1, found["after"], found["pruned"][0]) == (True, 0, "")
    for name in ("absent", "wrong", "locked"):
        assert len(found[name][1].split("; ")) >= 3


HURT = {
    "flipped": "bytes_ = bytearray(pack.read_bytes()); bytes_[1000] ^= 1; pack.write_bytes(bytes_)",
    "truncated": "os.truncate(pack, 1000)",
    "deleted": "pack.unlink()",
}


@pytest.mark.role("backup")
@pytest.mark.parametrize("how", HURT)
def test_a_hurt_pack_is_found_by_the_next_maintenance(machine: Machine, place: Place, how: str) -> None:
    found = place.run(
        f"""
repository = copy_of("hurt")
pack = pack_of(repository)
pack.chmod(0o600)
{HURT[how]}
one = maintain._kept(repository, "base", 32, None)
outcome = maintain._figures({{"base": one}})
maintain._work = lambda settings: maintain.Outcome(not one.problem, one.problem, outcome)
print(json.dumps([maintain.run(settings), one.problem, figures("maintain")]))
"""
    )

    code, problem, figures = found
    assert code == 1
    assert "= corrupt," in problem
    assert figures['rag_backup_repository_good{repository="base"}'] == "0.0"
    assert figures['rag_backup_last_result{kind="maintain"}'] == "0.0"


@pytest.mark.role("backup")
def test_whoever_pushes_can_add_and_neither_delete_nor_change_nor_outlive_the_good_ones(
    machine: Machine, place: Place
) -> None:
    found = place.run(
        """
(HERE / "served/db1").mkdir(parents=True)
subprocess.run(["cp", "-a", HERE / "whole", HERE / "served/db1/etcd"], check=True)
ours = at("served/db1/etcd")
good = restic.snapshots(ours)[0].id
pack = pack_of(ours)
server = served()
try:
    def http(method, path, body=b""):
        import http.client
        line = http.client.HTTPConnection("127.0.0.1", 8451)
        line.request(method, path, body)
        return line.getresponse().status
    raw = ["restic", "-r", PUSHED.location, "-p", PASSWORD, "--no-cache"]
    silent = subprocess.run([*raw, "forget", good], capture_output=True).returncode
    for lie in ("2099-01-01 00:00:00", "2020-01-01 00:00:00"):
        subprocess.run([*raw, "backup", "--quiet", "--time", lie, SOURCE], check=True)
    key = keys.keys(PUSHED)[0]
    keys.add_key(PUSHED, "intruder", file=HERE / "credentials/drill-password")
    theirs = next(one for one in keys.keys(PUSHED) if one.user == "intruder")
    named = (f"data/{pack.name}", f"snapshots/{good}", "config")
    before = pack.read_bytes()
    found = {
        "added": said(lambda: restic.backup(PUSHED, SOURCE, tags=["etcd"])),
        "silent": silent,
        "forget": said(lambda: restic.forget(PUSHED, [good])),
        "key": said(lambda: keys.remove_key(PUSHED, theirs)),
        "delete": [http("DELETE", f"/db1/etcd/{what}") for what in (*named, f"keys/{key.id}", "")],
        "overwrite": [http("POST", f"/db1/etcd/{what}", b"garbage") for what in named],
        "garbage": http("POST", "/db1/etcd/data/" + "0" * 64, b"garbage"),
        "outside": http("GET", "/../whole/config"),
    }
finally:
    server.terminate()
    server.wait()
days = frozenset(date.today() - timedelta(days=number) for number in range(40))
one = maintain._kept(ours, "pushed", 32, retention.Past(days))
found |= {"same": pack.read_bytes() == before, "kept": good in [one.id for one in restic.snapshots(ours)],
          "future": one.future, "forgotten": one.forgotten, "problem": one.problem, "keys": one.keys}
print(json.dumps(found))
"""
    )

    assert found["added"][0] == ""
    assert found["silent"] == 0, "restic has learnt to say it: the guard may go"
    assert found["forget"][0] == found["key"][0] == "refused"
    assert "1 of 1 snapshots were to be forgotten and are still there" in found["forget"][1]
    assert all(status in {403, 404, 405, 400} for status in found["delete"]), found["delete"]
    assert all(status >= 400 for status in (*found["overwrite"], found["garbage"]))
    assert found["outside"] != 200
    # Maintenance, past the server: what is too old goes, a lie about the future pushes nothing out and shows.
    assert (found["same"], found["kept"], found["problem"]) == (True, True, "")
    assert (found["future"], found["forgotten"], found["keys"]) == (1, 1, 2)


@pytest.mark.role("backup")
def test_a_server_that_is_down_or_full_is_said_in_bounded_time(machine: Machine, place: Place) -> None:
    found = place.run(
        """
down = said(lambda: process.run(PUSHED, ["snapshots"], seconds=3))
server = served("--max-size", str(8_000_000))
try:
    (HERE / "flood").mkdir()
    (HERE / "flood/large").write_bytes(os.urandom(9_000_000))
    full = said(lambda: restic.backup(PUSHED, HERE / "flood", tags=["etcd"], seconds=6))
    locks = len(list((HERE / "served/db1/etcd/locks").iterdir()))
    still = said(lambda: restic.snapshots(PUSHED))
finally:
    server.terminate()
    server.wait()
print(json.dumps({"down": down, "full": full, "locks": locks, "still": still}))
"""
    )

    assert found["down"][0] == "failed"
    assert "connection refused" in found["down"][1]
    assert found["full"][0] == "full"
    assert "507" in found["full"][1]
    assert (found["locks"], found["still"][0]) == (0, "")


@pytest.mark.role("backup")
def test_room_that_was_given_back_counts_when_the_server_starts_again(machine: Machine, place: Place) -> None:
    found = place.run(
        """
import hashlib, http.client, select
(HERE / "counted").mkdir()
most = "--max-size", str(8_000_000)
server = served(*most, "--path", HERE / "counted")
def put():
    body = os.urandom(5_000_000)
    name = hashlib.sha256(body).hexdigest()
    line = http.client.HTTPConnection("127.0.0.1", 8451)
    line.putrequest("POST", f"/db1/etcd/data/{name}")
    line.putheader("Content-Length", str(len(body)))
    line.endheaders()
    # A full server answers at once and closes; what was sent to it then might cost the answer.
    if not select.select([line.sock], [], [], 1)[0]:
        line.send(body)
    return line.getresponse().status, HERE / "counted/db1/etcd/data" / name[:2] / name
try:
    line = http.client.HTTPConnection("127.0.0.1", 8451)
    line.request("POST", "/db1/etcd/?create=true", b"")
    made = line.getresponse().status
    first, path = put()
    full = put()[0]
    path.unlink()
    still = put()[0]
finally:
    server.terminate()
    server.wait()
server = served(*most, "--path", HERE / "counted")
try:
    again = put()[0]
finally:
    server.terminate()
    server.wait()
print(json.dumps([made, first, full, still, again]))
"""
    )

    assert found == [200, 200, 507, 507, 200], "the server counts anew by itself: the restart after maintenance may go"


@pytest.mark.role("backup")
@pytest.mark.recovery
def test_maintenance_makes_the_server_count_anew(machine: Machine, fleet: Fleet) -> None:
    process = "systemctl show --property=MainPID --value rag-rest"
    before = fleet.ask(machine.name, process)

    fleet.ask(machine.name, "systemctl start rag-maintain")

    wait_until(lambda: fleet.ask(machine.name, process) not in {"0", before}, 30, "rag-rest has begun anew")


@pytest.mark.role("backup")
def test_the_second_repository_gets_what_it_lacks_and_only_that(machine: Machine, place: Place) -> None:
    found = place.run(
        """
elsewhere = settings.second.model_copy(update={"repository": str(HERE / "elsewhere")})
settings = settings.model_copy(update={"second": elsewhere})
copying.KINDS = ("base",)
subprocess.run(["mkdir", "-p", HERE / "repositories"], check=True)
subprocess.run(["cp", "-a", HERE / "whole", HERE / "repositories/base"], check=True)
first = copying.run(settings)
target = copying.second(settings, "base")
second = copying._copied(settings, "base", target, None)
there = restic.snapshots(target)
pack = pack_of(at("repositories/base"))
pack.chmod(0o600)
restic.backup(at("repositories/base"), HERE / "figures", tags=["base"])
pack.unlink()
lost = copying._copied(settings, "base", target, None)
print(json.dumps([first, second.new, second.lag, [one.original for one in there],
                  [one.id for one in restic.snapshots(at("whole"))], lost.problem, figures("copy")]))
"""
    )

    first, again, lag, there, whole, lost, figures = found
    assert (first, again, lag) == (0, 0, 0.0)
    assert there == whole
    # What the first one lost since is in the second one, and a new snapshot that needs none of it comes along.
    assert lost == ""
    assert figures['rag_backup_last_result{kind="copy"}'] == "1.0"


@pytest.mark.role("backup")
def test_the_line_that_was_written_down_opens_every_repository_and_brings_a_base_back(
    machine: Machine, fleet: Fleet
) -> None:
    found = fleet.python(
        machine.name,
        """
import os, subprocess, tempfile
from pathlib import Path
def restic(kind, *words):
    command = ["restic", "-r", f"/var/lib/rag-backup/repositories/{kind}", "--no-cache", "--no-lock", "--json", *words]
    known = {"PATH": os.environ["PATH"], "RESTIC_PASSWORD": values["password"]}
    return subprocess.run(command, env=known, capture_output=True).returncode
opened = {kind: restic(kind, "snapshots") for kind in values["kinds"]}
with tempfile.TemporaryDirectory() as folder:
    part = ("--include", "/data/global", "--include", "/data/PG_VERSION")
    code = restic("base", "restore", "latest", "--target", folder, "--verify", *part)
    files = [name for name in ("global/pg_control", "PG_VERSION") if (Path(folder) / "data" / name).stat().st_size]
print(json.dumps([opened, code, files]))
""",
        password=offline_password(secrets.age_key_of(fleet.site.name)),
        kinds=list(KINDS),
    )

    assert found == [dict.fromkeys(KINDS, 0), 0, ["global/pg_control", "PG_VERSION"]]


@pytest.mark.role("etcd")
def test_etcds_snapshot_is_pushed_through_a_door_that_shows_each_host_its_own_folder_alone(
    machine: Machine, fleet: Fleet
) -> None:
    target = fleet.site.having("backup")[0].name
    others = [peer.name for peer in fleet.site.having("etcd") if peer != machine]
    shown = "--cacert /etc/rag/pki/ca.crt --cert /etc/rag/pki/push.crt --key /etc/rag/pki/push.key --path-as-is"

    def status(path: str, method: str = "GET", options: str = shown) -> str:
        ask = f"curl --silent --output /dev/null --write-out '%{{http_code}}' --request {method} {options}"
        return str(fleet.host(machine.name).run(f"{ask} https://{target}:8448/{path}").stdout)

    said = fleet.ask(machine.name, "systemctl start rag-etcd-snapshot && journalctl -u rag-etcd-snapshot -n 5 -o cat")

    assert re.search(r"etcd: done in [\d.]+ s; [1-9]\d* keys, \d+ bytes at revision \d+, snapshot \w{8}", said)
    own = f"{machine.name}/etcd/config"
    assert (status(own), status(own, "DELETE")) == ("200", "403")
    assert status(own, "PUT") == "403"
    for other in others:
        for path in (f"{other}/etcd/config", f"{machine.name}/../{other}/etcd/config", f"{machine.name}//{other}"):
            assert status(path) == "403", path
    assert status(own, options="--cacert /etc/rag/pki/ca.crt") == "000"
