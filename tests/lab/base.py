"""The disk that all machines start from: a bare Debian 13 server, built once per recipe and never written again."""

import hashlib
import os
import shutil
import time
from pathlib import Path

from tests.lab import sources
from tests.lab.host import LabError, locked, run, run_long, say, step
from tests.lab.mounts import lower_layers_in_use, mounted_below, unmount

PACKAGES = (
    # What Debian's own installer leaves on a server without tasks, as far as a container can use it.
    "ca-certificates", "cron", "dbus", "iproute2", "iputils-ping", "kmod", "less", "libpam-systemd", "logrotate",
    "netbase", "nftables", "openssh-server", "procps", "python3-minimal", "sudo", "systemd", "systemd-sysv", "vim-tiny",
)  # fmt: skip
FILES = {
    # Many machines on one disk install at once; a machine that dies does not take the kernel's cache with it.
    "etc/dpkg/dpkg.cfg.d/lab": "force-unsafe-io\n",
    # What one fleet downloaded, the next one finds on its disk.
    "etc/apt/apt.conf.d/90lab": 'APT::Keep-Downloaded-Packages "true";\nAcquire::Languages "none";\n',
    "etc/hostname": "debian\n",
    "etc/default/locale": "LANG=C.UTF-8\n",
    # Each machine gets its own.
    "etc/machine-id": "",
    "etc/fstab": "",
}
# One boot in twelve left it failed, and a container has nothing that it could keep.
MASKED = ("systemd-networkd-persistent-storage.service",)
ENABLED = ("systemd-networkd.service", "ssh.service")


def cache() -> Path:
    return Path(os.environ.get("RAG_LAB_CACHE", "/var/cache")) / "rag-lab"


def recipe(mirror: sources.Mirror, certificates: dict[str, bytes]) -> str:
    """Name the base after everything that goes into it."""
    parts = [sources.SUITE, mirror.archive, mirror.security, *PACKAGES, *MASKED, *ENABLED]
    parts += [f"{name}={text}" for name, text in FILES.items()]
    parts += [f"{name}={hashlib.sha256(body).hexdigest()}" for name, body in certificates.items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def ensure() -> str:
    """Build the base of the present recipe unless it is there; return its name."""
    mirror, certificates = sources.mirror(), sources.certificates()
    name = recipe(mirror, certificates)
    folder(name).parent.mkdir(parents=True, exist_ok=True)
    with locked("base", wait=True):
        _clear_interrupted()
        if not folder(name).is_dir():
            _build(name, mirror, certificates)
        # Young bases are not forgotten: a lab that is being made may be about to stand on one.
        os.utime(folder(name))
    return name


def present() -> str:
    """The name of the base of the present recipe, built or not."""
    return recipe(sources.mirror(), sources.certificates())


def folder(name: str) -> Path:
    return cache() / f"base-{name}"


def _build(name: str, mirror: sources.Mirror, certificates: dict[str, bytes]) -> None:
    building = cache() / f"building-{name}"
    archive = cache() / "bootstrap"
    archive.mkdir(exist_ok=True)
    log = cache() / "base.log"
    with step(f"build the base: Debian {sources.SUITE} from {mirror.archive}, about two minutes, once"):
        include = f"--include={','.join(PACKAGES)}"
        options = ("--variant=minbase", f"--cache-dir={archive}", include)
        run_long("debootstrap", log, "debootstrap", *options, sources.SUITE, building, mirror.archive)
        _finish(building, mirror, certificates)
        _upgrade(building, log)
        _verify(building)
        # Its new name is what says that it is whole.
        building.rename(folder(name))


def _finish(root: Path, mirror: sources.Mirror, certificates: dict[str, bytes]) -> None:
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    (root / "etc/apt/sources.list.d/debian.sources").write_text(sources.machine_sources(mirror))
    for name, body in certificates.items():
        (root / "usr/local/share/ca-certificates" / name).write_bytes(body)
    run("chroot", root, "update-ca-certificates")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    run("systemctl", f"--root={root}", "enable", *ENABLED)


def _upgrade(root: Path, log: Path) -> None:
    """Bring the base to the level of the updates and security suites."""
    resolv, own = root / "etc/resolv.conf", root / "etc/apt/apt.conf.d/91lab-host"
    resolv.unlink(missing_ok=True)
    resolv.write_text(Path("/etc/resolv.conf").read_text())
    own.write_text(sources.carried_settings(sources.own_apt_settings(), dict(os.environ), "127.0.0.1"))
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    script = "mount -t proc proc /proc && apt-get -q update && apt-get -y -q dist-upgrade && apt-get clean"
    run_long("security updates", log, "chroot", root, "sh", "-c", script)
    for file in (resolv, own, policy):
        file.unlink()


def _verify(root: Path) -> None:
    missing = [
        path for path in ("usr/sbin/sshd", "usr/lib/systemd/systemd", "usr/bin/python3") if not (root / path).exists()
    ]
    broken = run("chroot", root, "dpkg", "--audit").strip()
    if missing or broken:
        raise LabError(
            f"base = not whole ({missing or broken.splitlines()[0]}); try again; less {cache() / 'base.log'}"
        )


def _clear_interrupted() -> None:
    """Remove what a killed build left; its processes died with it, or the lock would be held."""
    for path in cache().glob("building-*"):
        say(f"lab: remove {path}, left by an interrupted build")
        for mount in mounted_below(path):
            unmount(mount)
        shutil.rmtree(path)


def forget_unused(used: set[str]) -> None:
    """Remove the bases of former recipes that no machine stands on."""
    for path in cache().glob("base-*"):
        young = time.time() - path.stat().st_mtime < 1800
        if not young and path.name.removeprefix("base-") not in used and path not in lower_layers_in_use():
            # Renamed first: a half-removed base must never look whole.
            doomed = path.rename(path.with_name(f"building-{path.name}"))
            shutil.rmtree(doomed)
