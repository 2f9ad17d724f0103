"""The one loop: it runs any recipe, and owns evaluation, budget, journal, the held-out split, statistics and report.

The search sees the search rows only. What it proposes is then compared with the original on the held-out rows, paired
row by row; a gain that could be noise is not returned. Every rollout is a journal record, and the loop works on the
records alone, so a run that was stopped replays them and goes on, to the same result.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneful.backends.budget import Budget, Meter
from tuneful.backends.metered import metered, phase
from tuneful.errors import BudgetExceeded, DataError, UsageError
from tuneful.evaluate.evaluate import Watch, check_examples, check_program
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.progress import Bar, progress_bar
from tuneful.evaluate.rollout import Row, roll_out
from tuneful.optimize.identity import fingerprint, hash_of, key_of, metric_fingerprint
from tuneful.optimize.plan import Phase, Plan, tokens_of
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.report import CompileReport
from tuneful.optimize.trial import Brief, Candidate, Outcome, State, Trial
from tuneful.optimize.verdict import Measured, Verdict, judge
from tuneful.program.concurrency import gather_bounded, in_flight
from tuneful.program.lm import current_lm
from tuneful.program.module import Module
from tuneful.program.rendered import Rendered
from tuneful.program.runtime import context, rollout, settings
from tuneful.spec.example import Example
from tuneful.store.journal import Journal
from tuneful.wire.response import Usage

_log = logging.getLogger(__name__)

#: Trainsets below this size are searched whole: too few rows would be left to hold out.
SMALLEST_SPLIT = 20

#: Most rows held out when no valset is given, and their share.
LARGEST_HOLD_OUT, HELD_OUT_SHARE = 200, 0.5

#: Held-out rows are run in blocks, original and candidates in turn, so that a budget that ends the run early still
#: leaves rows that all of them have.
BLOCK = 40


@dataclass(frozen=True)
class Task:
    """What a user hands to `compile`."""

    student: Module
    trainset: Sequence[Example]
    valset: Sequence[Example] | None
    teacher: Module | None
    budget: Budget
    run: str | None
    seed: int


@dataclass
class Loop:
    """One compile."""

    recipe: Recipe
    task: Task
    warnings: Counter[str] = field(default_factory=Counter)
    replayed: int = 0

    def __post_init__(self) -> None:
        _check_student(self.task.student)
        self.metric = None if self.recipe.metric is None else Metric(self.recipe.metric)
        self.search, self.held_out = split(self.task, validated=self.metric is not None)
        self.student = self.task.student.deepcopy()
        self.teacher = (self.task.teacher or self.student).deepcopy()
        self.brief = _brief(self)
        _check(self)
        self.metric_identity = metric_fingerprint(self.recipe.metric)
        self.meter = Meter(self.task.budget)
        self.models: dict[str, None] = {}

    async def run(self) -> Any:
        """Search, compare, report; return the program."""
        state = self.recipe.init(self.brief)
        finalists: list[Candidate] = []
        records: list[list[Mapping[str, Any]]] = []
        stop_reason = "finished"
        with Journal(settings.journal, self.task.run) as self.journal, metered(self.meter):
            try:
                while trials := self.recipe.ask(self.brief, state):
                    state = self.recipe.tell(self.brief, state, [(t, await self._run(t)) for t in trials])
                    _log.info("search: %s", "; ".join(self.recipe.found(self.brief, state)) or "going on")
            except BudgetExceeded as reached:
                stop_reason = f"the budget's limit on {reached.limit} was reached during the search"
            finalists = [c for c in self.recipe.finalists(self.brief, state) if c]
            if finalists and self.held_out and self.metric is not None:
                records = [[] for _ in range(len(finalists) + 1)]
                try:
                    await self._compare([{}, *finalists], records)
                except BudgetExceeded as reached:
                    stop_reason = f"the budget's limit on {reached.limit} was reached during the comparison"
        report = self._report(self._verdict(finalists, records), state, stop_reason)
        program = self.student.with_parameters(report.candidate if report.improved else {})
        program.__dict__["_report"] = report
        return program

    # --- running ---

    async def _run(self, trial: Trial) -> list[Outcome]:
        owner = self.student if trial.who == "student" else self.teacher
        known = owner.parameters()
        program = owner.with_parameters({k: v for k, v in trial.candidate.items() if k in known})
        ambient = self.recipe.teacher_settings if trial.who == "teacher" else None
        with context(**(ambient or {})):  # before the fingerprint: the settings decide who answers
            return await self._run_rows(trial, program)

    async def _run_rows(self, trial: Trial, program: Module) -> list[Outcome]:
        own = fingerprint(program)
        watch = Watch(len(self.search))

        async def one(index: int) -> Outcome:
            example = self.brief.trainset[index]
            ready = _without_own_demos(program, example) if trial.leave_out else program
            identity = own if ready is program else fingerprint(ready)
            record = await self._record(ready, identity, example, trial, watch)
            bar.advance()
            return Outcome(index, record["score"], record["status"], tuple(record["steps"]), record)

        with phase("search"), progress_bar(len(trial.rows), "search", display=True) as bar:
            return await gather_bounded(trial.rows, one, in_flight(None, program))

    async def _record(
        self, program: Module, identity: str, example: Example, trial: Trial, watch: Watch
    ) -> dict[str, Any]:
        """Return the record of a rollout, from the journal or by running it.

        Failures of the infrastructure are not kept, so that a resumed run tries them again.
        """
        key = key_of(identity, self.metric_identity, example, trial)
        record = self.journal.read(key)
        if record is None:
            with rollout(trial.sample):
                row = await roll_out(program, example, self.metric, bootstrapping=trial.bootstrapping)
            watch.add(row)
            record = _to_record(row)
            if row.status != "infra_error":
                self.journal.write(key, record)
        else:
            self.replayed += 1
            self.meter.restore(Usage(**record["usage"]))
        self._note(record)
        return record

    def _note(self, record: Mapping[str, Any]) -> None:
        if record["status"] != "ok":
            self.warnings[record["status"].replace("_", " ")] += 1
        for step in record["steps"]:
            self.warnings.update(step["noted"])
            self.models[step["model"]] = None

    async def _compare(self, candidates: list[Candidate], records: list[list[Mapping[str, Any]]]) -> None:
        """Run all candidates on the held-out rows, appending the records of each to its column."""
        programs = [self.student.with_parameters(c) for c in candidates]
        watches = [Watch(len(self.search)) for _ in programs]
        with phase("held-out"), progress_bar(len(programs) * len(self.held_out), "comparison", display=True) as bar:
            size = max(BLOCK, in_flight(None, self.student))
            for start in range(0, len(self.held_out), size):
                block = self.held_out[start : start + size]
                finished = [
                    await self._run_block(block, program, watch, bar)
                    for program, watch in zip(programs, watches, strict=True)
                ]
                for column, new in zip(records, finished, strict=True):
                    column.extend(new)
                means = ", ".join(f"{100 * Measured.of(column).mean:.1f} %" for column in records)
                _log.info("comparison: %d of %d held-out rows: %s", len(records[0]), len(self.held_out), means)

    async def _run_block(
        self, block: Sequence[Example], program: Module, watch: Watch, bar: Bar
    ) -> list[Mapping[str, Any]]:
        identity = fingerprint(program)

        async def one(example: Example) -> Mapping[str, Any]:
            record = await self._record(program, identity, example, Trial({}, ()), watch)
            bar.advance()
            return record

        return await gather_bounded(block, one, in_flight(None, program))

    # --- deciding ---

    def _verdict(self, finalists: list[Candidate], records: list[list[Mapping[str, Any]]]) -> Verdict:
        if not finalists:
            return Verdict("nothing learned", "nothing was learned: the original is returned", {})
        if records and records[0]:
            return judge(finalists, records, self.task.seed)
        if self.metric is not None and self.held_out:
            advice = "not compared, the budget ended before: the original is returned (the candidate is in the report)"
            return Verdict("not compared", advice, finalists[0])
        why = f"fewer than {SMALLEST_SPLIT} rows and no valset" if self.metric is not None else "there is no metric"
        return Verdict(
            "not validated", f"not validated ({why}): the compiled program is returned as it is", finalists[0]
        )

    def _report(self, verdict: Verdict, state: State, stop_reason: str) -> CompileReport:
        return CompileReport(
            **vars(verdict),
            teleprompter=type(self.recipe).__name__,
            settings=self.recipe.settings(),
            stop_reason=stop_reason,
            found=self.recipe.found(self.brief, state),
            warnings=dict(self.warnings),
            usage=self.meter.usage,
            seconds=self.meter.seconds,
            replayed=self.replayed,
            search_rows=len(self.search),
            held_out_rows=len(self.held_out),
            data_hash=hash_of([e.content_hash() for e in (*self.search, *self.held_out)]),
            seed=self.task.seed,
            models=[m for m in self.models if m],
        )


def split(task: Task, *, validated: bool) -> tuple[list[Example], list[Example]]:
    """Return the search rows and the held-out rows, by the seed and the size alone."""
    train = list(task.trainset)
    if task.valset is not None:
        return train, list(task.valset)
    if not validated or len(train) < SMALLEST_SPLIT:
        return train, []
    held = min(LARGEST_HOLD_OUT, int(len(train) * HELD_OUT_SHARE))
    order = Brief({}, {}, (), task.seed).stream("held-out").sample(range(len(train)), len(train))
    chosen = set(order[:held])
    return [e for i, e in enumerate(train) if i not in chosen], [train[i] for i in sorted(chosen)]


def _check_student(student: Any) -> None:
    if not isinstance(student, Module):
        raise UsageError(f"`compile` takes a program, a tf.Module, got {student!r:.80}.")
    if not student.named_predictors():
        raise UsageError(f"{type(student).__name__} has no predictor, so there is nothing to compile.")


def _check(loop: Loop) -> None:
    """Raise what can be known to be wrong before any call."""
    task = loop.task
    if not task.trainset:
        raise DataError("`trainset` is empty; it needs at least one example.")
    if loop.recipe.metric is not None or loop.recipe.rollouts(loop.brief)[1]:
        check_examples(task.trainset, "trainset")
        check_program(task.student, task.trainset)
    if task.valset is not None:
        check_examples(task.valset, "valset")
        check_program(task.student, task.valset)
    if task.teacher is not None:
        mine = {p for p, _ in task.student.named_predictors()}
        theirs = {p for p, _ in task.teacher.named_predictors()}
        if not mine & theirs:
            raise UsageError(
                f"the teacher shares no predictor with the student: {sorted(theirs)} against {sorted(mine)}. "
                "A teacher is the same program, compiled or with another LM."
            )


def _brief(loop: Loop) -> Brief:
    return Brief(
        parameters=loop.student.parameters(),
        signatures={path: p.signature for path, p in loop.student.named_predictors()},
        trainset=loop.search,
        seed=loop.task.seed,
        teacher_has_demos=any(p.demos for p in loop.teacher.predictors()),
    )


def _without_own_demos(program: Module, example: Example) -> Module:
    """Return the program without the demos that hold the example's own inputs."""
    own = example.inputs().to_dict()

    def is_own(demo: Mapping[str, Any] | Example) -> bool:
        shared = [k for k in own if k in demo]
        return bool(shared) and all(Example(demo).to_dict()[k] == own[k] for k in shared)

    if not any(is_own(d) for p in program.predictors() for d in p.demos):
        return program
    copy = program.deepcopy()
    for predictor in copy.predictors():
        predictor.demos = [d for d in predictor.demos if not is_own(d)]
    return copy


