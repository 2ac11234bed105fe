"""What of the file system this process may still read: the kernel's Landlock, which nobody needs rights for.

https://docs.kernel.org/userspace-api/landlock.html
"""

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterable, Iterator

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# How many rights to files each version of the interface knows; what is not asked for would stay allowed.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_LATEST_FILE_RIGHTS = 16
# To bind and to connect; to reach sockets without a name in the file system, and to send signals.
_NETWORK_SINCE, _NETWORK = 4, 0b11
_SCOPES_SINCE, _SCOPES = 6, 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def restrict(readable: Iterable[str]) -> None:
    """Let this process for good read these files and folders, and nothing else; raise OSError where that cannot be."""
    version = _call(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    ruleset = _Ruleset(
        handled_access_fs=(1 << _FILE_RIGHTS.get(version, _LATEST_FILE_RIGHTS)) - 1,
        handled_access_net=_NETWORK if version >= _NETWORK_SINCE else 0,
        scoped=_SCOPES if version >= _SCOPES_SINCE else 0,
    )
    # An older kernel takes the part of it that it knows.
    size = ctypes.sizeof(_Ruleset) if version >= _SCOPES_SINCE else 16 if version >= _NETWORK_SINCE else 8
    with _closing(_call(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)) as rules:
        for path in readable:
            _allow(rules, path)
        _call(_RESTRICT_SELF, rules, 0)


def _allow(rules: int, path: str) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    with _closing(opened) as place:
        folder = stat.S_ISDIR(os.fstat(place).st_mode)
        rule = _PathBeneath(_READ_FILE | _READ_DIR if folder else _READ_FILE, place)
        _call(_ADD_RULE, rules, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)
