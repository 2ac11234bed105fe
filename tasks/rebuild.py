"""
The whole site again on empty machines, from a repository and the escrow line alone.

What must be there besides: this checkout at any release not older than the backup's, the machines of the site with a
bare Debian 13, and their host keys in known_hosts. Everything else comes out of the repository.
"""

import getpass
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from inventories.escrow import offline_password
from inventories.secrets import file_of, key_file_of
from inventories.settings import Machine, SettingsError, Site
from tasks import in_place, last_backup, restored
from tasks.archives import stream
from tasks.in_place import Order, Phases
from tasks.lock import LET_IN, recovering
from tasks.members import RefusedError, StoppedError
from tasks.moments import stamp
from tasks.outage import HELD, free
from tasks.ssh import AskError, SilentError, ask

STATE_SECONDS = 120
KINDS = ("wal", "base", "dump", "site", "evidence")
ROOT = Path(__file__).parent.parent


def escrow_line(site: str) -> str:
    """The line AGE-SECRET-KEY-1…: from its file where that is here, else from standard input, never an argument."""
    path = key_file_of(site)
    if path.is_file():
        text = path.read_text()
    else:
        text = getpass.getpass(f"escrow line of {site}: ") if sys.stdin.isatty() else sys.stdin.read()
    found = [line.strip().upper() for line in text.splitlines() if "AGE-SECRET-KEY-1" in line.upper()]
    line = found[0] if found else ""
    try:
        offline_password(line)
    except ValueError:
        raise RefusedError(
            f"escrow line of {site} = (no key in {path if path.is_file() else 'standard input'}); the whole line "
            "AGE-SECRET-KEY-1… is needed, as it was written down"
        ) from None
    return line


def keep_line(site: str, line: str) -> None:
    """Where a deploy reads it, for its owner alone; one that opened nothing is never kept."""
    path = key_file_of(site)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(0o600)
        path.write_text(f"{line}\n")


def locations(given: str) -> dict[str, str]:
    """Where each repository lies: FROM names the folder or the address that holds all of them."""
    place = given.rstrip("/")
    if not place:
        raise RefusedError("FROM = (nothing); the place of the repositories is needed; FROM=/mnt/repositories")
    if re.search(r"//[^/@\s:]*:[^/@\s]*@", place):
        raise RefusedError(
            f"FROM = {re.sub('//[^/@]*@', '//', place)} with a password in its address, which many can read; an "
            "address alone; export RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD"
        )
    if "://" not in place and ":" not in place and not (Path(place) / "site" / "config").is_file():
        raise RefusedError(f"FROM = {place}; a folder with the repositories wal, base and site is needed; ls {place}")
    return {kind: f"{place}/{kind}" for kind in KINDS}


def is_here(location: str) -> bool:
    """Whether a repository lies on a disk of this computer."""
    return location.startswith("/")


def state_of(site: str, location: str, password: str, folder: Path) -> None:
    """The newest state of the site out of its repository, into ``folder``; that of another site is refused."""
    program = shutil.which("restic")
    if program is None:
        raise RefusedError("restic = (nothing); it reads the repository; apt-get install restic")
    # restic 0.14 of Debian 12 knows neither of the variables for these.
    authority = os.environ.get("RESTIC_CACERT")
    words = [program, *(["--cacert", authority] if authority else []), "--password-file", "/dev/stdin", "--no-cache"]
    words += ["--no-lock", "restore", "latest", "--tag", "site", "--target", str(folder)]
    variables = os.environ | {"RESTIC_REPOSITORY": _signed_in(location)}
    try:
        done = subprocess.run(
            words,
            input=password,
            env=variables,
            capture_output=True,
            text=True,
            # It asks a server that does not answer again and again.
            timeout=STATE_SECONDS,
            check=False,
        )
        code, said = done.returncode, done.stderr
    except subprocess.TimeoutExpired as late:
        code, said = 124, (late.stderr or b"").decode(errors="replace") or f"no answer in {STATE_SECONDS} s"
    if code or not (folder / "secrets.age").is_file():
        reason = re.sub("//[^/@ ]*@", "//", " ".join(said.split()))[-200:] or "no secrets.age in it"
        kind, help_ = reason, f"restic -r {location} snapshots"
        if "wrong password" in said:
            kind = "the escrow line does not open it"
        elif "x509" in said or "certificate" in said:
            help_ = "export RESTIC_CACERT=file of the CA that signed its certificate"
        elif "401" in said:
            help_ = "export RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD"
        elif re.search("signature|access key|credentials", said, re.IGNORECASE):
            help_ = "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise RefusedError(f"repository {location} = no state of the site; {kind}; {help_}")
    whose = json.loads((folder / "state.json").read_text())["site"]
    if whose != site:
        raise RefusedError(f"repository {location} = the state of {whose}; that of {site} is needed; SITE={whose}")


