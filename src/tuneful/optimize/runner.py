"""Rollouts of a compile: each is a journal record, paid for once, whoever asks for it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.backends.budget import Meter
from tuneful.backends.metered import current_phase
from tuneful.evaluate.evaluate import FIRST_ITEMS, Watch
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.remote import rollouts_in_flight, sharing
from tuneful.evaluate.rollout import Row, roll_out
from tuneful.optimize.chronicle import Chronicle
from tuneful.optimize.identity import fingerprint, key_of, metric_fingerprint
from tuneful.optimize.leave_out import without_own_demos
from tuneful.optimize.objectives import Objectives
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.record import taken_over, to_record
from tuneful.optimize.trial import Trial
from tuneful.program.module import Module
from tuneful.program.running.concurrency import gather_bounded
from tuneful.program.running.runtime import rollout
from tuneful.spec.example import Example
from tuneful.store.journal import Journal
from tuneful.wire.response import Usage


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
    """

    recipe: Recipe
    metric: Metric | None
    objectives: Objectives
    watch: Watch
    meter: Meter
    chronicle: Chronicle
    journal: Journal

    def __post_init__(self) -> None:
        self._metric_identity = metric_fingerprint(self.recipe.metric)
        self._watched = 0
        self._accounted: set[str] = set()

    async def in_flight(self, program: Module) -> int:
        """Return how many rollouts of a program run at once."""
        return await rollouts_in_flight(self.recipe.num_threads, program)

    async def records(
        self, program: Module, rows: Sequence[tuple[Example, bool]], trial: Trial
    ) -> list[Mapping[str, Any]]:
        """Return the record of each row, as the objectives judge it.

        Args:
            program: what is run.
            rows: examples, each with whether the demos that were made from it are left out.
            trial: how it is run; what it says of rows and candidate is not read.
        """
        own = fingerprint(program)

        async def one(row: tuple[Example, bool]) -> Mapping[str, Any]:
            example, leave_out = row
            ready = without_own_demos(program, example) if leave_out else program
            return await self._record(ready, own if ready is program else fingerprint(ready), example, trial)

        with sharing():
            return await gather_bounded(rows, one, await self.in_flight(program))

    async def _record(self, program: Module, identity: str, example: Example, trial: Trial) -> Mapping[str, Any]:
        """Return the record of a rollout, from the journal or by running it.

        Failures of the infrastructure are not kept, so that a resumed run tries them again.
        """
        key = key_of(identity, self._metric_identity, example, trial)
        again = False
        record = self._known(key)
        if record is None:
            with rollout(trial.sample):
                row = await roll_out(
                    program, example, self.metric, bootstrapping=trial.bootstrapping, by_step=trial.by_step
                )
            self._look_at(row)
            record = to_record(row)
            if row.status != "infra_error":
                self.journal.write(key, record)
        elif not (again := key in self._accounted):  # what this process has paid for itself is in the account already
            self.chronicle.replayed[record.get("from", "")] += 1
            self.meter.restore(Usage(**record["usage"]), current_phase())
        self._accounted.add(key)
        judged = self.objectives.judged(record)
        self.chronicle.record(judged, again=again)
        return judged

    def _known(self, key: str) -> Mapping[str, Any] | None:
        """Return the record that this run or an earlier one has, which is then this run's too."""
        record = self.journal.read(key)
        if record is None and (other := self.journal.of_others(key)) is not None:
            record = taken_over(other[1], other[0])
            self.journal.write(key, record)
        return record

    def _look_at(self, row: Row) -> None:
        """Raise where the first rows of all fail in the user's code. Later a candidate may be what fails: it loses."""
        if self._watched < FIRST_ITEMS:
            self._watched += 1
            self.watch.add(row)
