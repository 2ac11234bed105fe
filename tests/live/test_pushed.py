"""What other hosts push: who pushes can add and no more, and a server that is full or gone is said so."""

import re
from collections.abc import Iterator

import pytest

from inventories.settings import Machine
from tests.lab.fleet import wait_until
from tests.live.fleet import Fleet
from tests.live.hurt import Place, placed

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def place(fleet: Fleet) -> Iterator[Place]:
    yield from placed(fleet)


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
