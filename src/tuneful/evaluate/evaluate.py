"""Evaluate: run a program over a data set and score every row."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

from tuneful.errors import DataError, EvaluationError, MetricError, UsageError
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.progress import Bar, progress_bar
from tuneful.evaluate.result import EvaluationResult
from tuneful.evaluate.rollout import Row, roll_out
from tuneful.program.concurrency import gather_bounded
from tuneful.program.module import Module
from tuneful.program.portal import portal
from tuneful.program.predict import Predict
from tuneful.program.runtime import settings
from tuneful.spec.example import Example
from tuneful.spec.inputs import check_inputs

#: An evaluation stops when this many of its first examples all fail in the user's code, whatever the reason.
FIRST_ITEMS = 3


class Evaluate:
    """Run a program over examples and score each.

    Args:
        devset: examples with inputs marked.
        metric: see `tuneful.evaluate.metric.Metric`. May be given at the call.
        num_threads: examples in flight; by default the setting.
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
        self.devset = list(devset)
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

    async def _rows(self, program: Module, metric: Metric, bar: Bar) -> list[Row]:
        done: list[Row] = []

        async def one(example: Example) -> Row:
            row = await roll_out(program, example, metric, timeout_s=self.timeout_s, failure_score=self.failure_score)
            done.append(row)
            stop_if_hopeless(done, len(self.devset), self.max_errors)
            scores = [r.score for r in done if r.score is not None]
            bar.advance(f"{100 * sum(scores) / len(scores):.1f} %" if scores else "")
            return row

        return await gather_bounded(self.devset, one, self.num_threads or settings.num_threads)


def stop_if_hopeless(done: Sequence[Row], total: int, max_errors: int | None = None) -> None:
    """Raise once the first rows all failed in the user's code, or more than `max_errors` rows failed."""
    failed = [r for r in done if r.status != "ok"]
    first = min(FIRST_ITEMS, total)
    if len(done) == len(failed) >= first:
        broken = [r for r in failed if r.status in ("metric_error", "program_error")]
        if len(broken) == len(failed):
            row = broken[0]
            what = "metric" if row.status == "metric_error" else "program"
            message = (
                f"the {what} raised on every one of the first {len(failed)} examples, so the run was stopped. "
                f"The first time:\n{row.error}"
            )
            if what == "metric":
                raise MetricError(message) from row.cause
            raise EvaluationError(message, rows=done) from row.cause
    if max_errors is not None and len(failed) > max_errors:
        last = failed[-1]
        message = f"{len(failed)} examples failed, more than max_errors={max_errors}. The last one:\n{last.error}"
        raise EvaluationError(message, rows=done) from last.cause


def check_examples(examples: Sequence[Any], name: str) -> None:
    """Raise DataError unless there are examples, all with inputs marked. No model is called."""
    if not examples:
        raise DataError(f"`{name}` is empty; it needs at least one example.")
    for i, example in enumerate(examples):
        if not isinstance(example, Example):
            raise DataError(f"`{name}[{i}]` is a {type(example).__name__}, not an Example: tf.Example({{...}}).")
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
    for i, example in enumerate(examples):
        inputs = dict(example.inputs().items())
        if isinstance(program, Predict):
            check_inputs(program.signature, inputs, f"example {i}")
            continue
        try:
            shape.bind(**inputs)
        except TypeError as error:
            raise DataError(
                f"example {i} does not fit the program: {type(program).__name__}.forward{shape} cannot take the inputs "
                f"{', '.join(inputs)}: {error}. Mark other inputs with `.with_inputs(...)`. No model was called."
            ) from error
