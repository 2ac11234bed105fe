"""What a parser that a document took over cannot do.

It reaches no network, no other process and no file but Python and its libraries, writes nothing, starts nothing, does
not swell and does not go on for ever.
"""

import ctypes
import mimetypes
import os
import resource
import sys
from pathlib import Path

from app.ingest import landlock, syscalls
from app.ingest.limits import Limits

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
# linux/capability.h: _LINUX_CAPABILITY_VERSION_3, whose sets are two words each.
_CAPABILITIES_3 = 0x20080522
# What Python and its libraries read beside themselves.
_SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/urandom",
    *(str(path) for path in mimetypes.knownfiles),
)


class OpenDoorError(Exception):
    """This machine does not let the parser shut itself in, so nothing is parsed; the message is for the operator."""


def shut(limits: Limits) -> None:
    """Shut this process in for good."""
    _leave_the_network()
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_in_use() + limits.memory_mb * 1024 * 1024,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    _give_up_rights()
    _leave_the_files()
    try:
        syscalls.refuse()
    except OSError as error:
        raise OpenDoorError(f"parser = no filter of system calls ({error.strerror}); journalctl -k") from None


def _in_use() -> int:
    """Bytes of address space with the libraries that every parser has, whatever its document needs."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _leave_the_network() -> None:
    # In a namespace of users of its own anybody may make a network, and this one has not even a loopback that is up.
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise OpenDoorError(f"parser = no network namespace of its own ({reason}); sysctl user.max_user_namespaces")


def _give_up_rights() -> None:
    # Whoever makes a namespace may do everything in it, and so reaches parts of the kernel that others do not.
    libc = ctypes.CDLL(None, use_errno=True)
    nothing = (ctypes.c_uint32 * 6)()
    this_process = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    if libc.capset(this_process, nothing) != 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OpenDoorError(f"parser = rights it cannot give up ({os.strerror(ctypes.get_errno())}); journalctl -k")


def _leave_the_files() -> None:
    try:
        landlock.restrict(_readable())
    except OSError as error:
        needed = "a kernel with landlock in /sys/kernel/security/lsm"
        raise OpenDoorError(f"parser = the worker's files within its reach ({error.strerror}); {needed}") from None


def _readable() -> list[str]:
    """Python, its libraries and this program; not the folder in which it lies, where there may be anything."""
    program = Path(__file__).parents[1]
    libraries = [path for path in sys.path if path and Path(path).resolve() != program.parent]
    return [*_SYSTEM, sys.prefix, sys.base_prefix, str(program), *libraries]