def _signed_in(location: str) -> str:
    """With user and password of a rest-server, for restic's environment alone."""
    user, password = (quote(os.environ.get(f"RESTIC_REST_{name}", ""), safe="") for name in ("USERNAME", "PASSWORD"))
    return location.replace("://", f"://{user}:{password}@", 1) if user and location.startswith("rest:") else location


def put_state(site: str, folder: Path, mark: str) -> list[str]:
    """The site's file and its secrets where a deploy reads them; what lies there and differs is moved aside."""
    said = []
    for name, to in (("inventory", ROOT / "inventories" / site), ("secrets.age", file_of(site))):
        content = (folder / name).read_bytes()
        if to.is_file() and to.read_bytes() != content:
            to.replace(to.with_name(f"{to.name}.before-{mark}"))
            said.append(f"{to.name}: the one that lay here is {to.name}.before-{mark} now")
        to.parent.mkdir(parents=True, exist_ok=True)
        draft = to.with_name(f"{to.name}.new")
        draft.touch(0o600 if name == "secrets.age" else 0o644)
        draft.write_bytes(content)
        draft.replace(to)
    return said


def deploy(site: str, who: str) -> None:
    """As `make deploy`, let in by the lock that ``who`` holds; its own words are kept for the error."""
    words = [str(ROOT / ".venv/bin/pyinfra"), "-y", f"inventories/{site}", "deploy.py"]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | {"PYINFRA_PROGRESS": "off", LET_IN: who},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line or " = " in line]
        raise StoppedError(f"deploy of {site} = exit {done.returncode}; {' '.join(lines[-3:])[-400:]}; make deploy")


def bring_repositories(site: Site, given: str, password: str, phases: Phases) -> None:
    """
    The repositories on the new backup host, so that backups go on in them; its own empty ones are moved aside.

    + password: of the offline key, which repositories that were made anew lack
    """
    keeper, mark = restored.keeper_of(site), stamp(datetime.now(UTC))
    last_backup.rest(site, keeper)
    folder = f"{restored.FOLDER}/repositories"
    forgotten = f"rm -f {restored.FOLDER}/run/newest-base.json"
    ask(
        site,
        keeper,
        f"set -e; {restored.anew('repositories', mark)}; {forgotten}",
        what="move the empty repositories aside",
    )
    if is_here(given):
        _unpack(site, keeper, given, folder)
        ask(site, keeper, "systemctl restart rag-repositories", seconds=900)
    else:
        phases.say(fetch(site, keeper, given))
    restored.verb_on(site, keeper, "init --offline", seconds=900, stdin=f"{password}\n")
    try:
        last_backup.remembered(site, keeper, anew=True)
    except AskError as error:
        # The data are what counts now; the host asks again by itself, and forgets nothing before it has heard.
        phases.say(f"recoveries of before = unknown, nothing is forgotten until they are; {error}")
    phases.say(f"{keeper.name}: has the repositories of {given}")


def fetch(site: Site, keeper: Machine, given: str) -> str:
    """Copy what the repositories at another place hold into those of the backup host; what it tells of it."""
    place = given.rstrip("/")
    if not is_here(place):
        verb = f"fetch --place {shlex.quote(place)}"
        told = restored.verb_on(site, keeper, verb, seconds=24 * 3600, elsewhere=True)
    else:
        there = f"{restored.FOLDER}/aside/from-{stamp(datetime.now(UTC))}"
        try:
            _unpack(site, keeper, place, there)
            told = restored.verb_on(site, keeper, f"fetch --place {there}", seconds=24 * 3600)
        finally:
            ask(site, keeper, restored.as_keeper(f"rm -rf {there}"), seconds=900)
    # Whoever else may open them gets a key of his own in what was made anew.
    ask(site, keeper, "systemctl restart rag-repositories", seconds=900)
    last_backup.remembered(site, keeper)
    return told


