"""Trace: what a run did, step by step. Every run makes its own; nothing is appended to a global."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuneful.wire.request import Request
from tuneful.wire.response import Response, Usage

if TYPE_CHECKING:
    from tuneful.program.module import Module
    from tuneful.spec.prediction import Prediction


def snapshot(value: Any) -> Any:
    """Return a value as it stands now: its lists and dicts are copied, so that later changes do not reach the trace."""
    if isinstance(value, dict):
        return {k: snapshot(v) for k, v in value.items()}
    return [snapshot(v) for v in value] if isinstance(value, list) else value


#: Reasons for a request that are no sign of trouble.
_PLAIN = ("", "extraction")


@dataclass(slots=True)
class Step:
    """One answer of one predictor.

    Args:
        path: the predictor's path in the program, such as "answer.predict".
        inputs: what it was given.
        outputs: the fields that it produced (of the first completion).
        request: what was sent.
        responses: what came back, in order: the answer, and those to further requests where there were any.
        reasons: why each of them was asked for: "" (the first), "repair turn", "fallback to chat", "extraction".
        models: the model that gave each of them.
        seconds: wall time.
        salvages: tolerances that reading the answer needed.
        dropped_demos: demos that did not fit into the prompt.
        error: the message of the error that ended the step, or None.
        superseded: whether the step belongs to an attempt whose result the program did not use. It is no demo.
        correction: what it was given beside its inputs where a constraint had turned its earlier answer down: that
            answer, and what was wrong.
    """

    path: str
    inputs: dict[str, Any]
    outputs: dict[str, Any] = field(default_factory=dict)
    request: Request | None = None
    responses: list[Response] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    model: str = ""
    seconds: float = 0.0
    salvages: tuple[str, ...] = ()
    dropped_demos: int = 0
    error: str | None = None
    superseded: bool = False
    correction: dict[str, Any] = field(default_factory=dict)

    def note(self, response: Response, model: str, reason: str) -> None:
        """Add a response."""
        self.responses.append(response)
        self.models.append(model)
        self.reasons.append(reason)

    @property
    def usage(self) -> Usage:
        """What the step has used; answers from the cache cost nothing."""
        return sum((r.charged for r in self.responses), Usage())

    @property
    def logprobs(self) -> tuple[tuple[str, float], ...] | None:
        """Pairs (token, log probability) of the answer that was read: the last one. None where there are none.

        None too for several samples of which some needed a second request: which answer is whose is not kept.
        """
        several = bool(self.responses) and len(self.responses[0].choices) > 1
        if not self.responses or (several and (len(self.responses) > 1 or "sample dropped" in self.salvages)):
            return None
        return self.responses[-1].choices[0].logprobs

    @property
    def repairs(self) -> int:
        """Further requests that were needed since an answer could not be read: repair turns and fallbacks."""
        return sum(reason not in _PLAIN for reason in self.reasons)

    @property
    def noted(self) -> dict[str, int]:
        """What did not go plainly, counted by kind: dropped demos, retries, repair turns, truncated answers, ..."""
        events = Counter(f"{salvage} (tolerated)" for salvage in self.salvages)
        events["demo dropped"] = self.dropped_demos
        events.update(reason for reason in self.reasons if reason not in _PLAIN)
        events["retry"] = self.usage.retries
        events["truncated answer"] = sum(c.truncated for r in self.responses for c in r.choices)
        events.update(f"{what} left out" for r in self.responses for c in r.choices for what in c.left_out)
        return {kind: n for kind, n in events.items() if n}


@dataclass(slots=True)
class Retrieval:
    """One search of a run.

    Args:
        path: path of the module that asked, such as "retrieve".
        query: the query.
        k: passages that were asked for.
        passages: what came back.
        seconds: wall time.
        error: the message of the error that ended the search, or None.
    """

    path: str
    query: str
    k: int
    passages: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None


@dataclass(slots=True)
class Trace:
    """The steps of one run, in the order in which they began, and its wall time.

    Args:
        steps: the steps.
        seconds: wall time.
        events: what did not go plainly outside of the steps, counted by kind, such as "tool failed".
        retrievals: the searches, in the order in which they began. They are no steps: no model was asked.
    """

    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    retrievals: list[Retrieval] = field(default_factory=list)

    @property
    def noted(self) -> dict[str, int]:
        """What did not go plainly, counted by kind: in the steps, and outside of them."""
        return dict(sum((Counter(s.noted) for s in self.steps), self.events.copy()))

    @property
    def usage(self) -> Usage:
        """What the run has used."""
        return sum((s.usage for s in self.steps), Usage())

    @property
    def needs(self) -> Usage:
        """What the run takes where no cache helps: what making its answers took."""
        return sum((r.usage for s in self.steps for r in s.responses), Usage())

    def usage_by_model(self) -> dict[str, Any]:
        """Return calls, tokens and cost by model, as JSON values."""
        found: dict[str, Usage] = {}
        for step in self.steps:
            for model, response in zip(step.models, step.responses, strict=True):
                found[model] = found.get(model, Usage()) + response.charged
        return {model: usage.to_json() for model, usage in found.items()}

    def of(self, path: str) -> list[Step]:
        """Return the steps of one predictor."""
        return [s for s in self.steps if s.path == path]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


def paths_of(root: Module) -> dict[int, str]:
    """Return the path of each predictor and each retrieval of a program, by the identity of its token."""
    return {id(m.__dict__["token"]): path for path, m in root.named_sub_modules() if "token" in m.__dict__}


class Recorder:
    """Collects the trace of one run of `root`, and knows the path of each of its predictors."""

    def __init__(self, root: Module, paths: dict[int, str] | None = None) -> None:
        self.trace = Trace()
        self.predictions: dict[int, Prediction] = {}  # by the identity of the step, for a run that goes back
        self._root = root
        self._paths = paths
        self._begun = time.perf_counter()

    def path_of(self, token: object) -> str:
        """Return the path of the predictor that carries `token`; one made during the run has none: "<unattached>"."""
        if self._root.__dict__.get("token") is token:  # the program is one predictor
            return ""
        if self._paths is None or id(token) not in self._paths:
            self._paths = paths_of(self._root)
        return self._paths.get(id(token), "<unattached>")

    def finish(self) -> Trace:
        """Set the wall time and return the trace."""
        self.trace.seconds = time.perf_counter() - self._begun
        return self.trace

    def apart(self) -> Recorder:
        """Return a recorder for a part of the run: a trace of its own, with the paths of this one."""
        return Recorder(self._root, self._paths)


_recorder: ContextVar[Recorder | None] = ContextVar("tuneful_recorder", default=None)


def current_recorder() -> Recorder | None:
    """Return the recorder of the run that this code is part of."""
    return _recorder.get()


def note_event(kind: str) -> None:
    """Count something that did not go plainly in the trace of the run that this code is part of, if there is one."""
    recorder = _recorder.get()
    if recorder is not None:
        recorder.trace.events[kind] += 1


class recording:  # noqa: N801 (used as a function; a class, since a generator costs twice as much)
    """Record a run of `root` in a trace of its own, also inside another run: `with recording(root) as recorder`.

    Args:
        root: the program.
        paths: its `paths_of`, where many runs are recorded of it; looked up anew for a predictor that it lacks.
    """

    __slots__ = ("_recorder", "_token")

    def __init__(self, root: Module, paths: dict[int, str] | None = None) -> None:
        self._recorder = Recorder(root, paths)

    def __enter__(self) -> Recorder:
        self._token = _recorder.set(self._recorder)
        return self._recorder

    def __exit__(self, *error: object) -> None:
        self._recorder.finish()
        _recorder.reset(self._token)


@contextmanager
def recording_part(root: Module) -> Iterator[Trace]:
    """Record a part of a run, such as one attempt of several, apart: its steps join those of the run when it ends.

    Args:
        root: the program, where there is no run yet.
    """
    run = _recorder.get()
    part = run.apart() if run else Recorder(root)
    token = _recorder.set(part)
    try:
        yield part.trace
    finally:
        _recorder.reset(token)
        part.finish()
        if run:
            run.trace.steps += part.trace.steps
            run.predictions |= part.predictions
            run.trace.retrievals += part.trace.retrievals
            run.trace.events += part.trace.events
