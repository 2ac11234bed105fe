"""What a parser that a document took over cannot do: reach a network, write a file, swell or go on for ever."""

import ctypes
import os
import resource

from app.ingest.limits import Limits

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


class OpenDoorError(Exception):
    """This machine does not let the parser shut itself in, so nothing is parsed; the message is for the operator."""


def shut(limits: Limits) -> None:
    """Shut this process in for good."""
    _leave_the_network()
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_mb * 1024 * 1024,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _leave_the_network() -> None:
    # In a namespace of users of its own anybody may make a network, and this one has not even a loopback that is up.
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise OpenDoorError(f"parser = no network namespace of its own ({reason}); sysctl user.max_user_namespaces")