def _unpack(site: Site, keeper: Machine, place: str, folder: str) -> None:
    """The repositories in a folder of this computer into one of the backup host, where its user owns them."""
    kinds = [kind for kind in KINDS if (Path(place) / kind).is_dir()]
    # Without the keyring's marks and other people's owners and rights.
    script = restored.as_keeper(f"mkdir -p {folder} && tar -x --no-same-owner --no-same-permissions -C {folder}")
    stream(["tar", "-c", "--mode=u+rwX,go=", "-C", place, *kinds], script, site.ssh, keeper)


def rebuild(
    name: str, given: str, to: datetime | None, confirmed: bool, read: Callable[[str], Site], phases: Phases
) -> Site:
    """Fetch, deploy, restore, verify; every step may be repeated after a stop."""
    where = locations(given)
    line = escrow_line(name)
    with tempfile.TemporaryDirectory(prefix="rag-rebuild-") as scratch:
        state_of(name, where["site"], offline_password(line), Path(scratch))
        keep_line(name, line)
        for said in put_state(name, Path(scratch), stamp(datetime.now(UTC))):
            phases.say(said)
    phases.say("the site's file and its secrets are here")
    try:
        site = read(name)
    except SettingsError as refused:
        raise RefusedError(f"state of {name} = not readable by this checkout; {refused}") from None
    keeper = restored.keeper_of(site)
    # Bare machines let nobody in before they are deployed; from then on the lock is on them too.
    with recovering(site, "rebuild", keeper, bare=True) as lock:
        phases.locks.append(lock)
        if not confirmed:
            _refuse_what_lives(site)
        phases.over("fetch the site's state")
        _let_start(site)
        phases.say(f"deploys {len(site.machines)} machines")
        deploy(name, lock.who)
        if (other := lock.renew()) or not lock.on(keeper):
            raise StoppedError(f"rebuild = not alone; {other or f'{keeper.name} does not answer'}; wait for its end")
        phases.over("deploy")
        bring_repositories(site, given, offline_password(line), phases)
        phases.over("repositories")
        in_place.recover(site, Order(to, fresh=True), lambda _: None, phases)
        _drill(site, phases)
        # One that the lost site never ended has its end now.
        with suppress(AskError):
            last_backup.remembered(site, keeper)
    return site


def _let_start(site: Site) -> None:
    """What a recovery that stopped midway kept from starting may start again: the deploy comes first here."""
    for role, units in (("database", ["patroni"]), ("app", [*HELD])):
        for machine in site.having(role):
            with suppress(AskError):
                ask(site, machine, free(units))


def _drill(site: Site, phases: Phases) -> None:
    """The drill's own checks, on the backup that the new site has just made."""
    keeper = restored.keeper_of(site)
    script = (
        "systemctl start rag-drill; journalctl -u rag-drill -o cat -n 3 _COMM=python3; systemctl is-failed rag-drill"
    )
    said = ask(site, keeper, f"{script}; true", seconds=4 * 3600, what="drill").splitlines()
    if said[-1:] == ["failed"]:
        raise StoppedError(f"drill = failed; {' '.join(said[:-1])[-300:]}; the site runs; make drills SITE={site.name}")
    phases.say(f"drill: {said[-2] if len(said) > 1 else 'done'}")
    phases.over("drill")


def _refuse_what_lives(site: Site) -> None:
    """A rebuild is for empty machines: a database that holds documents would lose its place to the backup's."""
    folder = f"/var/lib/postgresql/{site.database.version}/rag"
    count = "select count(*) from documents"
    script = f"test ! -e {folder} || {{ {last_backup.PSQL} --command '{count}' 2>/dev/null || echo unknown; }}"
    for machine in site.having("database"):
        try:
            found = ask(site, machine, script, what="what it holds")
        except SilentError:
            # One that was never deployed to knows no such user.
            continue
        if found not in {"", "0"}:
            raise RefusedError(
                f"{machine.name} = has a database with {found} documents; machines without one are needed, or "
                f"CONFIRM={site.name}, moves it aside; a site that lives: make restore SITE={site.name} IN_PLACE=1"
            )
