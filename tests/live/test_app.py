"""The program: its units run behind sandboxes, come back after a kill, and nobody else reads a secret."""

from collections.abc import Callable

import pytest

from inventories.settings import Machine, Site
from tests.live.fleet import Fleet
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]
OURS = {"app": ("rag-api", "rag-worker", "rag-index", "rag-migrate", "rag-chroma"), "inference": ("ollama",)}


def test_our_units_are_sandboxed(site: Site, run: Run) -> None:
    for role, units in OURS.items():
        for machine in site.having(role):
            for unit in units:
                said = run(machine, f"systemd-analyze security --no-pager {unit}.service | tail -1")
                assert float(said.split(":")[1].split()[0]) <= 2.5, f"{unit} on {machine.name}: {said}"


@pytest.mark.lab
def test_a_killed_process_comes_back(site: Site, run: Run) -> None:
    machine = site.having("app")[0]
    for unit in ("rag-api", "rag-worker", "rag-index", "rag-chroma"):
        before = run(machine, f"systemctl show -P MainPID {unit}")
        run(machine, f"systemctl kill -s KILL {unit}")
        look = f"systemctl is-active {unit}; systemctl show -P MainPID {unit}"

        def back(look: str = look, before: str = before) -> bool:
            return run(machine, look).split()[1] not in {before, "0"}

        until(back, f"{unit}'s return")
    ready = "curl -fsS http://127.0.0.1:8080/health/ready"
    until(lambda: run(machine, ready), "readiness")


SEARCH = """
import glob, os, stat, subprocess
needles = [word.encode() for word in values["needles"]]
texts = {}
for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
    try:
        texts[path] = open(path, "rb").read()
    except OSError:
        pass
texts["(journal)"] = subprocess.run(["journalctl", "--no-pager", "--since", "-1d"], capture_output=True).stdout
closed = set()
for top in ("/etc", "/opt", "/var/log", "/var/lib", "/var/tmp", "/tmp", "/run", "/home"):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                state = os.lstat(path)
                if stat.S_ISREG(state.st_mode) and state.st_size < 1 << 20 and (top == "/etc" or state.st_mode & 0o004):
                    texts[path] = open(path, "rb").read()
                    if (state.st_mode & 0o777, state.st_uid) == (0o600, 0):
                        closed.add(path)
            except OSError:
                pass
found = {path for path, text in texts.items() if any(needle in text for needle in needles)}
print(json.dumps({"kept": sorted(found & closed), "shown": sorted(found - closed)}))
"""


def test_no_secret_shows_in_processes_logs_or_files_that_others_read(site: Site, fleet: Fleet) -> None:
    words = {name: value.get_secret_value() for name, value in site.secrets.items() if "certificate" not in name}
    needles = [word.splitlines()[1] if word.startswith("-----BEGIN") else word for word in words.values()]

    found = fleet.each(site.machines, lambda name: fleet.python(name, SEARCH, needles=needles))

    assert {name: one["shown"] for name, one in found.items()} == {machine.name: [] for machine in site.machines}
    # The search sees: where a machine needs secrets it finds them, in the credential store and nowhere else.
    for machine in site.machines:
        kept = found[machine.name]["kept"]
        assert bool(kept) == bool(machine.roles & {"app", "database", "backup"}), machine.name
        assert all(path.startswith("/etc/credstore/") for path in kept), kept


def test_credentials_are_root_s_alone(site: Site, run: Run) -> None:
    for role in ("app", "database", "backup"):
        for machine in site.having(role):
            said = run(machine, "stat -c '%a %U' /etc/credstore /etc/credstore/*").splitlines()
            assert said[0] == "700 root"
            assert set(said[1:]) == {"600 root"}
