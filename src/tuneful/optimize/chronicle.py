"""Chronicle: what happens in one compile, kept for who watches it, for the run's row in the journal, and the report."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tuneful.backends.budget import Meter
from tuneful.backends.metered import phase
from tuneful.evaluate.statistics import mean_interval
from tuneful.optimize.evidence import MOST_POINTS, MOST_TRIED, Demo, Origin, Point, Tried, texts
from tuneful.optimize.facts import hash_of
from tuneful.optimize.objectives import Cost, costs_of
from tuneful.optimize.strategies.front import front
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, Trial
from tuneful.program.running.runtime import settings
from tuneful.program.watching.callback import current_call_id, tell
from tuneful.program.watching.compile_progress import CompileProgress
from tuneful.progress import Bar, progress_bar
from tuneful.store.runs import Runs

_log = logging.getLogger(__name__)

#: Least seconds between two events while rollouts end.
_PAUSE_S = 0.2

#: Most candidates that are compared on held-out rows because they are cheaper.
_CHEAPER = 3
#: How a report calls records of earlier starts that are of no use.
_UNFIT = "earlier records that do not fit"
#: Runs that have all scored 0 are a warning from so many on.
_SOME = 8


class Chronicle:
    """Is told of every record and trial of a compile.

    Args:
        meter: what the compile spends.
        brief: of the search.
        positions: of the search rows in the user's trainset.
        run: name of the run, or None.
    """

    def __init__(self, meter: Meter, brief: Brief, positions: Sequence[int], run: str | None) -> None:
        self._meter = meter
        self._positions = positions
        self._signatures = brief.signatures
        self._run = run
        self._runs = Runs(settings.journal) if run is not None else None
        self._call_id = current_call_id()
        self._said = 0.0
        self._phase, self._expected, self._rollouts, self._begun, self._bar = "", 0, 0, 0.0, _NO_BAR
        self._compared = 0
        self._kept = 0
        self._candidates: dict[str, _Measuring] = {}
        self._best: tuple[float, tuple[float, float]] | None = None
        self._origins: dict[str, dict[str, Origin]] = {"teacher": {}, "student": {}}
        self.curve: list[Point] = []
        self.warnings: Counter[str] = Counter()
        self._scored: Counter[bool] = Counter()  # by whether it is 0
        self.models: dict[str, None] = {}
        self.replayed: Counter[str] = Counter()

    # --- the run's row ---

    def begin(self, about: dict[str, Any]) -> None:
        """Note the start in the journal, where the run has a name."""
        if self._runs is not None:
            self._runs.begin(self._run or "", about)

    def end(self, reason: str, report: dict[str, Any] | None = None) -> None:
        """Note the end in the journal, and close it."""
        if self._runs is None:
            return
        with self._runs as runs:
            runs.end(
                self._run or "",
                "finished" if reason == "finished" else "stopped",
                reason,
                spend=self._spend(),
                warnings=dict(self.warnings),
                report=report,
            )

    def _spend(self) -> dict[str, Any]:
        return {**self._meter.usage.to_json(), "seconds_of_this_process": round(self._meter.seconds, 1)}

    # --- what happens ---

    @contextmanager
    def during(self, name: str, expected: int, candidates: int = 0) -> Iterator[None]:
        """Run the block as a phase of at most so many rollouts (0: nobody knows)."""
        self._phase, self._expected, self._rollouts = name, expected, 0
        self._begun, self._compared = time.monotonic(), candidates
        with phase(name), progress_bar(expected or None, name, display=True) as bar:
            self._bar = bar
            try:
                self.say()
                yield
                self.say()
            finally:
                self._bar = _NO_BAR

    def record(self, record: Mapping[str, Any], *, again: bool) -> None:
        """Take the record of a rollout that is done; `again` where it is one that was taken before."""
        if not again:
            self._note(record)
        self._rollouts += 1
        self._bar.advance(lambda: ", ".join(self.progress().standing))
        if time.monotonic() - self._said >= _PAUSE_S:
            self.say()

    def _note(self, record: Mapping[str, Any]) -> None:
        if record["status"] != "ok":
            self.warnings[record["status"].replace("_", " ")] += 1
        if record["score"] is not None:
            self._scored[record["score"] == 0] += 1
        self.warnings.update(record.get("events", {}))
        for step in record["steps"]:
            self.warnings.update(step["noted"])
            self.models[step["model"]] = None

    def expect(self, kept: int) -> None:
        """Take how many records the run has from earlier starts of which none has been of use so far."""
        self._kept = kept

    def check_replays(self) -> None:
        """Note where none of an earlier start's records fits so far: what was paid then is paid again."""
        if not self._kept or self.replayed:
            self.warnings.pop(_UNFIT, None)
            return
        if _UNFIT not in self.warnings:
            _log.warning(
                "the run %r has %d records, and none is of what it begins with: program, metric, rows or teacher have "
                "changed since, or hold something that differs in each process, such as the time.",
                self._run,
                self._kept,
            )
        self.warnings[_UNFIT] = self._kept

    def job(self, job: Job, noted: Mapping[str, int]) -> None:
        """Take what did not go plainly in a job, which is counted apart from what did not in the program."""
        self.warnings.update({f"{kind} ({job.name})": n for kind, n in noted.items()})

    def check_scores(self) -> None:
        """Note where every run scored 0: such a search is blind, and the metric may be wrong."""
        if self._scored[True] >= _SOME and not self._scored[False]:
            self.warnings["scored 0, and none more"] = self._scored[True]

    def trial(self, trial: Trial, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of a trial of the search."""
        scores = {o.row: o.score for o in outcomes if o.score is not None}
        if trial.who == "student" and scores:
            key = hash_of(trial.candidate)
            made = _Measuring(trial.candidate, len(self._candidates) + 1, trial.parent)
            measuring = self._candidates.setdefault(key, made)
            measuring.scores.update(scores)
            measuring.costs.update({o.row: costs_of(o.detail) for o in outcomes if o.score is not None})
            self._rate()
        self._note_origins(trial, outcomes)
        usage = self._meter.usage
        mean = sum(scores.values()) / len(scores) if scores else None
        best = None if self._best is None else self._best[0]
        self.curve.append(Point(usage.calls, usage.total_tokens, mean, len(scores), best, trial.who))
        if len(self.curve) > MOST_POINTS:
            self.curve = self.curve[::2]
        self.say()

    def compare(self, scores: Sequence[Sequence[float]]) -> None:
        """Take the finalists' scores on the held-out rows so far."""
        self._best = max(((sum(s) / len(s), mean_interval(s)) for s in scores if s), default=None, key=lambda b: b[0])
        self.say()

    def _rate(self) -> None:
        most = max(len(c.scores) for c in self._candidates.values())
        known = [c for c in self._candidates.values() if 2 * len(c.scores) >= most]  # few rows flatter
        best = max(known, key=lambda c: (c.mean, -c.number))
        self._best = (best.mean, mean_interval(list(best.scores.values())))

    def cheaper(self, costs: Sequence[Cost]) -> list[Candidate]:
        """Return candidates that nothing beats both in score and in costs, the best ones first: a few.

        Empty where no costs are named. Those that were given up early are not among them: few rows flatter.
        """
        if not costs or not self._candidates:
            return []
        most = max(len(c.scores) for c in self._candidates.values())
        known = [c for c in self._candidates.values() if 2 * len(c.scores) >= most]
        best = front([(c.mean, *(-c.cost(name) for name in costs)) for c in known])
        ranked = sorted((known[i] for i in best), key=lambda c: (-c.mean, c.number))
        return [c.candidate for c in ranked if c.candidate][:_CHEAPER]

    def _ranked(self) -> list[_Measuring]:
        """Return candidates, best first: those measured on most rows before others, which were given up earlier."""
        return sorted(self._candidates.values(), key=lambda c: (-len(c.scores), -c.mean, c.number))

    # --- saying it ---

    def progress(self) -> CompileProgress:
        """Return how far the compile is."""
        best, interval = self._best or (None, (float("-inf"), float("inf")))
        usage, budget, seconds = self._meter.usage, self._meter.budget, self._meter.seconds
        left = []
        if self._expected and self._rollouts:
            pace = (time.monotonic() - self._begun) / self._rollouts
            left.append(max(0.0, pace * (self._expected - self._rollouts)))
        if budget.seconds is not None:
            left.append(max(0.0, budget.seconds - seconds))
        candidates = self._compared or len(self._candidates)
        return CompileProgress(
            self._phase,
            self._rollouts,
            self._expected,
            candidates,
            best,
            interval,
            usage,
            budget,
            seconds,
            min(left, default=None),
        )

    def say(self) -> None:
        """Tell callbacks, and the run's row, how far the compile is."""
        self._said = time.monotonic()
        if self._runs is None and self._call_id is None:
            return
        now = self.progress()
        if self._runs is not None:
            self._runs.update(self._run or "", str(now), self._spend())
        if self._call_id is not None:
            tell(settings.callbacks, "on_compile_progress", self._call_id, now)

    # --- for the report ---

    def tried(self) -> tuple[list[Tried], int]:
        """Return the measured candidates, best first, and how many are left out."""
        earlier: list[_Measuring] = []
        parents: dict[int, int | None] = {}
        for one in self._candidates.values():
            parents[one.number] = self._parent(one, earlier)
            earlier.append(one)
        ranked = self._ranked()
        kept = [
            Tried(
                c.candidate,
                c.mean,
                mean_interval(list(c.scores.values())),
                len(c.scores),
                parents[c.number],
                c.number,
            )
            for c in ranked[:MOST_TRIED]
        ]
        return kept, len(ranked) - len(kept)

    def _parent(self, one: _Measuring, earlier: Sequence[_Measuring]) -> int | None:
        """Return the number of what a candidate was made from; None is the original program."""
        if one.parent is None:
            return _closest(one.candidate, earlier) if one.candidate else None
        known = self._candidates.get(hash_of(one.parent))
        return known.number if known is not None and one.parent else None

    def _note_origins(self, trial: Trial, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            row = self._positions[outcome.row]
            for step in outcome.steps:
                known = self._signatures[step["path"]].fields if step["path"] in self._signatures else ()
                shown = {n: v for n, v in {**step["inputs"], **step["outputs"]}.items() if n in known}
                key = _identity(step["path"], shown)
                self._origins[trial.who].setdefault(key, Origin(f"run of the {trial.who}", row, outcome.score))

    def demos(self, brief: Brief, candidate: Candidate) -> dict[str, list[Demo]]:
        """Return the demos of a candidate, each with where it comes from."""
        found: dict[str, list[Demo]] = {}
        rows = [row.to_dict() for row in brief.trainset]
        for name, demos in candidate.items():
            if brief.parameters[name].kind == "demos":
                path = name.removesuffix("demos").rstrip(".")
                found[path] = [Demo(texts(d), self._origin(path, d, rows)) for d in demos]
        return found

    def _origin(self, path: str, demo: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Origin:
        key = _identity(path, demo)
        if (found := self._origins["teacher"].get(key)) is not None:
            return found
        for index, row in enumerate(rows):
            if all(row.get(name) == value for name, value in demo.items()):
                return Origin("labelled row", self._positions[index])
        return self._origins["student"].get(key, Origin("the program itself"))


class _Measuring:
    """A candidate, what it was made from where that is known, and its scores by search row."""

    def __init__(self, candidate: Candidate, number: int, parent: Candidate | None) -> None:
        self.candidate = candidate
        self.number = number
        self.parent = parent
        self.scores: dict[int, float] = {}
        self.costs: dict[int, Mapping[Cost, float | None]] = {}

    @property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)

    def cost(self, name: Cost) -> float:
        """Return what a run takes on average; one whose price is not known costs more than any."""
        return sum(math.inf if (c := taken[name]) is None else c for taken in self.costs.values()) / len(self.costs)


def _closest(candidate: Candidate, earlier: Sequence[_Measuring]) -> int | None:
    """Return the number of the earlier candidate that differs in fewest parameters; None is the original program."""

    def differing(other: Candidate) -> int:
        return sum(candidate.get(name) != other.get(name) for name in {*candidate, *other})

    best, number = differing({}), None
    for one in earlier:
        if one.candidate and differing(one.candidate) < best:
            best, number = differing(one.candidate), one.number
    return number


def _identity(path: str, demo: Mapping[str, Any]) -> str:
    return hash_of([path, dict(demo)])


class _NoBar:
    def advance(self, text: Any = str, items: int = 1) -> None:
        """Do nothing."""


_NO_BAR: Bar = _NoBar()
