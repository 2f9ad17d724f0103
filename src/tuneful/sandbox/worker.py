"""The program inside of a `PythonInterpreter`'s process: it confines itself, then runs the code that it is sent.

It imports nothing of the package, since nothing of it is within its reach. Nor does anyone trust what it says: code
that runs in it can reach everything in it, its pipes included.
"""

from __future__ import annotations

import ast
import builtins
import json
import linecache
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

#: Loaded before the process confines itself, since afterwards nothing can be read.
MODULES = (
    "array base64 bisect calendar cmath collections collections.abc contextlib copy csv dataclasses datetime decimal "
    "difflib enum fractions functools hashlib heapq html inspect io itertools json keyword math numbers operator "
    "pprint random re statistics string struct textwrap time types typing unicodedata urllib.parse"
)
_BESIDE = "_strptime encodings.ascii encodings.latin_1 encodings.utf_16 encodings.idna ctypes"

_NO_NEW_PRIVILEGES = 38
_SET_FILTER, _ALL_THREADS = 1, 1


class Output:
    """What code prints: the beginning is kept, the rest is counted."""

    encoding = "utf-8"

    def __init__(self, most: int) -> None:
        self.most = most
        self.clear()

    def clear(self) -> None:
        """Forget what was printed."""
        self.kept: list[str] = []
        self.length = 0

    def write(self, text: str) -> int:
        """Take what is printed."""
        if not isinstance(text, str):
            raise TypeError(f"a text is printed, not {type(text).__name__}")
        if (room := self.most - self.length) > 0:
            self.kept.append(text[:room])
        self.length += len(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is nowhere to write it to."""

    def isatty(self) -> bool:
        """Return False."""
        return False


class Link:
    """The pipes to the host: messages are JSON, each after its length."""

    def __init__(self, source: BinaryIO, target: BinaryIO, output: Output) -> None:
        self._source, self._target, self._output = source, target, output

    def receive(self) -> dict[str, Any]:
        """Return the next message. The process ends where there is no host any more."""
        head = self._source.read(4)
        if len(head) < 4:
            os._exit(0)
        message: dict[str, Any] = json.loads(self._source.read(int.from_bytes(head, "little")))
        return message

    def send(self, kind: str, **rest: Any) -> None:
        """Send a message, with what was printed so far."""
        output = self._output
        rest |= {"kind": kind, "printed": "".join(output.kept), "length": output.length}
        data = json.dumps(rest, default=plain).encode()
        self._target.write(len(data).to_bytes(4, "little") + data)
        self._target.flush()


def plain(value: Any) -> Any:
    """Return a value that JSON does not know as one that it does."""
    if isinstance(value, (set, frozenset, range)) or type(value).__name__ in ("dict_keys", "dict_values", "deque"):
        return list(value)
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(value, name) for name in fields}
    if type(value).__module__ in ("decimal", "fractions", "datetime"):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def asks(link: Link, name: str) -> Callable[..., Any]:
    """Return the function that calls a tool of the host."""

    def tool(*args: Any, **kwargs: Any) -> Any:
        link.send("call", name=name, args=args, kwargs=kwargs)
        answer = link.receive()
        if answer["error"]:
            raise getattr(builtins, answer["error"])(answer["message"])
        return answer["value"]

    tool.__name__ = tool.__qualname__ = name
    return tool


def run(link: Link, number: int, code: str, names: dict[str, Any]) -> None:
    """Run a piece of code and say what came of it."""
    file = f"<code {number}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    try:
        tree = ast.parse(code, file)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, file, "exec"), names)  # noqa: S102 (what this process is for)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), file, "eval"), names)  # noqa: S307
    except BaseException as error:  # noqa: BLE001 (whatever the code raises)
        link.send("error", message=told(error))
        return
    try:
        link.send("done", value=value)
    except BaseException:  # noqa: BLE001 (it has no JSON form, or a hostile one)
        link.send("done", value=shown(value))


def shown(value: Any) -> str:
    """Return a value as a text."""
    try:
        return repr(value)[:1_000]
    except BaseException:  # noqa: BLE001 (a hostile `__repr__`)
        return f"a {type(value).__name__} that cannot be shown"


def told(error: BaseException) -> str:
    """Return an exception as Python reports it, with the lines of the code alone."""
    try:
        report: traceback.TracebackException | None = traceback.TracebackException.from_exception(error, limit=-100)
        part = report
        while part is not None:
            part.stack[:] = [line for line in part.stack if line.filename.startswith("<code")][-8:]
            part = part.__cause__ or part.__context__
        return "".join(report.format() if report else ())[-4_000:].strip()
    except BaseException:  # noqa: BLE001 (a hostile `__str__`)
        return f"{type(error).__name__}: an exception that cannot be shown"


def limit(settings: dict[str, Any]) -> None:
    """Set the limits that the kernel keeps. They cannot be raised again."""
    if sys.platform == "win32":  # it has no such limits
        return
    import resource

    used = 0
    if os.path.exists("/proc/self/statm"):  # noqa: PTH110 (no further module than is needed)
        with open("/proc/self/statm") as sizes:  # noqa: PTH123
            used = int(sizes.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    wanted = {"RLIMIT_AS": used + settings["memory"], "RLIMIT_CPU": settings["cpu"], "RLIMIT_CORE": 0}
    if settings["confinement"]:
        wanted |= {"RLIMIT_FSIZE": 0, "RLIMIT_NPROC": 0}
    for name, most in wanted.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            _, hard = resource.getrlimit(kind)
            allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (allowed, allowed))


def confine(settings: dict[str, Any]) -> None:
    """Give up every system call but those by which a program that is loaded can compute."""
    import ctypes

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    steps = bytes.fromhex(settings["filter"])
    libc = ctypes.CDLL(None, use_errno=True)
    program = Filter(len(steps) // 8, ctypes.cast(ctypes.create_string_buffer(steps, len(steps)), ctypes.c_void_p))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(
        settings["call"], _SET_FILTER, _ALL_THREADS, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def prepared(link: Link, settings: dict[str, Any]) -> None:
    """Load what code may import, and confine the process."""
    sys.path += settings["path"]
    for name in [*MODULES.split(), *_BESIDE.split(), *settings["modules"]]:
        __import__(name)
    sys.modules["random"].seed(0)
    os.environ.clear()
    limit(settings)
    if settings["confinement"]:
        sys.path.clear()  # nothing can be loaded any more, and looking for it would raise something else
        time.sleep = lambda _: None  # it would fail, and waits for nothing
        confine(settings["confinement"])
    link.send("ready")


def main() -> None:
    """Serve one interpreter until its host is gone."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    output = Output(10_000)
    link = Link(source, target, output)
    settings = link.receive()
    output.most = settings["output"]
    try:
        prepared(link, settings)
    except BaseException as error:  # noqa: BLE001 (the host is told whatever it is)
        link.send("broken", message=f"{type(error).__name__}: {error}")
        return
    sys.stdout = sys.stderr = output
    names: dict[str, Any] = {"__name__": "__main__"}
    names |= {name: asks(link, name) for name in settings["tools"]}
    number = 0
    while True:
        asked = link.receive()
        number += 1
        output.clear()
        names.update(asked["variables"])
        run(link, number, asked["code"], names)


if __name__ == "__main__":
    main()
