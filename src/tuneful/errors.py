"""Every exception of the package, in one tree whose branches say who must act.

    TunefulError
    ├── UsageError                    you: a call, a value or a setting is wrong
    │   ├── InputError                a program got a missing, unknown or ill-typed input
    │   ├── DataError                 the examples cannot be used as they are
    │   ├── MetricError               the metric cannot be called, raised, or returned no score
    │   ├── StateError                a saved program or index does not fit
    │   ├── NotConfiguredError        no language model (or retriever) is configured
    │   ├── CacheMissError            a replaying cache does not hold the answer
    │   └── MissingExtraError         an optional package is not installed
    ├── SignatureError                you: a signature cannot be read; points at the column
    ├── AdapterParseError             the model: its answer does not fit the signature, even after one repair
    ├── ConstraintError               the model: an `Assert` does not hold, even after further answers
    ├── LMError                       the provider or the network
    │   ├── LMTimeoutError
    │   ├── LMRateLimitError
    │   ├── LMAuthError
    │   ├── LMServerError
    │   ├── LMTransportError
    │   └── LMInvalidRequestError
    │       └── ContextWindowExceededError
    ├── ToolError                     a tool: it failed, or its server did
    │   └── ToolTimeoutError
    ├── CodeError                     code that a model wrote, or where it runs
    │   ├── CodeExecutionError        the code is at fault: it can be written anew
    │   └── CodeInterpreterError      the sandbox is: it cannot start, or broke
    ├── RetrieverError                a retriever or a ranker raised
    ├── ExitError                     you: code of yours called `sys.exit` where a run goes on without it
    ├── ProposalError                 you: a proposer raised, or gave something that is no proposal
    ├── EvaluationError               you: a program fails on every example, or on too many
    ├── TrainingError                 a training: no memory, a loss that is no number, a service's job that failed
    │   └── TrainingStopped           nobody: it was asked to stop, and can go on
    ├── BudgetExceeded                nobody: the limit you set was reached
    ├── WorkerLostError               the cluster: workers die again and again, or it is gone
    └── CompileError                  a compile could not produce a program

A message says what happened, what was expected and what to do. Programs read the attributes, not the prose.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Self


class TunefulError(Exception):
    """Root of the tree."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between processes. By default they would be made by their constructors, which take more.
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class UsageError(TunefulError, ValueError):
    """A call, a value or a setting is wrong, and the caller can mend it. No model was called."""


class InputError(UsageError):
    """A program got a missing, an unknown or an ill-typed input. No model was called."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class DataError(UsageError):
    """Examples cannot be used as they are (none given, no `with_inputs`, missing fields)."""


class MetricError(UsageError):
    """The metric has the wrong arity, raised on every example, or returned something that is no score."""


class StateError(UsageError):
    """A saved program does not fit the program that loads it, or a saved index its embedder. Nothing was changed."""


class NotConfiguredError(UsageError):
    """Something that a call needs (a language model, a retriever) is not configured."""


class CacheMissError(UsageError):
    """A cache in mode "replay" does not hold the answer to a request. Nothing was sent."""


class MissingExtraError(UsageError, ImportError):
    """An optional package is not installed; the message holds the install command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package `{package}`, which is not installed. "
            f"Install it with:\n    pip install 'tuneful[{extra}]'"
        )
        self.package = package
        self.extra = extra


class SignatureError(TunefulError, ValueError):
    """A signature cannot be read or changed as asked.

    Attributes:
        text: the signature string, where there is one.
        column: 0-based position in `text` at which reading failed, or None.
    """

    def __init__(self, message: str, *, text: str | None = None, column: int | None = None) -> None:
        if text is not None and column is not None:
            message = f"{message}\n    {text}\n    {' ' * column}^ column {column + 1}"
        super().__init__(message)
        self.text = text
        self.column = column


class AdapterParseError(TunefulError):
    """The model's answer does not fit the signature, after tolerant reading and one repair turn.

    Attributes:
        raw: the text of the last answer, whole.
        earlier: the text of the answer before the repair turn, or None where there was no such turn.
        parsed: the fields that could be read.
        problems: one line for each field that could not.
        predictor: path of the predictor in the program, where known.
        truncated: whether the answer ended at the token limit.
    """

    def __init__(
        self,
        problems: Iterable[str],
        *,
        raw: str,
        earlier: str | None = None,
        parsed: dict[str, Any] | None = None,
        predictor: str | None = None,
        truncated: bool = False,
    ) -> None:
        self.problems = tuple(problems)
        self.raw = raw
        self.earlier = earlier
        self.parsed = parsed or {}
        self.predictor = predictor
        self.truncated = truncated
        where = f" of predictor `{predictor}`" if predictor else ""
        remedy = (
            "The answer was cut at the token limit: raise `max_tokens`."
            if truncated
            else "Try a compact adapter, a model that can constrain its output, or demos (compile the program)."
        )
        before = "" if earlier is None else f"\nThe raw answer before the repair turn was:\n{earlier}"
        super().__init__(
            f"the answer{where} does not fit the signature: {'; '.join(self.problems)}.\n{remedy}\n"
            f"The raw answer was:\n{raw}{before}"
        )


