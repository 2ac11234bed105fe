"""What this process may no longer ask of the kernel: to reach others, to start programs, to find new weaknesses.

A filter of system calls, as the kernel's seccomp runs it; sockets in the file system are nothing to Landlock.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import os
import platform
import struct

# linux/audit.h and the table of x86_64, the only machines there are here.
_MACHINE, _ARCHITECTURE = "x86_64", 0xC000003E
# Calls of the x32 interface are the same ones by other numbers.
_X32 = 0x40000000
REFUSED = {
    # sockets and other ways to other processes
    "socket": 41, "connect": 42, "bind": 49, "listen": 50, "socketpair": 53,
    "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "semop": 65, "msgget": 68, "msgsnd": 69, "msgrcv": 70,
    "mq_open": 240, "mq_unlink": 241,
    # other processes themselves
    "fork": 57, "vfork": 58, "execve": 59, "execveat": 322,
    "kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
    "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440,
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "setpgid": 109, "setpriority": 141, "sched_setparam": 142, "sched_setscheduler": 144, "sched_setaffinity": 203,
    "ioprio_set": 251, "sched_setattr": 314,
    # parts of the kernel that no parser needs
    "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166, "unshare": 272, "setns": 308,
    "add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298, "bpf": 321, "userfaultfd": 323,
    "open_by_handle_at": 304, "io_uring_setup": 425,
}  # fmt: skip
# Its own limits may be read; those of others with the same user could be set.
_PRLIMIT = 302

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse() -> None:
    """Take those calls from this process for good; it must have given up new rights before. Raise OSError otherwise."""
    if platform.machine() != _MACHINE:
        raise OSError(errno.ENOSYS, f"{platform.machine()}, {_MACHINE} is needed")
    written = _filter()
    program = _Program(len(written) // 8, written)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter() -> bytes:
    """Instructions: what to do, where to go on if it is so and if not, and with which number."""
    numbers = sorted(REFUSED.values())
    # From the instruction after the next one to the last, which lets the call fail.
    ahead = [len(numbers) - place + 3 for place in range(len(numbers))]
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURE),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, len(numbers) + 4, 0, _X32),
        *((_EQUAL, far, 0, number) for far, number in zip(ahead, numbers, strict=True)),
        (_EQUAL, 0, 2, _PRLIMIT),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
