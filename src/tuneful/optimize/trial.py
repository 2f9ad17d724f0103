"""What passes between a recipe and the loop: the brief, candidates, trials and their results. All plain data."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tuneful.backends.budget import Budget
from tuneful.optimize.objectives import NONE, Objectives
from tuneful.program.module import Module
from tuneful.program.parameter import Kind, Parameter
from tuneful.spec.example import Example
from tuneful.spec.signature import Signature

#: Values by parameter path, put on top of the program's own.
Candidate = dict[str, Any]

#: What a recipe remembers: JSON values only.
State = dict[str, Any]


@dataclass(frozen=True)
class Brief:
    """What a recipe may see: the program and the search rows. Held-out rows are not in it.

    Args:
        parameters: the student's, by path.
        signatures: of the student's predictors, by path.
        trainset: the rows to search on.
        seed: where all chance comes from, through `stream`.
        teacher_has_demos: whether the teacher brings demos of its own.
        student: the program itself, not to be changed; None only where a recipe is tried without a loop.
        own_teacher: whether the student is its own teacher.
        budget: what the compile may spend.
        held_out: how many rows the finalists and the original are compared on.
        objectives: what counts beside the metric. Limits on a run are in the scores already.
    """

    parameters: Mapping[str, Parameter]
    signatures: Mapping[str, Signature]
    trainset: Sequence[Example]
    seed: int
    teacher_has_demos: bool = False
    student: Module | None = None
    own_teacher: bool = True
    budget: Budget = field(default_factory=Budget)
    held_out: int = 0
    objectives: Objectives = NONE

    def of(self, student: Module, *, seed: int) -> Brief:
        """Return the brief for another state of the program, and another seed."""
        return replace(
            self,
            parameters=student.parameters(),
            signatures={path: p.signature for path, p in student.named_predictors()},
            seed=seed,
            student=student,
            teacher_has_demos=has_demos(student) if self.own_teacher else self.teacher_has_demos,
        )

    def stream(self, name: str) -> random.Random:
        """Return the random stream of a name: the same for a seed, whatever other streams are used for."""
        return random.Random(f"{self.seed}/{name}")

    @property
    def kinds(self) -> dict[str, Kind]:
        """What each parameter is, by its path, whose last part does not tell: a user's own may have any name."""
        return {path: p.kind for path, p in self.parameters.items()}

    def tunable(self, path: str) -> bool:
        """Say whether a parameter exists and is not frozen."""
        return path in self.parameters and not self.parameters[path].frozen


@dataclass(frozen=True)
class Trial:
    """A candidate to be run on some rows of the brief's trainset.

    Args:
        candidate: the values to run with.
        rows: indices of the rows.
        who: whose values the candidate is put on top of.
        sample: 0 is the ordinary run; others are independent repetitions, sampled anew.
        leave_out: run each row without the demos that were made from it, so that it cannot copy its own answer.
        bootstrapping: whether the metric gets the trace, and may be stricter.
        by_step: whether the metric is asked what it says of each step, where it takes `pred_name`.
        parent: what the candidate was made from, for the report's tree; None leaves it to how alike candidates are.
    """

    candidate: Candidate
    rows: tuple[int, ...]
    who: Literal["student", "teacher"] = "student"
    sample: int = 0
    leave_out: bool = False
    bootstrapping: bool = False
    by_step: bool = False
    parent: Candidate | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one row of a trial, as JSON values: the same whether it ran just now or is read from the journal.

    Args:
        row: index of the row.
        score: the metric's value, or None where nothing can be said.
        status: see `tuneful.evaluate.rollout.Row`.
        steps: the run's steps: path, inputs, outputs.
        detail: the whole record, as the journal keeps it.
    """

    row: int
    score: float | None
    status: str
    steps: tuple[Mapping[str, Any], ...]
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """Work of a recipe that is no rollout: a program of its own proposes something, or a model is trained.

    Args:
        name: what kind of work, such as "proposal" or "training"; costs are shown under it.
        inputs: what it is given, as JSON values: all that decides its result but the recipe's settings.
    """

    name: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Ranked:
    """A candidate with what the search found of it.

    Args:
        candidate: its values by parameter path; none for the program as it was.
        score: its mean score on the search rows that it was run on.
        rows: how many these were. Those of a candidate that was stopped early are few.
    """

    candidate: Candidate
    score: float
    rows: int


def has_demos(program: Module) -> bool:
    """Say whether a program brings demos."""
    return any(p.demos or p.demo_pool.rows for p in program.predictors())