def _to_record(row: Row) -> dict[str, Any]:
    steps = [
        {
            "path": s.path,
            "inputs": Example(s.inputs).to_dict(),
            "outputs": Example(s.outputs).to_dict(),
            "model": s.model,
            "noted": s.noted,
        }
        for s in row.trace
    ]
    return {
        "score": row.score,
        "status": row.status,
        "feedback": row.feedback,
        "error": row.error,
        "seconds": round(row.seconds, 4),
        "usage": row.usage.to_json(),
        "steps": steps,
    }


def plan(recipe: Recipe, task: Task) -> Plan:
    """Return what a compile will take; see `Teleprompter.plan`."""
    loop = Loop(recipe, task)
    predictors = loop.student.named_predictors()
    rendered: dict[str, Rendered] = {path: p.render() for path, p in predictors}
    zero_shot = sum(tokens_of(r.messages) for r in rendered.values())
    longest = max(len(json.dumps(e.to_dict())) for e in task.trainset[:50]) // 4
    with_demos = zero_shot + len(predictors) * longest * 20
    search = recipe.rollouts(loop.brief)
    checked = 2 * len(loop.held_out) if loop.metric is not None else 0
    phases = [_phase("search", search, len(predictors), (zero_shot, with_demos))]
    phases.append(
        _phase("comparison", (0 if search[1] else checked, checked), len(predictors), (zero_shot, with_demos))
    )
    return Plan(tuple(phases), current_lm().price)


def _phase(name: str, rollouts: tuple[int, int], predictors: int, tokens: tuple[int, int]) -> Phase:
    low, high = rollouts
    return Phase(name, rollouts, (low * predictors, high * predictors), (low * tokens[0], high * tokens[1]))
