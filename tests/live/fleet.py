"""The site under test: its machines over OpenSSH, its entry over HTTPS, and the deploy that made it so."""

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import testinfra
from testinfra.host import Host

from inventories.settings import Machine, Site
from tests.lab.demo import entry_is_ready
from tests.lab.fleet import wait_until

ROOT = Path(__file__).parent.parent.parent
PYINFRA = Path(sys.executable).with_name("pyinfra")
T = TypeVar("T")


@dataclass(frozen=True)
class Fleet:
    """A site's machines; commands run as root, through sudo of the deploy user."""

    site: Site
    ssh_config: Path

    def host(self, name: str) -> Host:
        """The machine for testinfra."""
        return testinfra.get_host(f"ssh://{name}", ssh_config=str(self.ssh_config), sudo=True)

    def ask(self, name: str, script: str) -> str:
        """What a shell script prints on a machine; it must succeed."""
        done = self.host(name).run(script)
        assert done.rc == 0, f"{name}: {script.strip()[:200]}\n{done.stdout[-1000:]}{done.stderr[-1000:]}"
        return str(done.stdout).strip()

    def python(self, name: str, source: str, *, seconds: float = 120, **values: object) -> Any:
        """
        Run Python on a machine as root and return the JSON that it prints.

        Program and values travel on standard input: a search for secrets must not put them into an argument list.
        """
        program = f"import json\nvalues = json.loads({json.dumps(values)!r})\n{source}"
        done = subprocess.run(
            ["ssh", "-F", str(self.ssh_config), name, "sudo python3 -"],
            input=program,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stderr[-1500:]}"
        return json.loads(done.stdout)

    def each(self, machines: Iterable[Machine], work: Callable[[str], T]) -> dict[str, T]:
        """The same on many machines at once, by machine name."""
        names = [machine.name for machine in machines]
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(work, names), strict=True))

    def ssh(self, name: str, *options: str, command: str = "true") -> subprocess.CompletedProcess[str]:
        """A login of its own, beside the connections that the other tests share."""
        words = ["ssh", "-F", str(self.ssh_config), "-o", "ControlPath=none", *options, name, command]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)

    def client(self, entry: str = "", seconds: float = 90) -> httpx.Client:
        """A browser that trusts the site's CA and nobody else, at the entry or at one machine's address."""
        trust = ssl.create_default_context(cadata=self.site.secret("authority-certificate"))
        base = f"https://{entry or self.site.entry}"
        return httpx.Client(base_url=base, verify=trust, timeout=seconds, trust_env=False)

    def signed_in(self, seconds: float = 90, *, ready: bool = True) -> httpx.Client:
        """The first administrator's session; ``ready``: once an app host can answer questions."""
        client = self.client(seconds=seconds)
        if ready:
            wait_until(lambda: entry_is_ready(client), 60, "the entry has an app host that is ready")
        answer = client.post(
            "/api/v1/token",
            json={"username": self.site.application.admin_user, "password": self.site.secret("admin-password")},
        )
        assert answer.status_code == 200, answer.text
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def wait_until_ready(self, seconds: float = 120) -> float:
        """Wait until every app host says that it can serve."""
        script = "curl --fail --silent --max-time 5 http://127.0.0.1:8080/health/ready"

        def ready() -> bool:
            return all(self.each(self.site.having("app"), lambda name: self.host(name).run(script).rc == 0).values())

        return wait_until(ready, seconds, "every app host is ready", every=0.5)


def ssh_config_of(site: Site, folder: Path) -> Path:
    """OpenSSH's view of a site: one shared connection per machine, and no host key but the known ones."""
    lines = [f"Host {machine.name}\n  HostName {machine.address}\n" for machine in site.machines]
    key = f"  IdentityFile {site.ssh.key}\n  IdentitiesOnly yes\n" if site.ssh.key else ""
    lines.append(
        f"Host *\n  User {site.ssh.user}\n  Port {site.ssh.port}\n{key}"
        f"  UserKnownHostsFile {site.ssh.known_hosts.absolute()}\n  StrictHostKeyChecking yes\n"
        f"  PasswordAuthentication no\n  ConnectTimeout 10\n  ServerAliveInterval 5\n"
        f"  ControlMaster auto\n  ControlPersist 60\n  ControlPath {folder}/%C\n"
    )
    path = folder / "ssh_config"
    path.write_text("".join(lines))
    return path


@dataclass(frozen=True)
class Run:
    """One deploy: how it ended and what it changed."""

    rc: int
    seconds: float
    totals: dict[str, int]
    changed: dict[str, list[str]]
    """Operation to the machines that it changed."""
    said: str


def command_of(site: str, *arguments: str, file: str = "deploy.py") -> list[str]:
    """The command that a person types."""
    return [str(PYINFRA), "-y", *arguments, f"inventories/{site}", file]


def environment() -> dict[str, str]:
    """As a person's, without progress bars."""
    return os.environ | {"PYINFRA_PROGRESS": "off", "PYTHONUNBUFFERED": "1"}


def deploy(site: str, *arguments: str, file: str = "deploy.py") -> Run:
    """Deploy and read pyinfra's own account of it."""
    wait_until(lambda: not other_deploys(), 900, "no other deploy of this checkout runs", every=1)
    began = time.monotonic()
    done = subprocess.run(
        command_of(site, "--json", *arguments, file=file),
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    results = json.loads(done.stdout)["results"] if done.stdout.startswith("{") else None
    operations = results["operations"] if results else []
    return Run(
        done.returncode,
        seconds,
        results["totals"] if results else {"hosts": 0, "success": 0, "error": 0, "no_change": 0},
        {operation["name"]: operation["success"] for operation in operations if operation["success"]},
        done.stderr[-3000:],
    )


def other_deploys() -> list[int]:
    """Deploys of this checkout that somebody else runs now: two at once would undo each other's work."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            here = Path(process / "cwd").readlink() == ROOT
        except OSError:
            continue
        if here and any(word.endswith(b"/pyinfra") for word in words[:2]):
            found.append(int(process.name))
    return found
