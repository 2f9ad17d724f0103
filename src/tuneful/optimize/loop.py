"""The one loop: it runs any recipe, and owns evaluation, budget, journal, the held-out split, statistics and report.

The search sees the search rows only. What it proposes is then compared with the original on the held-out rows, paired
row by row; a gain that could be noise is not returned. Every rollout is a journal record, and the loop works on the
records alone, so a run that was stopped replays them and goes on, to the same result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tuneful.backends.cache import Cache
from tuneful.backends.metered import metered
from tuneful.errors import BudgetExceeded, TunefulError
from tuneful.evaluate.duplicates import warn_of_duplicates
from tuneful.evaluate.evaluate import Watch
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.remote import sharing
from tuneful.optimize.chronicle import Chronicle
from tuneful.optimize.estimate import estimate
from tuneful.optimize.evidence import MOST_PAIRS, Evidence, paired
from tuneful.optimize.facts import hash_of
from tuneful.optimize.gate import Gate, models_of
from tuneful.optimize.held_out import HeldOut
from tuneful.optimize.interrupt import Stop, Stopped
from tuneful.optimize.jobs import result_of
from tuneful.optimize.plan import Plan
from tuneful.optimize.prompts import prompts, size
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.report import CompileReport
from tuneful.optimize.reserve import Reserve, Work
from tuneful.optimize.runner import Batch, Runner
from tuneful.optimize.task import (
    BOUND,
    LARGEST_HOLD_OUT,
    Task,
    check_compared,
    check_history,
    check_metric,
    check_rows,
    check_run,
    check_student,
    check_teacher,
    held,
    split,
    teacher_of,
)
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, Trial, has_demos
from tuneful.optimize.verdict import Verdict
from tuneful.program.demos.teaching import as_taught, taught_paths
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.running.concurrency import gather_bounded, in_flight
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import context, current_cache, settings
from tuneful.program.vectors.embedder import Embedder
from tuneful.spec.example import Example
from tuneful.store.journal import Journal

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass
class Loop:
    """One compile."""

    recipe: Recipe
    task: Task
    stop: Stop = field(default_factory=Stop)

    def __post_init__(self) -> None:
        check_student(self.task.student)
        check_metric(self.recipe)
        check_run(self.task)
        self.metric = None if self.recipe.metric is None else Metric(self.recipe.metric)
        self.search, self.held_out, self.positions = split(self.task, validated=self.metric is not None)
        self.student = self.task.student.deepcopy()
        other = self.task.replaces or self.task.as_given
        self.original = self.student if other is None else other.deepcopy()
        self.teacher = teacher_of(self.task, self.recipe)
        self.taught = taught_paths(self.teacher, self.student)
        self.brief = _brief(self)
        check_rows(self.task, run=self.metric is not None or self.recipe.rollouts(self.brief)[1] > 0)
        check_teacher(self.task, related=bool(self.taught) or not self.recipe.related_teacher)
        self.meter = Gate(self.task.budget)
        self.reserve = Reserve(self.meter, lambda candidate, who: size(self._program(candidate, who)))
        self.curtailed = ""
        self.compares = bool(self.held_out) and self.metric is not None
        self.rows = [*self.held_out, *self._further_rows()]
        check_compared(self.task, compared=self.compares)

    async def run(self) -> Any:
        """Search, compare, report; return the program."""
        with await portal.in_thread(lambda: held(self.task)):  # it may wait for one that is being cancelled here
            return await self._run()

    async def _run(self) -> Any:
        self.chronicle = Chronicle(self.meter, self.brief, self.positions, self.task.run)
        about = self._about()
        about["settings"].pop("num_threads", None)  # it may go on with others
        self.chronicle.begin({**about, "data_hash": self._data_hash()})
        try:
            with context(**self._ambient()), metered(self.meter), sharing():
                report = await self._run_all()
        except BaseException as error:
            self.chronicle.end(_ended_by(error, stopping=self.stop.requested))
            raise
        self.chronicle.end(report.stop_reason, report.to_json())
        program = self.student.with_parameters(report.candidate) if report.improved else self.original.deepcopy()
        program.__dict__["_report"] = report
        return program

    async def _run_all(self) -> CompileReport:
        self.meter.models = await portal.in_thread(self._models)
        self.planned = await portal.in_thread(self._planned)
        await portal.in_thread(self._check_splits)
        self.state = await portal.in_thread(lambda: self.recipe.init(self.brief))
        with Journal(settings.journal, self.task.run, self.task.history) as self.journal:
            check_history(self.journal, self.task)
            goals, watch = self.task.objectives, Watch(len(self.search))
            known = (*self.search, *self.held_out)
            self.chronicle.expect(len(self.journal))
            self.runner = Runner(
                self.recipe, self.metric, goals, watch, self.meter, self.chronicle, self.journal, known
            )
            reason = await self._until_stopped("search", self._search()) or self.curtailed
            finalists = await portal.in_thread(self._finalists)
            held_out = HeldOut(self.task, self.original, self.student, self.rows, finalists)
            if finalists and self.compares and not self.stop.requested:
                work = held_out.run(self.runner, self.reserve, self.chronicle)
                cut = await self._until_stopped("comparison", work)
                reason = f"{cut}, after {held_out.compared} of {len(self.rows)} rows" if cut else reason
        self.chronicle.check_replays()
        self.chronicle.check_scores()
        verdict = held_out.verdict(scored=self.metric is not None, stopped=reason)
        evidence = await portal.in_thread(lambda: self._evidence(held_out, verdict))
        return self._report(verdict, reason or "finished", evidence)

    async def _until_stopped(self, part: str, work: Coroutine[Any, Any, None]) -> str:
        """Run a part of the compile; returns what ended it before its end, if anything did."""
        try:
            await self.stop.guard(work)
        except BudgetExceeded as reached:
            return f"the budget's limit on {reached.limit} was reached during the {part}"
        except Stopped:
            return f"interrupted (Ctrl-C) during the {part}"
        return ""

    async def _search(self) -> None:
        with self.chronicle.during("search", self.recipe.rollouts(self.brief)[1]):
            while True:
                if jobs := await self._of(self.recipe.jobs):
                    if not await portal.in_thread(self._room_for_jobs):
                        break
                    spent = self.reserve.spent()
                    found = await gather_bounded(jobs, self._do, in_flight(None, self.student))
                    self.reserve.note_jobs(spent)
                    self.state = await self._of(self.recipe.done, list(zip(jobs, found, strict=True)))
                elif asked := await self._of(self.recipe.ask):
                    trials = await portal.in_thread(lambda: self._affordable(asked))
                    if not trials:
                        break
                    await self._try(trials)
                else:
                    break
                _log.info("search: %s", "; ".join(self.recipe.found(self.brief, self.state)) or "going on")

    async def _of(self, method: Callable[..., T], *given: Any) -> T:
        """Return what the recipe says: in a thread, since it may compute for a while, and render prompts."""
        return await portal.in_thread(lambda: method(self.brief, self.state, *given))

    def _finalists(self) -> list[Candidate]:
        """Return what is compared: the recipe's choice, where costs count what is cheaper, and none twice.

        The student as it is stands among them only where it is not what they are compared with.
        """
        found = list(self.recipe.finalists(self.brief, self.state))
        found += self.chronicle.cheaper(self.task.objectives.minimized)
        found += [] if self.task.replaces is None else [{}]
        return [c for i, c in enumerate(found) if c not in found[:i] and (c or self.task.replaces is not None)]

    def _affordable(self, trials: Sequence[Trial]) -> Sequence[Trial]:
        """Return those of the trials that leave the comparison its share of the budget.

        Where the search has found something, that is all of them or none: then it ends here. Before that, and where
        none of them was run before, it is the first ones; where there is no room for any, and nothing found, all of
        them run as far as the budget goes.
        """
        if not self.compares:
            return trials
        finalists, kept = self._finalists(), self._kept()
        whole = bool(finalists) and any(t.candidate and self.reserve.ran(t.candidate) for t in trials)
        room, limit = len(trials), None
        while room and (short := self.reserve.short_of([*((t.candidate, len(t.rows)) for t in trials[:room]), *kept])):
            room, limit = 0 if whole else room - 1, short
        if limit and (room or finalists):
            self.curtailed = f"the search ended early: the budget's limit on {limit} leaves the comparison"
        return trials[:room] if room or finalists else trials

    def _room_for_jobs(self) -> bool:
        """Say whether jobs leave the comparison its share, or there is nothing to compare yet."""
        if not self.compares or not self._finalists():
            return True
        if limit := self.reserve.short_of(self._kept(), jobs=True):
            self.curtailed = f"the search ended early: the budget's limit on {limit} leaves the comparison"
        return not limit

    def _kept(self) -> Work:
        """Return the rollouts that the comparison takes: of the original, and of what is compared with it."""
        found: Sequence[Candidate | None] = self._finalists() or [None]
        return [(candidate, len(self.rows)) for candidate in [{}, *found]]

    # --- running ---

    async def _do(self, job: Job) -> Any:
        return await result_of(job, self.recipe, self.brief, self.journal, self.meter, self.chronicle)

    def _ambient(self) -> dict[str, Any]:
        """Return settings of the run.

        A candidate that changes a later step asks the earlier ones the same again: the cache answers that. Where the
        user has none, one in memory does, for as long as the compile takes.
        """
        threads = {"num_threads": self.recipe.num_threads} if self.recipe.num_threads else {}
        if current_cache() is not None:
            return threads
        named = self.task.run is not None
        kept = Path(settings.journal).with_suffix(".calls.sqlite") if named else None  # rollouts that were cut short
        return {**threads, "cache": Cache(kept)}

    async def _try(self, trials: Sequence[Trial]) -> None:
        """Run trials side by side, and tell the recipe the outcomes of each.

        Where a clock or Ctrl-C breaks them off, no two runs are alike, and it is told of the first ones, as far as they
        are done. What the other limits break off it is not: which trials are done is decided by timing, and which wave
        is broken off is not.
        """
        results: list[tuple[Trial, list[Outcome]]] = []
        try:
            await self._results(trials, results)
        except (BudgetExceeded, asyncio.CancelledError) as broken_off:
            if results and getattr(broken_off, "limit", "seconds") == "seconds":
                self.state = await self._of(self.recipe.tell, results)
            raise
        self.state = await self._of(self.recipe.tell, results)

    async def _results(self, trials: Sequence[Trial], results: list[tuple[Trial, list[Outcome]]]) -> None:
        """Run trials side by side; put the outcomes of each into `results` once all before it are there."""

        def done(i: int, records: Sequence[Mapping[str, Any]]) -> None:
            results.append((trials[i], self._outcomes(trials[i], records)))
            self.chronicle.trial(*results[-1])
            self.reserve.note(trials[i].candidate, records, trials[i].who)

        await self.runner.records([self._batch(trial) for trial in trials], done)
        self.chronicle.check_replays()
        for outcome in (outcome for _, found in results for outcome in found):
            self.runner.origins.note(outcome.steps, self.search[outcome.row], self.brief.signatures)

    def _batch(self, trial: Trial) -> Batch:
        rows = [(self.brief.trainset[i], trial.leave_out) for i in trial.rows]
        settings = (self.recipe.teacher_settings or {}) if trial.who == "teacher" else {}
        program = self._program(trial.candidate, trial.who)
        return Batch(program, rows, trial, {k: v for k, v in settings.items() if k not in BOUND})

    def _program(self, candidate: Candidate, who: str) -> Module:
        owner = self.student if who == "student" else self.teacher
        known = owner.parameters()
        return owner.with_parameters({k: v for k, v in candidate.items() if k in known})

    def _outcomes(self, trial: Trial, records: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        found = []
        for i, record in zip(trial.rows, records, strict=True):
            steps = as_taught(record["steps"], self.taught) if trial.who == "teacher" else tuple(record["steps"])
            found.append(Outcome(i, record["score"], record["status"], steps, record))
        return found

    def _further_rows(self) -> Sequence[Example]:
        """Return search rows that are compared on too: none where the search has chosen by them."""
        alone = self.recipe.selects or self.recipe.trains or self.task.valset is not None
        if not self.compares or alone:
            return ()
        return self.search[: max(0, LARGEST_HOLD_OUT - len(self.held_out))]

    # --- what the report is made from ---

    def _evidence(self, held_out: HeldOut, verdict: Verdict) -> Evidence:
        old, new = held_out.of(verdict.candidate)
        tried, tried_left = self.chronicle.tried()
        inputs = {s["path"]: s["inputs"] for r in old[:1] for s in r["steps"]}
        left = {"held-out rows": max(0, len(old) - MOST_PAIRS), "candidates": tried_left}
        return Evidence(
            plan=self.planned,
            phases=self.meter.by_phase(),
            pairs=paired(self.rows, old, new),
            curve=self.chronicle.curve,
            tried=tried,
            demos=self.chronicle.demos(self.brief, verdict.candidate),
            prompts=prompts(self.student, verdict.candidate, inputs, self.search[0]),
            left_out={kind: n for kind, n in left.items() if n},
        )

    def _models(self) -> tuple[LM | Embedder, ...]:
        return models_of(self.recipe, self.brief, [self.student, self.original, self.teacher])

    def _about(self) -> dict[str, Any]:
        return {
            "teleprompter": type(self.recipe).__name__,
            "settings": self.recipe.settings(),
            "seed": self.task.seed,
        }

    def _data_hash(self) -> str:
        return hash_of([e.content_hash() for e in (*self.search, *self.held_out)])

    def _check_splits(self) -> None:
        if self.metric is not None and (known := warn_of_duplicates(self.search, self.held_out)):
            self.chronicle.warnings["held-out row among the search rows"] = known

    def _planned(self) -> Plan | None:
        """Return the plan to compare with what is spent; None where no prompt can be made (the run will say why)."""
        try:
            with context(callbacks=()):  # what is rendered for the plan is sent to nobody
                return self.plan()
        except TunefulError as error:
            _log.warning("no plan could be made: %s", error)
            return None

    def plan(self, calls_per_run: float | None = None) -> Plan:
        """Return what the compile will take; see `Teleprompter.plan`."""
        return estimate(
            self.recipe,
            student=self.student,
            teacher=self.teacher,
            search=self.search,
            rollouts=self.recipe.rollouts(self.brief),
            proposals=self.recipe.proposals(self.brief),
            compared=len(self.rows) if self.metric is not None else 0,
            calls_per_run=calls_per_run,
        )

    def _report(self, verdict: Verdict, stop_reason: str, evidence: Evidence) -> CompileReport:
        told = self.chronicle
        return CompileReport(
            **vars(verdict),
            **self._about(),
            stop_reason=stop_reason,
            found=self.recipe.found(self.brief, self.state),
            warnings=dict(told.warnings),
            usage=self.meter.usage,
            seconds=self.meter.seconds,
            replayed=told.replayed.total(),
            search_rows=len(self.search),
            held_out_rows=len(self.held_out),
            compared_rows=len(self.rows),
            data_hash=self._data_hash(),
            models=[m for m in told.models if m],
            ranked=self.recipe.ranked(self.brief, self.state),
            student=self.student,
            original=None if self.original is self.student else self.original,
            objectives=self.task.objectives,
            run=self.task.run,
            taken_over={name: n for name, n in told.replayed.items() if name},
            evidence=evidence,
        )


def _ended_by(error: BaseException, *, stopping: bool) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "stopped at once (a second Ctrl-C)" if stopping else "cancelled"
    return f"ended by an error: {type(error).__name__}: {error!s:.200}"


def _brief(loop: Loop) -> Brief:
    return Brief(
        parameters=loop.student.parameters(),
        signatures={path: p.signature for path, p in loop.student.named_predictors()},
        trainset=loop.search,
        seed=loop.task.seed,
        teacher_has_demos=has_demos(loop.teacher),
        student=loop.student,
        own_teacher=loop.task.teacher is None,
        budget=loop.task.budget,
        held_out=len(loop.held_out),
        objectives=loop.task.objectives,
    )
