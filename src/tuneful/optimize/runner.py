"""Rollouts of a compile: each is a journal record, paid for once, whoever asks for it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import ReferenceType, ref

from tuneful.backends.budget import Meter
from tuneful.backends.metered import current_phase
from tuneful.evaluate.evaluate import FIRST_ITEMS, Watch
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.remote import rollouts_in_flight, sharing
from tuneful.evaluate.rollout import PASSING, Row, roll_out
from tuneful.optimize.chronicle import Chronicle
from tuneful.optimize.facts import Facts
from tuneful.optimize.identity import fixed, key_of, metric_fingerprint, with_values
from tuneful.optimize.leave_out import Origins, Places, without_own
from tuneful.optimize.objectives import Objectives
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.record import taken_over, to_record
from tuneful.optimize.trial import Trial
from tuneful.program.module import Module
from tuneful.program.running.concurrency import gather_bounded
from tuneful.program.running.runtime import context, rollout
from tuneful.spec.example import Example
from tuneful.store.journal import Journal
from tuneful.wire.response import Usage

#: What stands before the key of a record that says what a row has cost on which the metric raised, and no more.
_UNSCORED = "unscored "


@dataclass(frozen=True)
class Batch:
    """A program, and the rows to run it on.

    Args:
        program: what is run.
        rows: examples, each with whether the demos that were made from it are left out.
        trial: how it is run; what it says of rows and candidate is not read.
        settings: those in force meanwhile, beside the ambient ones.
    """

    program: Module
    rows: Sequence[tuple[Example, bool]]
    trial: Trial = field(default_factory=lambda: Trial({}, ()))
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Runner:
    """Runs programs on rows, through the journal.

    Args:
        recipe: says how many rollouts run at once.
        metric: its metric, which scores a rollout.
        objectives: judge what the metric has scored.
        watch: looks at the first rollouts of all for failures of the user's code.
        meter, chronicle: what is told of the rollouts that a run before this one has paid for.
        journal: where records are kept.
        known_rows: all rows that programs are run on.
    """

    recipe: Recipe
    metric: Metric | None
    objectives: Objectives
    watch: Watch
    meter: Meter
    chronicle: Chronicle
    journal: Journal
    known_rows: Sequence[Example]

    def __post_init__(self) -> None:
        self._facts = Facts()
        self._metric_identity = metric_fingerprint(self.recipe.metric, self._facts)
        self._known_programs: dict[int, tuple[ReferenceType[Module], str]] = {}
        self._begun = 0  # rollouts so far
        self._accounted: set[str] = set()
        self._running: dict[str, asyncio.Event] = {}
        self._unscored: dict[str, Mapping[str, Any]] = {}  # what the metric raised on

    def _fixed(self, program: Module) -> str:
        """Return what a program was, parameters aside, when it was first run: what it notes in itself is no part."""
        known = self._known_programs.get(id(program))
        if known is None or known[0]() is not program:
            known = self._known_programs[id(program)] = ref(program), fixed(program, self._facts)
        return known[1]

    @cached_property
    def origins(self) -> Origins:
        """Which demos were made from which row; it is asked between waves, so that threads have no say in it."""
        return Origins(self.known_rows)

    async def in_flight(self, program: Module) -> int:
        """Return how many rollouts of a program run at once."""
        return await rollouts_in_flight(self.recipe.num_threads, program)

    async def records(
        self, batches: Sequence[Batch], done: Callable[[int, list[Mapping[str, Any]]], None] | None = None
    ) -> list[list[Mapping[str, Any]]]:
        """Return the records of each batch, row by row, as the objectives judge them.

        All run side by side, but in their order: prompts that begin alike follow one another, as prefix caches like it.

        Args:
            batches: what is run.
            done: called with the number of each batch and its records, in their order, as soon as they are there.
        """
        found: list[list[Any]] = [[None] * len(batch.rows) for batch in batches]
        left = [len(batch.rows) for batch in batches]
        upcoming = iter(enumerate(found))
        following = next(upcoming, None)

        def say() -> None:
            nonlocal following
            while following is not None and not left[following[0]]:
                if done is not None:
                    done(*following)
                following = next(upcoming, None)

        async def one(item: tuple[int, tuple[int, int]]) -> None:
            number, (batch, row) = item
            found[batch][row] = await self._row(batches[batch], own[batch], places[batch], row, number)
            left[batch] -= 1
            say()

        with sharing():
            own, limits, places = [], [1], []
            for batch in batches:
                left_out = any(leave_out for _, leave_out in batch.rows)
                places.append(self.origins.places(batch.program) if left_out else {})
                with context(**batch.settings):  # they decide who answers
                    own.append((what := self._fixed(batch.program), with_values(what, batch.program)))
                    limits.append(await self.in_flight(batch.program))
            say()
            items = [(i, j) for i, batch in enumerate(batches) for j in range(len(batch.rows))]
            numbered = list(enumerate(items, self._begun))
            self._begun += len(items)
            await gather_bounded(numbered, one, max(limits))
        return found

    async def _row(
        self, batch: Batch, own: tuple[str, str], places: Mapping[str, Places], row: int, number: int
    ) -> Mapping[str, Any]:
        """Return the record of a row of a batch.

        `own` is what its program is besides its parameters, and with them; `places`, where it shows rows' own demos;
        `number` counts rollouts.
        """
        example, leave_out = batch.rows[row]
        with context(**batch.settings):
            ready = without_own(batch.program, example, places) if leave_out else batch.program
            identity = own[1] if ready is batch.program else with_values(own[0], ready)
            return await self._record(ready, identity, example, batch.trial, number)

    async def _record(
        self, program: Module, identity: str, example: Example, trial: Trial, number: int
    ) -> Mapping[str, Any]:
        """Return the record of a rollout, from the journal or by running it.

        Failures that may pass (`PASSING`) are not kept, so that a resumed run tries them again. Within one process a
        metric that raised would only do so again; what its row has cost is kept for good.
        """
        key = key_of(identity, self._metric_identity, example, trial)
        while (same := self._running.get(key)) is not None:  # two candidates may be one program
            await same.wait()
        again = False
        if key not in self._accounted and (unscored := self.journal.read(_UNSCORED + key)) is not None:
            self.meter.restore(Usage(**unscored["usage"]), current_phase())
        record = self._known(key)
        if record is None:
            self._running[key] = asyncio.Event()
            try:
                record = await self._run(program, example, trial, key, number)
            finally:
                self._running.pop(key).set()
        else:
            self._look_at(Row(example, status=record["status"], error=record["error"]), number, known=True)
            if not (again := key in self._accounted):  # what this process has paid for itself is in the account already
                self.chronicle.replayed[record.get("from", "")] += 1
                self.meter.restore(Usage(**record["usage"]), current_phase())
        self._accounted.add(key)
        judged = self.objectives.judged(record)
        self.chronicle.record(judged, again=again)
        return judged

    async def _run(self, program: Module, example: Example, trial: Trial, key: str, number: int) -> Mapping[str, Any]:
        with rollout(trial.sample):
            row = await roll_out(
                program, example, self.metric, bootstrapping=trial.bootstrapping, by_step=trial.by_step
            )
        self._look_at(row, number)
        record = to_record(row)
        if row.status not in PASSING:
            self.journal.write(key, record)
        elif row.status == "metric_error":
            self._unscored[key] = record
            self.journal.write(_UNSCORED + key, record)
        return record

    def _known(self, key: str) -> Mapping[str, Any] | None:
        """Return the record that this run or an earlier one has, which is then this run's too."""
        record = self._unscored.get(key) or self.journal.read(key)
        if record is None and (other := self.journal.of_others(key)) is not None:
            record = taken_over(other[1], other[0])
            self.journal.write(key, record)
        return record

    def _look_at(self, row: Row, number: int, *, known: bool = False) -> None:
        """Raise where the first rows of all fail in the user's code. Later a candidate may be what fails: it loses."""
        if number < FIRST_ITEMS:
            self.watch.add(number, row, known=known)
