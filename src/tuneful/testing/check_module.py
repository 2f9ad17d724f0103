"""check_module: what every module can do, tried on one run whose answers are given."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneful.errors import UsageError
from tuneful.program.module import Module
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import context
from tuneful.program.trace import Trace, recording
from tuneful.program.watching.events import Event, FieldEnded, Finished, ReasoningPiece
from tuneful.spec.example import Example
from tuneful.testing.scripted import DummyLM, ScriptedLM

Values = Mapping[str, Any]
Answers = Sequence[Values] | Mapping[str, Values] | Callable[[], ScriptedLM]

#: Runs that are in flight at once.
_AT_ONCE = 32

#: What is tried, in the order of a table's columns.
COLUMNS = ("sync", "async", "bulk", "streaming", "copied", "saved", "traced", "concurrent", "compiled")


@dataclass(frozen=True)
class ModuleRow:
    """What a module can do.

    Args:
        module: its name.
        calls: requests of one run.
        failures: for each column that failed, why.
        absent: columns of which there is nothing to try: a module without predictors has nothing to compile.
    """

    module: str
    calls: int
    failures: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def cells(self) -> list[str]:
        """Return the row of a table: the name, the calls, and yes, no or - for each of `COLUMNS`."""
        told = {column: "no" if column in self.failures else "yes" for column in COLUMNS}
        return [self.module, str(self.calls), *(told | dict.fromkeys(self.absent, "-")).values()]


def check_module(module: Module, inputs: Values, answers: Answers, *, strict: bool = True) -> ModuleRow:
    """Try a module in every way in which a program is run, and raise where one fails. No model is called.

    The ways: blocking, awaited, in bulk and streamed, each with the same result; a deep copy, which shares nothing that
    can change; saved and loaded, with equal parameters and outputs; a trace of every request, with the predictors' real
    paths; 32 runs at once, which do not mix; compiled by `LabeledFewShot` and by `BootstrapFewShot`, the module itself
    unchanged.

    Call it in a test of your own module:

    >>> from tuneful.modules.chain_of_thought import ChainOfThought
    >>> said = [{"reasoning": "r", "answer": "2"}]
    >>> row = check_module(ChainOfThought("question -> answer"), {"question": "1+1?"}, said)
    >>> row.calls, row.cells()[2:] == ["yes"] * len(COLUMNS)
    (1, True)

    Args:
        module: the module. Give it no LM; settings that it needs, a retriever say, are configured around the call.
        inputs: the inputs of one run.
        answers: the fields that the model gives in that run, call after call; or by a text that the request holds (see
            `DummyLM`); or a function that makes a fresh LM, which answers any number of runs.
        strict: raise where something fails; otherwise the row says it.

    Raises:
        AssertionError: something fails; the message has every reason.
        UsageError: the module cannot be run at all with these inputs and answers.

    Cost: no model call; some 100 runs on the given answers.
    """
    check = _Check(module, dict(inputs), answers)
    failures: dict[str, str] = {}
    absent = () if module.predictors() else ("compiled",)
    for column in [c for c in COLUMNS if c not in absent]:
        try:
            getattr(check, f"check_{column}")()
        except Exception as error:  # noqa: BLE001 (whatever is raised is why the column fails)
            failures[column] = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    row = ModuleRow(type(module).__name__, check.calls, failures, absent)
    if failures and strict:
        listed = "\n".join(f"- {column}: {reason}" for column, reason in failures.items())
        raise AssertionError(f"{row.module} fails in {len(failures)} of {len(COLUMNS)} ways:\n{listed}")
    return row


class _Check:
    """The ways to run one module, each against what a first run gave."""

    def __init__(self, module: Module, inputs: dict[str, Any], answers: Answers) -> None:
        self.module = module
        self.inputs = inputs
        self.answers = answers
        self.before = _values(module)
        try:
            with self.answering() as lm:
                self.expected, self.trace = _traced(module, inputs)
        except Exception as error:
            raise UsageError(
                f"{type(module).__name__} cannot be run with the inputs {inputs!r:.200} and the given answers: "
                f"{type(error).__name__}: {error}"
            ) from error
        self.calls = len(lm.requests)

    @contextmanager
    def answering(self, runs: int = 1, answers: Answers | None = None) -> Iterator[ScriptedLM]:
        """Let the given answers be those of the configured LM, as often as there are runs."""
        given = self.answers if answers is None else answers
        if isinstance(given, Mapping):
            lm: ScriptedLM = DummyLM(given)
        elif isinstance(given, Sequence):
            lm = DummyLM([*given] * runs)
        else:
            lm = given()
        with context(lm=lm):
            yield lm

    def same(self, found: Any, module: Module | None = None) -> None:
        """Assert that a run gave what the first one did, and left the parameters alone."""
        assert found == self.expected, (
            f"it returned {found!r:.300}, where the first run returned {self.expected!r:.300}"
        )
        assert _values(self.module) == self.before, "a run changed the module's parameters"

    # --- ways to run ---

    def check_sync(self) -> None:
        """The blocking face, twice: a module keeps nothing of a run."""
        for _ in range(2):
            with self.answering() as lm:
                self.same(self.module(**self.inputs))
            assert len(lm.requests) == self.calls, f"{len(lm.requests)} calls, and {self.calls} in the first run"

    def check_async(self) -> None:
        """The same, awaited."""
        with self.answering():
            self.same(portal.run(self.module.acall(**self.inputs)))

    def check_bulk(self) -> None:
        """Three inputs at once, in order."""
        with self.answering(runs=3):
            for found in self.module.batch([self.inputs] * 3, num_threads=1):
                self.same(found)

    def check_streaming(self) -> None:
        """Events of real predictors, and the result last."""
        with self.answering():
            self.heard(list(self.module.stream(**self.inputs)))
        with self.answering():
            self.heard(portal.run(self.collected()))

    async def collected(self) -> list[Event]:
        """Return the events of an asynchronous run."""
        return [event async for event in self.module.astream(**self.inputs)]

    def heard(self, events: list[Event]) -> None:
        """Assert that events make sense."""
        *parts, last = events
        assert isinstance(last, Finished), f"the last event is {last!r:.200}"
        assert not any(isinstance(e, Finished) for e in parts), "an event came after `Finished`"
        self.same(last.prediction)
        told = {e.path for e in parts if isinstance(e, (FieldEnded, ReasoningPiece))}
        silent = {s.path for s in self.trace} - told
        assert not silent, f"nothing was heard of {sorted(silent)}"

    # --- copies ---

    def check_copied(self) -> None:
        """A deep copy runs alike, and what is set on it does not reach the original."""
        copy = self.module.deepcopy()
        assert _values(copy) == self.before, "a deep copy has other parameters"
        with self.answering():
            self.same(copy(**self.inputs))
        for predictor in copy.predictors():
            predictor.demos.append(Example(mark="of the copy"))
            predictor.signature = predictor.signature.with_instructions("Those of the copy.")
        assert _values(self.module) == self.before, "a change of a deep copy reached the original"
        changed = self.module.with_parameters(self.reworded())
        assert _values(self.module) == self.before, "with_parameters changed the module itself"
        assert _values(changed) == {**self.before, **self.reworded()}, "with_parameters did not set what it was given"

    def reworded(self) -> dict[str, Any]:
        """Return new instructions for every predictor."""
        named = {p: f"{v} Take care." for p, v in self.before.items() if _last(p) == "instructions"}
        return {p: v for p, v in named.items() if not self.module.parameters()[p].frozen}

    def check_saved(self) -> None:
        """A saved and loaded program has the same parameters, and gives the same."""
        changed = self.module.with_parameters(self.reworded())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "program.json"
            changed.save(path)
            loaded = self.module.deepcopy().load(path)
        assert _values(loaded) == _values(changed), "a loaded program has other parameters than the one that was saved"
        with self.answering():
            self.same(loaded(**self.inputs))

    # --- what a run leaves ---

    def check_traced(self) -> None:
        """Every request is in the trace, under the path of a predictor of the module."""
        paths = {path for path, _ in self.module.named_predictors()}
        unknown = {s.path for s in self.trace} - paths
        assert not unknown, f"the trace has steps of {sorted(unknown)}, and the predictors are {sorted(paths)}"
        noted = sum(len(s.responses) for s in self.trace)
        assert noted == self.calls, f"the trace has {noted} responses, and {self.calls} requests were sent"
        for step in self.trace:
            assert step.request is not None, f"the step of {step.path!r} has no request"

    def check_concurrent(self) -> None:
        """Runs at once, each with texts of its own, give what each gives alone."""
        if callable(self.answers) or not all(self.alone(i) for i in (0, 1)):
            marks: list[int | None] = [None] * _AT_ONCE
        else:
            marks = list(range(_AT_ONCE))
        alone = [self.run_marked(mark) for mark in marks]
        together = portal.run(self.together(marks))
        for mark, (one, sent), (other, sent_beside) in zip(marks, alone, together, strict=True):
            assert one == other, f"run {mark} gave {one!r:.200} alone, and {other!r:.200} beside others"
            assert sent == sent_beside, f"run {mark} asks the model something else where others run beside it"
        assert _values(self.module) == self.before, "runs changed the module's parameters"

    def alone(self, mark: int) -> bool:
        """Say whether a run with marked texts works: not where a text is one of several options."""
        try:
            self.run_marked(mark)
        except Exception:  # noqa: BLE001 (whatever the module says to such texts, they are not for it)
            return False
        return True

    def run_marked(self, mark: int | None) -> Any:
        """Return what a run gives, and the keys of its requests."""
        with self.answering(answers=_marked(self.answers, mark)) as lm:
            return self.module(**_marked(self.inputs, mark)), _keys(lm)

    async def together(self, marks: Sequence[int | None]) -> list[Any]:
        """Run all at once, each with its own answers."""

        async def one(mark: int | None) -> Any:
            with self.answering(answers=_marked(self.answers, mark)) as lm:
                await asyncio.sleep(0)
                return await self.module.acall(**_marked(self.inputs, mark)), _keys(lm)

        return await asyncio.gather(*map(one, marks))

    def check_compiled(self) -> None:
        """Teleprompters give a program that runs, with demos."""
        from tuneful.optimize.recipes.bootstrap_few_shot import BootstrapFewShot  # loads journals, and so SQLite
        from tuneful.optimize.recipes.labeled_few_shot import LabeledFewShot

        labels = dict(self.expected.items()) if isinstance(self.expected, Example) else {}
        row = Example({**labels, **self.inputs}).with_inputs(*self.inputs)
        for teleprompter in (LabeledFewShot(k=1), BootstrapFewShot(max_bootstrapped_demos=1, max_labeled_demos=1)):
            with self.answering(runs=4):
                compiled = teleprompter.compile(self.module, trainset=[row])
            assert _values(self.module) == self.before, f"{type(teleprompter).__name__} changed the student"
            with self.answering():
                self.same(compiled(**self.inputs))
        used = {s.path for s in self.trace if not s.superseded}
        shown = {path for path, p in compiled.named_predictors() if p.demos}
        frozen = {path for path, p in self.module.parameters().items() if p.frozen}
        missing = {path for path in used - shown if f"{path}.demos".lstrip(".") not in frozen}
        assert not missing, f"no demos were bootstrapped for {sorted(missing)}"


def _values(module: Module) -> dict[str, Any]:
    return {path: parameter.value for path, parameter in module.parameters().items()}


def _keys(lm: ScriptedLM) -> list[str]:
    return sorted(request.key() for request in lm.requests)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _traced(module: Module, inputs: dict[str, Any]) -> tuple[Any, Trace]:
    with recording(module) as recorder:
        return module(**inputs), recorder.trace


def _marked(value: Any, mark: int | None) -> Any:
    """Return a value with a mark at the end of every text in it."""
    if mark is None:
        return value
    if isinstance(value, str):
        return f"{value} ({mark})"
    if isinstance(value, Mapping):
        return {name: _marked(inner, mark) for name, inner in value.items()}
    return [_marked(inner, mark) for inner in value] if isinstance(value, list) else value
