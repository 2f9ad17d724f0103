"""Evidence: what a compile report is made from, row by row: bounded in size, and JSON values throughout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tuneful.optimize.plan import Plan
from tuneful.optimize.trial import Candidate
from tuneful.spec.example import Example
from tuneful.wire.response import Usage

#: Most held-out rows, candidates and points of the curve that a report keeps, and characters of a value.
MOST_PAIRS, MOST_TRIED, MOST_POINTS, MOST_CHARS = 500, 200, 500, 4000

Change = Literal["win", "loss", "same", "unknown"]


@dataclass(frozen=True)
class Answer:
    """What a program made of a row: output fields as text, score, status (see `Row`) and the metric's feedback."""

    outputs: dict[str, str]
    score: float | None
    status: str
    feedback: str | None = None


@dataclass(frozen=True)
class Pair:
    """A held-out row: its inputs and labels as text, and what the original and the best candidate made of it."""

    inputs: dict[str, str]
    labels: dict[str, str]
    original: Answer
    best: Answer

    @property
    def change(self) -> Change:
        """Whether the best candidate wins or loses against the original."""
        old, new = self.original.score, self.best.score
        if old is None or new is None:
            return "unknown"
        return "win" if new > old else "loss" if new < old else "same"


@dataclass(frozen=True)
class Point:
    """A trial of the search: what was spent by its end, its mean score, and the best candidate's so far.

    Args:
        calls, tokens: spent since the start of the compile.
        score: mean score of the trial's rows, or None.
        n: its rows that have a score.
        best: mean score of the best candidate so far, or None where none is measured.
        who: "student" or "teacher".
    """

    calls: int
    tokens: int
    score: float | None
    n: int
    best: float | None
    who: str


@dataclass(frozen=True)
class Tried:
    """A candidate that the search measured, on search rows.

    Args:
        candidate: its values.
        score: its mean.
        interval: 95 % interval of the mean. The best of many looks better than it is: it was chosen for its luck too.
        n: rows that have a score.
        parent: position (in the order of first measuring) of the earlier candidate that it differs least from; None
            for the original program.
        number: its own position, from 1 on.
    """

    candidate: Candidate
    score: float
    interval: tuple[float, float]
    n: int
    parent: int | None
    number: int


@dataclass(frozen=True)
class Origin:
    """Where a demo comes from.

    Args:
        source: "labelled row", "run of the teacher", "run of the student" or "the program itself".
        row: position in the trainset, or None.
        score: of the run, or None.
    """

    source: str
    row: int | None = None
    score: float | None = None

    def __str__(self) -> str:
        where = "" if self.row is None else f" on training row {self.row}" if "run" in self.source else f" {self.row}"
        return f"{self.source}{where}" + ("" if self.score is None else f", score {self.score:g}")


@dataclass(frozen=True)
class Demo:
    """A demo of the best candidate: its fields as text, and where it comes from."""

    fields: dict[str, str]
    origin: Origin


@dataclass(frozen=True)
class Evidence:
    """The records behind a report.

    Args:
        plan: what the plan had said, or None.
        phases: what each phase has used.
        pairs: held-out rows, as many as are kept.
        curve: the trials of the search, in order.
        tried: measured candidates, best first.
        demos: of the best candidate, by predictor path.
        prompts: each predictor's prompt for a sample input: of the original, and of the best candidate.
        left_out: what was too much to keep: how many, by kind.
    """

    plan: Plan | None = None
    phases: dict[str, Usage] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    curve: list[Point] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    demos: dict[str, list[Demo]] = field(default_factory=dict)
    prompts: dict[str, tuple[str, str]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


def as_text(value: Any) -> str:
    """Return a value for people, of bounded length."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]} ... ({len(text) - MOST_CHARS:,} characters more)"


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return fields as texts."""
    return {str(name): as_text(value) for name, value in values.items()}


def outputs_of(prediction: Any) -> dict[str, Any]:
    """Return what a program returned, as JSON values."""
    if prediction is None:
        return {}
    return prediction.to_dict() if isinstance(prediction, Example) else {"returned": as_text(prediction)}


def paired(
    rows: Sequence[Example], original: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]]
) -> list[Pair]:
    """Return held-out rows with the records of the original and of the best candidate."""
    return [
        Pair(texts(row.inputs().to_dict()), texts(row.labels().to_dict()), _answer(old), _answer(new))
        for row, old, new in zip(rows, original, best, strict=False)  # a run that ended early has fewer records
    ][:MOST_PAIRS]


def _answer(record: Mapping[str, Any]) -> Answer:
    outputs = record.get("outputs")
    if outputs is None:  # a journal of an earlier version
        outputs = record["steps"][-1]["outputs"] if record["steps"] else {}
    failed = record["error"].strip().splitlines()[-1] if record["error"] else None
    return Answer(texts(outputs), record["score"], record["status"], record["feedback"] or failed)
