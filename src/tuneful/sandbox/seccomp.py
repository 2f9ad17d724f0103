"""The system calls that are left to a sandboxed process: a filter that the Linux kernel enforces (seccomp)."""

from __future__ import annotations

import platform
import struct
import sys
from pathlib import Path

#: System calls by which a program that is loaded can compute: memory, clocks, locks, chance, and the ends of its pipes.
#: None of them opens anything, starts anything or names another process. By the number that each processor gives them.
_ALLOWED = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
        "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28,
        "getpid": 39, "exit": 60, "gettimeofday": 96, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202,
        "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "exit_group": 231, "getrandom": 318,
        "membarrier": 324, "rseq": 334,
    },
    "aarch64": {
        "read": 63, "write": 64, "close": 57, "fstat": 80, "lseek": 62, "mmap": 222, "mprotect": 226, "munmap": 215,
        "brk": 214, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "sched_yield": 124, "mremap": 216,
        "madvise": 233, "getpid": 172, "exit": 93, "gettimeofday": 169, "sigaltstack": 132, "gettid": 178, "futex": 98,
        "restart_syscall": 128, "clock_gettime": 113, "clock_getres": 114, "exit_group": 94, "getrandom": 278,
        "membarrier": 283, "rseq": 293,
    },
}  # fmt: skip

#: What the kernel calls each processor, and the number of the system call that installs a filter.
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}

#: Codes of the filter's language (classic BPF): load a word, jump if equal, jump if at least, return.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_KILL, _ALLOW, _REFUSE = 0x80000000, 0x7FFF0000, 0x00050000 | 1  # refused calls fail with EPERM
#: Where the number of the call and the processor stand in what a filter is given.
_NUMBER, _ARCH = 0, 4
_X32 = 0x40000000  # numbers of another family of calls on the same processor


def lacking() -> str:
    """Return why processes cannot be confined here, or "" where they can."""
    machine = platform.machine()
    if sys.platform != "linux":
        return f"this is {sys.platform}, and only Linux confines a process so"
    if machine not in _ALLOWED:
        return f"the system calls of a processor `{machine}` are not known here"
    if not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        return "the kernel was built without seccomp"
    return ""


def confinement() -> dict[str, int | str]:
    """Return what a process needs to confine itself: the number of the system call, and the filter in hexadecimal."""
    machine = platform.machine()
    return {"call": _SECCOMP[machine], "filter": _filter(machine).hex()}


def _filter(machine: str) -> bytes:
    """Return the filter: each call that is not listed is refused, and one of another processor's ends the process."""
    numbers = sorted(_ALLOWED[machine].values())
    steps = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, len(numbers), 0, _X32),
        *((_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
