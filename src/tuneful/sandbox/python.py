"""PythonInterpreter: all of CPython, in a process that the kernel confines."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tuneful.errors import CodeExecutionError, CodeInterpreterError, UsageError
from tuneful.sandbox import seccomp
from tuneful.sandbox.interpreter import Answer, Execution, HostCall, Interpreter, cut, stopped
from tuneful.sandbox.submission import SUBMIT
from tuneful.sandbox.worker import MODULES

_WORKER = Path(__file__).with_name("worker.py")

#: Seconds that the process may take to start, further modules included.
_START_S = 60.0
#: Longest message that is taken from the process, in bytes.
_LONGEST = 2**26
#: What the process may compute in all its pieces of code together: so often its time for one.
_PIECES = 100


class PythonInterpreter(Interpreter):
    """Runs code in a process of the same Python, to which the Linux kernel leaves nothing but computing.

    >>> interpreter = PythonInterpreter(timeout_s=5)
    >>> with interpreter:
    ...     interpreter.execute("import statistics; statistics.median([3, 1, 2])").value
    2

    For code that `MontyInterpreter` cannot run: classes, generators, all of the language, and compiled packages such as
    numpy (`modules=["numpy"]`). It starts in about 100 ms.

    What confines it is a filter of system calls (seccomp), which the process installs for itself before it sees any
    code: it then can compute, and talk to this program over its pipe. To open a file, a socket or a library, to start a
    process or a thread, to see another process, to sleep: all of that fails with `PermissionError`, whatever way code
    finds to it, also by way of `ctypes`. What may be imported is therefore imported before. It has no environment, an
    address space of `memory_mb` beyond its own, and is killed when its time is up; what it had printed is lost then.

    What that does not keep from: faults of the kernel in the few calls that are left; what a program can learn of a
    machine by measuring time; a disclosure of what is in the process itself (the names of tools, the inputs, where
    Python is installed). Where that matters, put all of it into a virtual machine.

    On other systems (macOS, Windows, another processor, no seccomp) there is no such thing, and it refuses to be made,
    unless `trusted=True` says that the code may do whatever this program may: **that is no sandbox**. The limits of
    time, memory (not on Windows) and output hold there too, and the process has an empty environment and a temporary
    folder of its own as its working directory, but it can read and write files, reach the network and start processes.

    Args:
        modules: further modules that code may import, such as "numpy". They are loaded before the process is confined;
            what a module loads only when it is used cannot be loaded any more, so name such parts too.
        trusted: do without the confinement, anywhere.
        limits: as for `Interpreter`; `memory_mb` has no effect on Windows.

    Raises:
        UsageError: the process cannot be confined here, and the code is not trusted.

    Cost: no model call. About 0.3 ms for a short piece of code.
    """

    def __init__(self, *, modules: Iterable[str] = (), trusted: bool = False, **limits: Any) -> None:
        super().__init__(**limits)
        if isinstance(modules, str):
            raise UsageError(f"`modules` is a list of names, such as [{modules!r}].")
        self.modules = list(modules)
        self.trusted = trusted
        if not trusted and (why := seccomp.lacking()):
            raise UsageError(
                f"code cannot be confined to a process here: {why}. Use MontyInterpreter, which needs nothing of the "
                "system. PythonInterpreter(trusted=True) runs code without any confinement: only for code that may do "
                "whatever this program may."
            )
        there = ", ".join([*MODULES.split(), *self.modules])
        self.description = (
            f"All of Python {sys.version_info.major}.{sys.version_info.minor}. There are the modules: {there}. "
            "There are no files, no network, no threads and no other processes."
            if not trusted
            else f"All of Python {sys.version_info.major}.{sys.version_info.minor}, and the modules installed with it."
        )

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tuneful-")
        self._printed_so_far = ""
        try:
            self._process = subprocess.Popen(  # noqa: S603 (this very Python, with a file of this package)
                [sys.executable, "-S", "-s", "-P", "-B", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            self._folder.cleanup()
            raise CodeInterpreterError(f"the sandbox did not start: {error}") from error
        settings = {
            "confinement": {} if self.trusted else seccomp.confinement(),
            "memory": self.memory_mb * 2**20,
            "cpu": math.ceil(self.timeout_s * _PIECES),
            "output": self.max_output_chars,
            "modules": self.modules,
            "path": [p for p in sys.path if p] if self.modules or self.trusted else [],
            "tools": [*self.tools, *([SUBMIT] if self._submission else [])],
        }
        try:
            said = self._exchanged(settings, _START_S)
        except CodeExecutionError:
            said = {"kind": "broken", "message": "its process ended, or was not ready in time"}
        if said["kind"] != "ready":
            self._stop()
            raise CodeInterpreterError(f"the sandbox did not start: {said.get('message', said)}")

    def _begin(self, code: str, variables: Mapping[str, Any]) -> Execution | HostCall:
        self._left_s = self.timeout_s
        self._printed_so_far = ""
        return self._advanced({"code": code, "variables": dict(variables)})

    def _resume(self, answer: Answer) -> Execution | HostCall:
        return self._advanced({"value": answer.value, "error": answer.error, "message": answer.message})

    def _advanced(self, message: Mapping[str, Any]) -> Execution | HostCall:
        begun = time.monotonic()
        said = self._exchanged(message, self._left_s)
        self._left_s -= time.monotonic() - begun
        match said:
            case {"kind": "done"}:
                return Execution(self._printed(), said.get("value"))
            case {"kind": "error", "message": str(text)}:
                raise CodeExecutionError(cut(text, 4_000), printed=self._printed())
            case {"kind": "call", "name": str(name), "args": list(args), "kwargs": dict(kwargs)}:
                return HostCall(name, tuple(args), kwargs)
        return self._distrusted()

    def _exchanged(self, message: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send a message and return what comes back. When the time is up the process is killed, and nothing comes."""
        up = threading.Event()

        def end() -> None:
            up.set()
            self._kill()

        timer = threading.Timer(max(seconds, 0.001), end)
        timer.daemon = True
        timer.start()
        try:
            data = self._sent_and_heard(json.dumps(message).encode())
        finally:
            timer.cancel()
        if up.is_set():
            raise stopped(f"the code did not end in {self.timeout_s:g} s and was stopped.", self._printed())
        if data is None:
            raise stopped("the code brought the interpreter down.", self._printed())
        try:
            said = json.loads(data)
            self._printed_so_far = cut(
                str(said["printed"])[: self.max_output_chars], self.max_output_chars, int(said["length"])
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            self._distrusted()
        return dict(said)

    def _sent_and_heard(self, data: bytes) -> bytes | None:
        """Return the answer to a message, or None where the process ended."""
        source, target = self._process.stdout, self._process.stdin
        assert source is not None
        assert target is not None
        try:
            target.write(len(data).to_bytes(4, "little") + data)
            target.flush()
            length = int.from_bytes(source.read(4), "little")
            if length > _LONGEST:
                self._kill()
                raise stopped(f"a value of {length:,} bytes is too large to leave the sandbox.", self._printed())
            heard = source.read(length)
        except (OSError, ValueError):  # its pipe is broken, or closed by another thread
            return None
        return heard if length and len(heard) == length else None

    def _distrusted(self) -> NoReturn:
        self._kill()
        raise stopped("the code meddled with the interpreter.", self._printed())

    def _printed(self) -> str:
        return self._printed_so_far

    def _kill(self) -> None:
        """Kill the process with its whole group."""
        if self._process.poll() is None:
            with suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()

    def _stop(self) -> None:
        self._kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not sent any more
                if pipe is not None:
                    pipe.close()
        self._folder.cleanup()


def _environment() -> dict[str, str]:
    """Return the environment of the process: nothing of this one's."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows starts nothing without
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**kept, **one_thread, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
