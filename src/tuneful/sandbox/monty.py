"""MontyInterpreter: the default sandbox, an interpreter of a part of Python that has no way out."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tuneful.errors import CodeExecutionError, CodeInterpreterError, MissingExtraError
from tuneful.sandbox.interpreter import Answer, Execution, HostCall, Interpreter, cut, plain_or_text, stopped

if TYPE_CHECKING:
    import pydantic_monty as monty

#: The modules that there are, and what of Python there is not. The tests hold both against the installed package.
MODULES = (
    "asyncio base64 binascii bisect collections copy csv dataclasses datetime decimal functools hashlib itertools json "
    "math random re time typing unicodedata"
)
LACKING = (
    "`yield`, inheritance of classes (so no exceptions of your own), `@property`, `@staticmethod` and `@classmethod`, "
    "`del` (use `pop`), `from x import *`, `input`, `dir`, `globals`, `bytearray`"
)

#: Run before any other code. Monty rounds the decimal digits of a number where Python rounds the number: 2.675 to 2.68.
#: Its formatting does as Python does.
_PRELUDE = """
_round = round
def round(number, ndigits=None):
    if ndigits is None:
        return _round(number)
    if not isinstance(number, float) or ndigits < 0 or number - number != 0:
        return _round(number, ndigits)
    return float(f"{number:.{min(ndigits, 400)}f}")
"""

#: The time that stays for the sandbox to stop by itself, before it is killed, in seconds.
_GRACE_S = 2.0


class MontyInterpreter(Interpreter):
    r"""Runs code in Monty, an interpreter of a part of Python, written in Rust, that has no way to the outside.

    >>> with MontyInterpreter() as interpreter:
    ...     interpreter.execute("total = sum(prices)", {"prices": [1, 2, 3.5]}).value
    ...     interpreter.execute("print(total)\ntotal * 2")
    Execution(printed='6.5\n', value=13.0, submitted=None)

    The default: it starts in about 10 ms, on every platform, and code has no files, no network, no processes, no
    environment and no threads, because there is nothing in it that could reach them. It computes in a process of its
    own, which is ended with the interpreter, so that a crash of it does not reach this one. The kernel does not confine
    that process: against a fault of Monty itself that lets code out of it there is no second wall, as there is in
    `PythonInterpreter`. Chance begins at the same seed in each, and `sleep` takes no time.

    Use `PythonInterpreter` where code needs what this one lacks: `MODULES` are all modules that there are, and
    `LACKING` says what of the language is missing.

    It needs `pip install 'tuneful[code]'`.

    Args:
        limits: as for `Interpreter`.

    Raises:
        MissingExtraError: the package is not installed.

    Cost: no model call. About 0.2 ms for a short piece of code.
    """

    description = (
        f"Python 3 without third-party modules. There are: {', '.join(MODULES.split())}. There are no files, no "
        f"network and no other processes. Not supported: {LACKING}. Functions that are given to you are called "
        "directly, in a loop or a comprehension, and not by `map` or as a `key`."
    )

    _pool: monty.Monty
    _session: monty.MontySession
    _waiting: Any
    _output: _Output

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        if find_spec("pydantic_monty") is None:
            raise MissingExtraError("pydantic-monty", "code", "running code that a model wrote")

    def _start(self) -> None:
        import pydantic_monty as monty  # an optional package

        limits: monty.ResourceLimits = {
            "max_feed_duration_secs": float(self.timeout_s),
            "max_memory": self.memory_mb * 2**20,
            "max_suspensions": 2**31,  # calls of tools are counted by the piece of code
        }
        policy: monty.OSPolicy = {"sleep": "zero", "random_start": {"seed": 0}}
        try:  # a pool of its own: what is shared could be used up by runs that wait for one another
            self._pool = monty.Monty(min_processes=1, max_processes=1, feed_duration_limit_grace=_GRACE_S)
            self._pool.__enter__()
            self._session = self._pool.checkout(limits=limits, os_policy=policy)
            self._session.__enter__()
            self._session.feed_run(_PRELUDE)
        except (OSError, RuntimeError, monty.MontyError) as error:
            raise CodeInterpreterError(f"the sandbox did not start: {error}") from error
        self._pid = self._session.worker_pid
        self._output = _Output(self.max_output_chars)

    def _begin(self, code: str, variables: Mapping[str, Any]) -> Execution | HostCall:
        self._output = _Output(self.max_output_chars)
        return self._advanced(
            lambda: self._session.feed_start(code, inputs=dict(variables), print_callback=self._output)
        )

    def _resume(self, answer: Answer) -> Execution | HostCall:
        result: Any = {"return_value": answer.value}
        if answer.error:
            result = {"exc_type": answer.error, "message": answer.message}
        return self._advanced(lambda: self._waiting.resume(result))

    def _advanced(self, step: Any) -> Execution | HostCall:
        """Go on to the end of the code, or to its next call of a tool. What asks for the outside is refused."""
        import pydantic_monty as monty

        try:
            found = step()
            while not isinstance(found, monty.MontyComplete):
                if isinstance(found, monty.FunctionSnapshot) and not found.is_os_function:
                    self._waiting = found
                    return HostCall(str(found.function_name), tuple(found.args), dict(found.kwargs))
                if isinstance(found, monty.FunctionSnapshot):
                    found = found.resume_not_handled()
                elif isinstance(found, monty.NameLookupSnapshot):
                    found = self._looked_up(found)
                else:
                    found = found.resume_auto()
            return Execution(self._printed(), plain_or_text(found.output))
        except monty.MontyError as error:
            raise self._failure(error) from None  # its frames are those of the sandbox
        except RecursionError as error:
            raise CodeExecutionError(
                "a value is nested too deeply to leave the sandbox", printed=self._printed()
            ) from error

    def _looked_up(self, found: Any) -> Any:
        """Answer a name that the code does not define: a tool is a function, anything else is not defined."""
        tool = self.tools.get(found.variable_name)
        return found.resume() if tool is None else found.resume(value=tool.func)

    def _failure(self, error: monty.MontyError) -> CodeExecutionError:
        import pydantic_monty as monty

        if isinstance(error, monty.MontyCrashedError):
            if error.timed_out:
                return stopped(f"the code did not end in {self.timeout_s:g} s and was stopped.", self._printed())
            return stopped(f"the code brought the interpreter down: {error}.", self._printed())
        said = str(error)
        if said.startswith("TimeoutError: feed time limit exceeded"):
            return stopped(f"the code did not end in {self.timeout_s:g} s and was stopped.", self._printed())
        if said.startswith("MemoryError: memory limit exceeded"):
            said = f"MemoryError: the code needs more than {self.memory_mb} MiB of memory, and was stopped."
            return CodeExecutionError(said, printed=self._printed())
        if isinstance(error, (monty.MontyRuntimeError, monty.MontySyntaxError)):
            said = error.display("traceback")
        return CodeExecutionError(cut(said, 4_000), printed=self._printed())

    def _printed(self) -> str:
        return self._output.text()

    def _stop(self) -> None:
        with suppress(Exception):  # whatever is left of a sandbox that is given up
            if self._busy and self._pid is not None:
                os.kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            self._session.__exit__(None, None, None)
        with suppress(Exception):
            self._pool.__exit__(None, None, None)


class _Output:
    """Hears what code prints, and keeps the beginning."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[str] = []
        self._length = 0

    def __call__(self, stream: str, text: str) -> None:
        if (room := self._most - self._length) > 0:
            self._kept.append(text[:room])
        self._length += len(text)

    def text(self) -> str:
        """Return what was printed, the end cut off."""
        return cut("".join(self._kept), self._most, self._length)
