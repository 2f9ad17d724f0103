"""HeldOut: the original and the finalists side by side, on rows that the search never saw."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tuneful.optimize.chronicle import Chronicle
from tuneful.optimize.reserve import Reserve
from tuneful.optimize.runner import Batch, Runner
from tuneful.optimize.task import SMALLEST_SPLIT, Task
from tuneful.optimize.trial import Candidate
from tuneful.optimize.verdict import Measured, Verdict, judge
from tuneful.program.module import Module
from tuneful.program.running.portal import portal
from tuneful.spec.example import Example

_log = logging.getLogger(__name__)

#: Rows are run in blocks, original and finalists in turn, so that a budget that ends the run early still leaves rows
#: that all of them have.
BLOCK = 16

#: Journal records of one program, row by row.
Column = list[Mapping[str, Any]]


@dataclass
class HeldOut:
    """One comparison.

    Args:
        task: what is compiled, and what counts.
        original: what the finalists are compared with.
        student: the program that takes their values.
        rows: what all run on.
        finalists: the candidates that the search puts forward.
        columns: what has been run: the original's records, then those of each finalist; all have the same rows.
    """

    task: Task
    original: Module
    student: Module
    rows: Sequence[Example]
    finalists: Sequence[Candidate]
    columns: list[Column] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = [[] for _ in self._candidates]

    @property
    def _candidates(self) -> list[Candidate]:
        return [{}, *self.finalists]

    @property
    def compared(self) -> int:
        """How many rows all programs have run on."""
        return len(self.columns[0])

    async def run(self, runner: Runner, reserve: Reserve, chronicle: Chronicle) -> None:
        """Run all programs on the rows, block by block, as far as the budget goes."""
        programs = [self.original, *(self.student.with_parameters(c) for c in self.finalists)]
        with chronicle.during("comparison", len(programs) * len(self.rows), len(self.finalists)):
            rows = [(row, True) for row in self.rows]  # a student that was compiled before may show them
            size = max(BLOCK, await runner.in_flight(self.student))
            while left := rows[self.compared :]:
                block = left[: await portal.in_thread(partial(self._block, reserve, len(left), size))]
                finished = await runner.records([Batch(p, block) for p in programs])
                for candidate, column, new in zip(self._candidates, self.columns, finished, strict=True):
                    column.extend(new)
                    reserve.note(candidate, new)
                chronicle.compare([[r["score"] for r in c if r["score"] is not None] for c in self.columns[1:]])
                means = ", ".join(f"{100 * Measured.of(column).mean:.1f} %" for column in self.columns)
                _log.info("comparison: %d of %d rows: %s", self.compared, len(self.rows), means)

    def _block(self, reserve: Reserve, left: int, size: int) -> int:
        """Return how many rows are compared next.

        Where the budget will not do for all that are left, it is half of what it will do for: rows that are cut off
        were paid for in vain, since not all programs have them.
        """
        room = reserve.affordable(self._candidates, left)
        return size if room == left else min(size, max(1, room // 2))

    def verdict(self, *, scored: bool, stopped: str) -> Verdict:
        """Return what the comparison came to.

        Args:
            scored: whether there is a metric.
            stopped: what ended the compile before its end, if anything did.
        """
        if not self.finalists:
            return Verdict("nothing learned", "nothing was learned: the original is returned", {})
        if self.compared:
            goals, replacing = self.task.objectives, self.task.replaces is not None
            return judge(self.finalists, self.columns, self.task.seed, goals, replacing=replacing)
        if scored and self.rows:
            advice = f"not compared, {stopped}: the original is returned (the candidate is in the report)"
            return Verdict("not compared", advice, self.finalists[0])
        why = f"fewer than {SMALLEST_SPLIT} rows and no valset" if scored else "there is no metric"
        return Verdict(
            "not validated", f"not validated ({why}): the compiled program is returned as it is", self.finalists[0]
        )

    def of(self, candidate: Candidate) -> tuple[Column, Column]:
        """Return the records of the original, and of a finalist; none where it was not compared."""
        if candidate not in self.finalists:
            return self.columns[0], []
        return self.columns[0], self.columns[self.finalists.index(candidate) + 1]