class ConstraintError(TunefulError):
    """A constraint of the program does not hold, also after the predictor was asked again.

    Attributes:
        message: the constraint's own words.
        predictor: path of the predictor that was asked, or None where there was none.
    """

    def __init__(self, text: str, *, message: str = "", predictor: str | None = None) -> None:
        super().__init__(text)
        self.message = message
        self.predictor = predictor


class LMError(TunefulError):
    """A request to a model failed for a reason outside the program.

    Attributes:
        status: HTTP status, where there is one.
        model: the model's name.
        retry_after_s: seconds the provider asks to wait, where it says so.
    """

    def __init__(
        self, message: str, *, model: str | None = None, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.model = model
        self.status = status
        self.retry_after_s = retry_after_s


class LMTimeoutError(LMError, TimeoutError):
    """The model did not answer in time."""


class LMRateLimitError(LMError):
    """The provider refuses more requests for now (HTTP 429)."""


class LMAuthError(LMError):
    """The provider refuses the key (HTTP 401 or 403)."""


class LMServerError(LMError):
    """The provider failed (HTTP 5xx), or answered with something that is no completion."""


class LMTransportError(LMError):
    """The connection failed or broke."""


class LMInvalidRequestError(LMError):
    """The provider rejects the request itself (HTTP 4xx)."""


class ContextWindowExceededError(LMInvalidRequestError):
    """The prompt is longer than the model's context.

    Attributes:
        prompt_tokens, context_tokens: both sizes, where the provider tells them.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        status: int | None = None,
        prompt_tokens: int | None = None,
        context_tokens: int | None = None,
    ) -> None:
        super().__init__(message, model=model, status=status)
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class RetrieverError(TunefulError):
    """A retriever, or what ranks passages, raised; its exception is the cause.

    Attributes:
        query: what it was asked.
    """

    def __init__(self, message: str, *, query: str) -> None:
        super().__init__(message)
        self.query = query


class BudgetExceeded(TunefulError):
    """A `Budget` is used up.

    Attributes:
        limit: which limit was reached: "calls", "tokens", "usd" or "seconds".
    """

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class WorkerLostError(TunefulError):
    """Rollouts cannot be run by an executor: the workers that tried died, or the executor itself is gone.

    Attributes:
        attempts: how many workers one rollout was given to.
        worker: the last of them, where the executor names it.
        example: the rollout's row.
    """

    def __init__(self, message: str, *, attempts: int = 1, worker: str | None = None, example: Any = None) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.worker = worker
        self.example = example


class ToolError(TunefulError):
    """A tool failed; an agent is told so and goes on.

    Attributes:
        tool: name of the tool.
    """

    def __init__(self, message: str, *, tool: str) -> None:
        super().__init__(message)
        self.tool = tool


class ToolTimeoutError(ToolError, TimeoutError):
    """A tool did not end in its time. It was abandoned: a thread cannot be stopped, and may still be at work."""


class CodeError(TunefulError):
    """Code that a model wrote could not be run."""


class CodeExecutionError(CodeError):
    """Code is at fault: it does not parse, raises, or goes beyond a limit. A model is told so, and may mend it.

    Attributes:
        printed: what the code had printed.
        restarted: whether the interpreter must start anew, so that what earlier code defined is gone.
        trajectory: the steps until then, where a module gave up.
        trace: the trace of the run until then, where a module gave up.
    """

    def __init__(
        self, message: str, *, printed: str = "", restarted: bool = False, trajectory: Any = None, trace: Any = None
    ) -> None:
        super().__init__(message)
        self.printed = printed
        self.restarted = restarted
        self.trajectory = trajectory
        self.trace = trace


class CodeInterpreterError(CodeError):
    """A sandbox cannot start, or broke. No other code would help."""


class ExitError(TunefulError):
    """A program, a metric, a tool or a proposer called `sys.exit`. It is that code's failure, and ends nothing else.

    Attributes:
        code: what `sys.exit` was given, where that is a number or a text.
    """

    def __init__(self, message: str, *, code: int | str | None = None) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def of(cls, whose: str, error: SystemExit) -> Self:
        """Return the error for somebody's exit, which is its cause."""
        code = error.code if isinstance(error.code, (int, str)) else None
        made = cls(
            f"{whose} called sys.exit({'' if code is None else repr(code)}). Raise an exception instead.", code=code
        )
        made.__cause__ = error
        return made


class ProposalError(TunefulError):
    """A program that proposes raised, or gave something that is no proposal: a compile counts it, and goes on.

    Attributes:
        proposer: its name.
    """

    def __init__(self, message: str, *, proposer: str) -> None:
        super().__init__(message)
        self.proposer = proposer


class EvaluationError(TunefulError):
    """An evaluation was stopped, because the program fails on every one of its first examples or on too many.

    Attributes:
        rows: what was finished until then.
    """

    def __init__(self, message: str, *, rows: Iterable[Any] = ()) -> None:
        super().__init__(message)
        self.rows = list(rows)


class TrainingError(TunefulError):
    """A training failed. What it had reached, and its data, are kept.

    Attributes:
        folder: where they are.
    """

    def __init__(self, message: str, *, folder: str = "") -> None:
        super().__init__(message)
        self.folder = folder


class TrainingStopped(TrainingError):
    """A training was asked to stop, and did so at a checkpoint: the same call goes on from there."""


class CompileError(TunefulError):
    """A compile could not produce a program; the message says what was tried."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean `x`?" for the nearest known word, or "" where nothing is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean `{close[0]}`?" if close else ""
