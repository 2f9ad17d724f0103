"""Evaluate: run a program over a data set and score every row."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tuneful.errors import ConstraintError, DataError, EvaluationError, MetricError, UsageError
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.remote import rollouts_in_flight, sharing
from tuneful.evaluate.result import EvaluationResult
from tuneful.evaluate.rollout import Row, roll_out
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.program.running.concurrency import gather_bounded
from tuneful.program.running.portal import portal
from tuneful.program.trace import paths_of
from tuneful.program.watching.watched import watched
from tuneful.progress import Bar, progress_bar
from tuneful.spec.example import Example
from tuneful.spec.inputs import check_inputs

#: An evaluation stops when this many of its first examples all fail in the user's code, whatever the reason.
FIRST_ITEMS = 3


class Evaluate:
    """Run a program over examples and score each.

    Args:
        devset: examples with inputs marked.
        metric: see `tuneful.evaluate.metric.Metric`. May be given at the call.
        num_threads: examples in flight; by default the setting, or as many as there are with an LM that batches, or as
            an executor runs at once, where one is set.
        display_progress: show a progress bar, where a person can see it.
        display_table: print a table of all rows (True) or of the first so many.
        max_errors: stop when more rows than this have failed. None is no limit.
        provide_traceback: accepted for programs of this field; a row's `error` always has the traceback.
        failure_score: score of a row on which the program failed.
        save_as_csv, save_as_json: files to write the rows to.
        timeout_s: seconds for one example, which is then cancelled.

    Cost: calls of the program, for each example, and of the metric where it is a program.

    Raises:
        DataError: no examples, or examples without inputs. Before any call.
        MetricError: the metric cannot be called, or raised on every one of the first examples.
        EvaluationError: the program raised on every one of the first examples, or on more than `max_errors`.
    """

    def __init__(
        self,
        *,
        devset: Sequence[Example],
        metric: Callable[..., Any] | Module | None = None,
        num_threads: int | None = None,
        display_progress: bool = False,
        display_table: bool | int = False,
        max_errors: int | None = None,
        provide_traceback: bool | None = None,
        failure_score: float = 0.0,
        save_as_csv: str | None = None,
        save_as_json: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.devset = [*devset] if isinstance(devset, Iterable) else devset  # checked below
        self.metric = metric
        self.num_threads = num_threads
        self.display_progress = display_progress
        self.display_table = display_table
        self.max_errors = max_errors
        self.failure_score = failure_score
        self.save_as_csv = save_as_csv
        self.save_as_json = save_as_json
        self.timeout_s = timeout_s
        check_examples(self.devset, "devset")

    def __call__(self, program: Module, metric: Callable[..., Any] | Module | None = None) -> EvaluationResult:
        """Evaluate a program and block until every row is done."""
        return portal.run(self.acall(program, metric))

    @watched("evaluate", lambda self, program, metric=None: (self, self._described(program, metric)))
    async def acall(self, program: Module, metric: Callable[..., Any] | Module | None = None) -> EvaluationResult:
        """Evaluate a program in the current event loop."""
        chosen = metric if metric is not None else self.metric
        if chosen is None:
            raise UsageError("Evaluate needs a metric: Evaluate(devset=..., metric=...).")
        judge = Metric(chosen)
        check_program(program, self.devset)
        begun = time.perf_counter()
        with progress_bar(len(self.devset), "evaluate", display=self.display_progress) as bar:
            rows = await self._rows(program, judge, bar)
        result = EvaluationResult(rows, time.perf_counter() - begun)
        if self.display_table:
            result.print_table(None if self.display_table is True else self.display_table)
        if self.save_as_csv:
            result.save_csv(self.save_as_csv)
        if self.save_as_json:
            result.save_json(self.save_as_json)
        return result

    def _described(self, program: Module, metric: Callable[..., Any] | Module | None) -> dict[str, Any]:
        """Return what callbacks are told of an evaluation."""
        return {"program": program, "metric": metric if metric is not None else self.metric, "devset": self.devset}

    async def _rows(self, program: Module, metric: Metric, bar: Bar) -> list[Row]:
        watch = Watch(len(self.devset), self.max_errors)
        paths = paths_of(program)

        async def one(item: tuple[int, Example]) -> Row:
            number, example = item
            row = await roll_out(
                program,
                example,
                metric,
                timeout_s=self.timeout_s,
                failure_score=self.failure_score,
                paths=paths,
            )
            watch.add(number, row)
            bar.advance(watch.shown)
            return row

        with sharing():
            return await gather_bounded(
                list(enumerate(self.devset)), one, await rollouts_in_flight(self.num_threads, program)
            )


class Watch:
    """Watches rows, and stops a run that is hopeless. Its cost does not grow with the rows.

    It judges rows in their order, whichever is done first: a row is looked at when all before it are done. So a run
    that is repeated stops at the same row, with the same words, whatever the timing.

    Args:
        total: rows to come.
        max_errors: stop when more rows than this have failed; None is no limit.
    """

    def __init__(self, total: int, max_errors: int | None = None) -> None:
        self._first = min(FIRST_ITEMS, total)
        self._max_errors = max_errors
        self._early: dict[int, Row] = {}  # done before some row that comes before them
        self._rows: list[Row] = []
        self._news = 0
        self._failed = 0
        self._scored = 0
        self._sum = 0.0

    @property
    def mean(self) -> float | None:
        """Mean score so far."""
        return self._sum / self._scored if self._scored else None

    def shown(self) -> str:
        """Return the mean as text."""
        return "" if self.mean is None else f"{100 * self.mean:.1f} %"

    def add(self, number: int, row: Row, *, known: bool = False) -> None:
        """Take a row that is done.

        Args:
            number: its place among all rows, from 0 on.
            row: the row.
            known: whether it was run before, by a run that went on after it.

        Raises:
            MetricError, EvaluationError: the first rows all failed in the user's code, or too many rows have failed.
        """
        if row.score is not None:
            self._scored += 1
            self._sum += row.score
        self._news += not known
        self._early[number] = row
        while (following := self._early.pop(len(self._rows), None)) is not None:
            self._look_at(following)

    def _look_at(self, row: Row) -> None:
        self._rows.append(row)
        self._failed += row.status != "ok"
        if self._failed == len(self._rows) == self._first and self._news:
            self._stop_if_all_broken()
        if self._max_errors is not None and self._failed > self._max_errors:
            message = (
                f"{self._failed} examples failed, more than max_errors={self._max_errors}. The last one:\n{row.error}"
            )
            raise EvaluationError(message, rows=self._rows) from row.cause

    def _stop_if_all_broken(self) -> None:
        if any(r.status not in ("metric_error", "program_error") for r in self._rows):
            return
        if any(isinstance(r.cause, ConstraintError) for r in self._rows):  # the program is whole; the model failed it
            return
        row = self._rows[0]
        what = "metric" if row.status == "metric_error" else "program"
        message = (
            f"the {what} raised on every one of the first {len(self._rows)} examples, so the run was stopped. "
            f"The first time:\n{row.error}"
        )
        if what == "metric":
            raise MetricError(message) from row.cause
        raise EvaluationError(message, rows=self._rows) from row.cause


def check_list(examples: Any, name: str) -> None:
    """Raise DataError unless it is a list of examples, with at least one. No model is called."""
    if isinstance(examples, (str, bytes)) or not isinstance(examples, Sequence):
        raise DataError(
            f"`{name}` is a {type(examples).__name__}; expected a list of examples, which is read more than once: "
            "[tf.Example(row).with_inputs(...) for row in ...]."
        )
    if not examples:
        raise DataError(f"`{name}` is empty; it needs at least one example.")
    for i, example in enumerate(examples):
        if not isinstance(example, Example):
            raise DataError(f"`{name}[{i}]` is a {type(example).__name__}, not an Example: tf.Example({{...}}).")


def check_examples(examples: Sequence[Any], name: str) -> None:
    """Raise DataError unless there are examples, all with inputs marked. No model is called."""
    check_list(examples, name)
    for i, example in enumerate(examples):
        if not example.has_inputs:
            raise DataError(
                f"`{name}[{i}]` does not say which of its fields are inputs: "
                f"call `.with_inputs(...)` with some of: {', '.join(example.keys())}."
            )


def check_program(program: Any, examples: Sequence[Example]) -> None:
    """Raise unless the examples' inputs are what the program's `forward` takes. No model is called."""
    if not isinstance(program, Module):
        raise UsageError(f"a program is a tf.Module, got {program!r:.80}.")
    shape = inspect.signature(program.forward)
    seen: set[tuple[str, ...]] = set()
    for i, example in enumerate(examples):
        inputs = dict(example.inputs().items())
        if isinstance(program, Predict):
            check_inputs(program.signature, inputs, f"example {i}")
            continue
        if (names := tuple(inputs)) in seen:
            continue
        seen.add(names)
        try:
            shape.bind(**inputs)
        except TypeError as error:
            raise DataError(
                f"example {i} does not fit the program: {type(program).__name__}.forward{shape} cannot take the inputs "
                f"{', '.join(inputs)}: {error}. Mark other inputs with `.with_inputs(...)`. No model was called."
            ) from error
