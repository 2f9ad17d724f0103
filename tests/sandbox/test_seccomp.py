"""The filter of system calls, interpreted here for every processor that it is written for."""

import struct

import pytest

from tuneful.sandbox import seccomp

MACHINES = pytest.mark.parametrize("machine", seccomp._ALLOWED)


def verdict(machine, number, arch=None):
    """Run the filter as the kernel does."""
    given = {0: number, 4: seccomp._AUDIT_ARCH[machine] if arch is None else arch}
    steps = list(struct.iter_unpack("HBBI", seccomp._filter(machine)))
    at, word = 0, 0
    while True:
        code, yes, no, k = steps[at]
        at += 1
        if code == seccomp._RETURN:
            return k
        if code == seccomp._LOAD:
            word = given[k]
        else:
            at += yes if (word == k if code == seccomp._EQUAL else word >= k) else no


@MACHINES
def test_what_is_listed_is_allowed_and_nothing_else(machine):
    allowed = set(seccomp._ALLOWED[machine].values())
    for number in range(600):
        assert verdict(machine, number) == (seccomp._ALLOW if number in allowed else seccomp._REFUSE)


@MACHINES
def test_calls_by_another_door_are_refused(machine):
    read = seccomp._ALLOWED[machine]["read"]
    assert verdict(machine, 0x40000000 + read) == seccomp._REFUSE
    assert verdict(machine, 2**32 - 1) == seccomp._REFUSE
    for other in (0x40000003, 0x40000028, 0):
        assert verdict(machine, read, other) == seccomp._KILL


@MACHINES
def test_nothing_that_opens_starts_or_signals_is_listed(machine):
    words = (
        "open",
        "socket",
        "connect",
        "clone",
        "fork",
        "exec",
        "kill",
        "ptrace",
        "process_vm",
        "prctl",
        "unlink",
        "link",
    )
    assert not [name for name in seccomp._ALLOWED[machine] if any(word in name for word in words)]


@pytest.mark.parametrize(
    ("platform", "machine", "why"),
    [("darwin", "arm64", "this is darwin"), ("linux", "riscv64", "`riscv64` are not known")],
)
def test_where_it_cannot_be_it_says_why(monkeypatch, platform, machine, why):
    monkeypatch.setattr(seccomp.sys, "platform", platform)
    monkeypatch.setattr(seccomp.platform, "machine", lambda: machine)
    assert why in seccomp.lacking()
