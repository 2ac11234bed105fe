"""Where the machines get Debian packages: what this computer's own APT uses, with Debian 13's suites."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.host import KEYRING, RefusalError

SUITE = "trixie"
DEBIAN_SUITES = {"bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"}
LOCAL_CERTIFICATES = Path("/usr/local/share/ca-certificates")
# What reaching a mirror may need; everything else in this computer's APT settings is its own business.
CARRIED = re.compile(r"^Acquire::(https?::|Check-|Retries|ForceIPv)")


@dataclass(frozen=True)
class Mirror:
    archive: str
    security: str


def mirror() -> Mirror:
    """The Debian archive that this computer uses, unless RAG_LAB_MIRROR names another."""
    chosen = os.environ.get("RAG_LAB_MIRROR")
    found = {} if chosen else archives(_own_sources())
    archive = chosen or found.get("archive") or _default_of_debootstrap()
    if not archive:
        raise RefusalError(
            "APT sources = no Debian archive in them; the lab needs one; RAG_LAB_MIRROR=http://… make lab"
        )
    archive = archive.rstrip("/")
    security = os.environ.get("RAG_LAB_SECURITY_MIRROR") or found.get("security") or f"{archive}-security"
    return Mirror(archive, security.rstrip("/"))


def archives(sources: str) -> dict[str, str]:
    """Find the archive and the security archive in one-line and deb822 sources."""
    found: dict[str, str] = {}
    for uri, suite in _entries(sources):
        name, _, kind = suite.partition("/")[0].partition("-")
        if name in DEBIAN_SUITES and uri.startswith(("http://", "https://")):
            found.setdefault("security" if kind == "security" else "archive", uri.rstrip("/"))
    return found


def _entries(sources: str) -> list[tuple[str, str]]:
    entries = []
    for paragraph in re.split(r"\n\s*\n", sources):
        lines = [line for line in paragraph.splitlines() if not line.lstrip().startswith("#")]
        entries += [
            match.groups() for line in lines if (match := re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line))
        ]
        fields = dict(re.findall(r"^(\w[\w-]*):\s*(.*(?:\n[ \t]+.*)*)", "\n".join(lines), re.MULTILINE))
        if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") != "no":
            entries += [(uri, suite) for uri in fields.get("URIs", "").split() for suite in fields["Suites"].split()]
    return [(line, suite) for uri, suite in entries for line in _listed(uri)]


def _listed(uri: str) -> list[str]:
    """The address; those in the file where it is the name of a list, as in Debian's cloud images."""
    if not uri.startswith("mirror+file:"):
        return [uri]
    file = Path(uri.removeprefix("mirror+file:").replace("//", "/", 1))
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def _own_sources() -> str:
    folder = Path("/etc/apt/sources.list.d")
    files = [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]
    return "\n\n".join(file.read_text() for file in files if file.is_file())


def _default_of_debootstrap() -> str:
    """On a computer that is not Debian, debootstrap still knows where Debian is."""
    script = Path("/usr/sbin/debootstrap")
    match = re.search(r'^DEF_MIRROR="(http[^"]+)"', script.read_text(), re.MULTILINE) if script.is_file() else None
    return match.group(1) if match else ""


def machine_sources(mirror: Mirror) -> str:
    """The machines' debian.sources, as Debian's installer writes it."""
    entry = "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {keyring}\n"
    return "\n".join(
        entry.format(uri=uri, suites=suites, keyring=str(KEYRING))
        for uri, suites in (
            (mirror.archive, f"{SUITE} {SUITE}-updates"),
            (mirror.security, f"{SUITE}-security"),
        )
    )


def own_apt_settings() -> str:
    """This computer's APT settings as apt-config prints them, or nothing where there is no APT."""
    try:
        done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout


def carried_settings(own: str, environment: dict[str, str], gateway: str) -> str:
    """The proxy and the like of this computer, as a machine behind ``gateway`` needs them."""
    lines = [line for line in own.splitlines() if CARRIED.match(line) and not line.endswith('"";')]
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy") or environment.get(f"{scheme.upper()}_PROXY")
        if proxy and not any(line.lower().startswith(f"acquire::{scheme}::proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    # A proxy on this computer's loopback is, seen from a machine, on the gateway.
    here = re.compile(r"(?<=//)(127\.0\.0\.1|localhost)(?=[:/])")
    return "".join(f"{here.sub(gateway, line)}\n" for line in lines)


def name_servers(text: str) -> list[str]:
    return re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)


def resolver() -> str:
    """A resolv.conf that works from another network namespace, where 127.0.0.53 is somebody else."""
    for file in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        text = file.read_text() if file.is_file() else ""
        servers = name_servers(text)
        if servers and not any(server.startswith(("127.", "::1")) for server in servers):
            return text
    chosen = os.environ.get("RAG_LAB_DNS")
    if not chosen:
        raise RefusalError(
            "name server = on loopback only; the machines need one they can reach; RAG_LAB_DNS=192.0.2.53 make lab"
        )
    return f"nameserver {chosen}\n"


def certificates() -> dict[str, bytes]:
    """The certificate authorities that somebody added to this computer."""
    return {file.name: file.read_bytes() for file in sorted(LOCAL_CERTIFICATES.glob("**/*.crt"))}
