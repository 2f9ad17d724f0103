"""Rollout: one run of a program on one example, scored. The fence at which a failure becomes data."""

from __future__ import annotations

import asyncio
import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from tuneful.backends.budget import Meter
from tuneful.backends.metered import metered
from tuneful.errors import (
    AdapterParseError,
    BudgetExceeded,
    CacheMissError,
    ExitError,
    LMAuthError,
    MissingExtraError,
    NotConfiguredError,
)
from tuneful.evaluate.infrastructure import inner_errors, is_infrastructure
from tuneful.evaluate.metric import Metric
from tuneful.program.module import Module
from tuneful.program.running.runtime import settings
from tuneful.program.trace import Trace, recording
from tuneful.spec.example import Example
from tuneful.spec.prediction import Prediction
from tuneful.wire.response import Usage

Status = Literal["ok", "parse_error", "infra_error", "metric_error", "program_error", "timeout"]

#: Statuses whose failure is the program's own: they count, with the failure score. The others say nothing about the
#: program and are left out of the mean.
COUNTED: tuple[Status, ...] = ("ok", "parse_error", "program_error", "timeout")

#: Statuses that another attempt may change, the program being the same: a compile that goes on tries such rows again.
#: A metric is mended where its failure was its own, or something that it uses is.
PASSING: tuple[Status, ...] = ("infra_error", "metric_error")

#: What is raised at once instead of becoming the status of a row: going on could only repeat it, or spend.
MUST_ACT = (BudgetExceeded, LMAuthError, NotConfiguredError, MissingExtraError, CacheMissError)


@dataclass(slots=True)
class Row:
    """What became of one example.

    Args:
        example: the example.
        prediction: what the program returned, or None.
        score: the metric's value; the failure score where the program failed; None where nothing can be said.
        status: "ok"; "parse_error" (the answer does not fit the signature); "program_error" (`forward` raised, or
            called `sys.exit`); "timeout" (`timeout_s` was up); "infra_error" (a model, a retriever, a network or a
            service failed, in `forward` or in the metric: see `is_infrastructure`); "metric_error" (the metric raised
            anything else, or exited).
        seconds: wall time of program and metric.
        cost_usd: cost of program and metric, or None where a price is not known.
        feedback: the metric's words, where it gave any.
        feedback_by_step: its words on single steps, by path, where it was asked for them.
        error: the message of what was raised, with its traceback, or None.
        trace: the steps of the run.
    """

    example: Example
    prediction: Any = None
    score: float | None = None
    status: Status = "ok"
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    feedback: str | None = None
    feedback_by_step: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    cause: BaseException | None = None
    trace: Trace = field(default_factory=Trace)

    @property
    def cost_usd(self) -> float | None:
        """US dollars."""
        return self.usage.cost_usd


async def roll_out(
    program: Module,
    example: Example,
    metric: Metric | None,
    *,
    timeout_s: float | None = None,
    failure_score: float = 0.0,
    bootstrapping: bool = False,
    by_step: bool = False,
    paths: dict[int, str] | None = None,
) -> Row:
    """Run a program on an example and score it, here or by the executor in force.

    What the caller must act on is raised (`MUST_ACT`); every other failure becomes the status of the row. `paths` are
    the program's `paths_of`, where it runs many times. `by_step` asks the metric for feedback on each predictor that
    ran, where it gives any: one more call of the metric for each.
    """
    options: dict[str, Any] = {
        "timeout_s": timeout_s,
        "failure_score": failure_score,
        "bootstrapping": bootstrapping,
        "by_step": by_step,
    }
    if settings.executor is None:
        return await roll_out_here(program, example, metric, paths=paths, **options)
    from tuneful.evaluate.remote import roll_out_there  # it imports this module

    return await roll_out_there(program, example, metric, **options)


async def roll_out_here(
    program: Module,
    example: Example,
    metric: Metric | None,
    *,
    timeout_s: float | None,
    failure_score: float,
    bootstrapping: bool,
    by_step: bool,
    paths: dict[int, str] | None,
) -> Row:
    """Do what `roll_out` does, in this process."""
    row = Row(example)
    begun = time.perf_counter()
    with metered(Meter()) as meter:
        try:
            async with asyncio.timeout(timeout_s) if timeout_s is not None else nullcontext():
                await _run(row, program, paths)
                if row.status == "ok" and metric is not None:
                    await _judge(row, metric, program if by_step else None, bootstrapping=bootstrapping)
        except TimeoutError as error:
            _fail(row, "timeout", error)
            row.error = f"the example took longer than {timeout_s:g} s and was cancelled."
    row.seconds = time.perf_counter() - begun
    row.usage = meter.usage
    if row.status != "ok":
        row.score = failure_score if row.status in COUNTED else None
    return row


async def _run(row: Row, program: Module, paths: dict[int, str] | None) -> None:
    with recording(program, paths) as recorder:
        row.trace = recorder.trace
        try:
            row.prediction = await program.acall(**dict(row.example.inputs().items()))
        except AdapterParseError as error:
            _fail(row, "parse_error", error)
        except Exception as error:  # noqa: BLE001 (the per-example fence: a failure of the user's code becomes data)
            _fail(row, _judged(error, "program_error"), error)
        except SystemExit as error:
            _fail(row, "program_error", ExitError.of("the program", error))
        else:
            if hasattr(row.prediction, "__dict__"):
                row.prediction.__dict__["_trace"] = recorder.trace


async def _judge(row: Row, metric: Metric, of: Module | None, *, bootstrapping: bool) -> None:
    try:
        score = await metric(row.example, row.prediction, row.trace if bootstrapping else None)
        by_step = await _of_steps(row, metric, of) if of is not None and metric.speaks_of_steps else {}
    except Exception as error:  # noqa: BLE001 (the per-example fence: a failure of the user's code becomes data)
        _fail(row, _judged(error, "metric_error"), error)
    except SystemExit as error:
        _fail(row, "metric_error", ExitError.of("the metric", error))
    else:
        row.score, row.feedback, row.feedback_by_step = score.value, score.feedback, by_step


async def _of_steps(row: Row, metric: Metric, program: Module) -> dict[str, str]:
    """Return what the metric says of each predictor that ran, by path."""
    found: dict[str, str] = {}
    for path, predictor in program.named_predictors():
        calls = [(predictor, step.inputs, Prediction(step.outputs)) for step in row.trace.of(path)]
        if calls:
            said = await metric.of_step(row.example, row.prediction, row.trace, path or "self", calls)
            found |= {path: said.feedback} if said.feedback else {}
    return found


def _judged(error: Exception, own: Status) -> Status:
    """Return the status for what somebody's code raised: `own` where it is that code's fault."""
    raise_if_must_act(error)
    return "infra_error" if is_infrastructure(error) else own


def raise_if_must_act(error: BaseException) -> None:
    """Raise what the caller must act on, also where somebody's code put it into an exception of its own, or a group."""
    for one in inner_errors(error):
        if isinstance(one, MUST_ACT):
            raise one


def _fail(row: Row, status: Status, error: BaseException) -> None:
    row.status = status
    row.cause = error
    row.error = "".join(traceback.format_exception(error)).rstrip()
