"""CompileReport: what a compile did, and what its result is worth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

from tuneful.errors import DataError, UsageError
from tuneful.evaluate.power import power_line
from tuneful.evaluate.statistics import Comparison
from tuneful.optimize.evidence import Evidence
from tuneful.optimize.objectives import NONE, SHOWN, Cost, Objectives, costs_line
from tuneful.optimize.plan import table
from tuneful.optimize.strategies.front import front
from tuneful.optimize.trial import Ranked
from tuneful.optimize.verdict import Measured, Weighed, Word
from tuneful.program.module import Module
from tuneful.program.running.runtime import usage_line
from tuneful.wire.response import Usage


class Top(NamedTuple):
    """A candidate of a search as a program, its mean score on the search rows, and how many rows it was run on."""

    program: Module
    score: float
    rows: int


@dataclass(frozen=True)
class CompileReport:
    """What a compile did. `print(program.report)` shows it.

    Args:
        teleprompter: name and hyper-parameters.
        verdict, advice, baseline, best, comparison, candidate: see `Verdict`.
        stop_reason: "finished", or the limit of the budget that was reached.
        found: what the search kept and dropped.
        warnings: what happened on the way that a user should know: repairs, salvages, failures, by kind.
        usage: calls, tokens and cost of the whole run, before a restart included.
        seconds: wall time of this process's part.
        replayed: rollouts that were read from the journal instead of run.
        search_rows, held_out_rows: how many rows there were of each.
        compared_rows: how many rows original and candidates were compared on: the held-out ones, and where the search
            has chosen nothing by their scores, search rows too, each without the demos that were made from it.
        data_hash: hash of all rows, in order.
        models: names of the models that answered.
        ranked: candidates that were scored on the search rows, best first; see `top`.
        student: the program that candidates are values of.
        original: what they were compared with, where that is another one.
        run: name of the run in the journal, or None.
        taken_over: rollouts that were taken over from other runs of the journal, by run.
        evidence: what `save` shows row by row.
        weighed: the original, then every candidate that was compared with it; see `front` and `pick`.
        objectives: what counted beside the metric.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}  # for `from_json`

    teleprompter: str
    settings: dict[str, Any]
    verdict: Word
    advice: str
    stop_reason: str
    baseline: Measured | None
    best: Measured | None
    comparison: Comparison | None
    candidate: dict[str, Any]
    found: list[str]
    warnings: dict[str, int]
    usage: Usage
    seconds: float
    replayed: int
    search_rows: int
    held_out_rows: int
    data_hash: str
    seed: int
    models: list[str] = field(default_factory=list)
    ranked: list[Ranked] = field(default_factory=list)
    student: Module | None = field(default=None, repr=False, compare=False)
    original: Module | None = field(default=None, repr=False, compare=False)
    run: str | None = None
    taken_over: dict[str, int] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence, repr=False)
    compared_rows: int = 0
    weighed: list[Weighed] = field(default_factory=list, repr=False)
    objectives: Objectives = NONE

    def top(self, k: int | None = None) -> list[Top]:
        """Return the k best candidates as programs, best first, with their search scores; by default all of them.

        The search chose among them by these scores, so those of the first ones are too high. Empty for a teleprompter
        that does not select.
        """
        if self.student is None:
            return []
        student = self.student
        return [Top(student.with_parameters(r.candidate), r.score, r.rows) for r in self.ranked[:k]]

    @property
    def front(self) -> list[Weighed]:
        """The compared programs that no other beats both in score and in costs, best score first.

        The costs are those that were to be kept low, or `total_tokens` where none were. The original's candidate is {}.
        """
        costs = self.objectives.minimized or ("total_tokens",)
        measures = [(one.measured.mean, *(-c for c in one.cost(costs))) for one in self.weighed]
        return sorted((self.weighed[i] for i in front(measures)), key=lambda one: -one.measured.mean)

    def pick(self, *, minimize: Cost | None = None, at_least: float | None = None, **at_most: float) -> Module:
        """Return another program of those that were compared: what this one takes may suit you better.

        `report.pick(prompt_tokens=500)` is the best one whose runs take 500 prompt tokens or fewer on average;
        `report.pick(minimize="seconds", at_least=0.8)` the fastest one with a score of 0.8.

        Args:
            minimize: the cost to keep low; None asks for the best score.
            at_least: least mean score on the held-out rows, in the metric's units.
            at_most: most that a run may take on average, by cost.

        Raises:
            UsageError: nothing was compared, a cost is unknown, or no program is within the limits: it lists them.
        """
        limits = Objectives(minimize or (), cast("dict[Cost, float]", at_most))
        if at_least is not None and not isinstance(at_least, (int, float)):
            raise UsageError(f"`at_least` is {at_least!r:.80}; expected a mean score, such as 0.8.")
        if self.student is None or not self.weighed:
            raise UsageError("there is nothing to pick from: this report has no program that was compared on rows.")
        fits = [
            one
            for one in self.weighed
            if (at_least is None or one.measured.mean >= at_least)
            and all(one.cost([name])[0] <= most for name, most in limits.at_most.items())
        ]
        if not fits:
            listed = "\n".join(f"  {one}" for one in self.weighed)
            raise UsageError(f"no compared program is within these limits. There are:\n{listed}")
        chosen = min(fits, key=lambda one: (one.cost(limits.minimized), -one.measured.mean))
        if chosen is self.weighed[0] and self.original is not None:
            return self.original.deepcopy()
        return self.student.with_parameters(chosen.candidate)

    @property
    def improved(self) -> bool:
        """Whether the compiled program differs from the original."""
        return self.verdict in ("better", "not worse", "not validated")

    def provenance(self) -> dict[str, Any]:
        """Return what a saved program says about its origin, as JSON values."""

        def measured(m: Measured | None) -> dict[str, Any] | None:
            return None if m is None else {"mean": m.mean, "interval": list(m.interval), "n": m.n}

        return {
            "teleprompter": self.teleprompter,
            "settings": self.settings,
            "seed": self.seed,
            "verdict": self.verdict,
            "baseline": measured(self.baseline),
            "best": measured(self.best),
            "models": self.models,
            "data_hash": self.data_hash,
        }

    def save(self, path: str | Path) -> None:
        """Write the report as one HTML file that needs nothing else: for colleagues, and for looking at single rows.

        It holds rows of the held-out data, and what the programs made of them, as they are.
        """
        from tuneful.optimize.page.page import page  # reads files of the package, which only this needs

        Path(path).write_text(page(self), encoding="utf-8", errors="replace")  # a model may write halves of characters

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, without the student."""
        plain = asdict(replace(self, student=None, original=None))
        found: dict[str, Any] = json.loads(json.dumps(plain, default=str))
        return found

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> CompileReport:
        """Read what `to_json` wrote. `top` of it is empty: there is no student.

        Raises DataError for anything else.
        """
        try:
            return TypeAdapter(cls).validate_python(body)
        except ValidationError as error:
            raise DataError(
                "this is no report of this version of tuneful: compile again, or show it with the version that wrote "
                f"it. {error.error_count()} fields do not fit."
            ) from error

    def __str__(self) -> str:
        settings = ", ".join(f"{k}={v}" for k, v in self.settings.items() if v is not None)
        lines = [f"{self.teleprompter}({settings})", f"  verdict    {self.advice}"]
        if self.baseline is not None:
            lines.append(f"  original   {self.baseline}")
        if self.best is not None:
            lines.append(f"  compiled   {self.best}")
        if self.comparison is not None:
            lines.append(f"  difference {self.comparison}")
        if self.objectives.minimized:
            lines += [f"  {'front' if i == 0 else '':<10} {one}{self._role(one)}" for i, one in enumerate(self.front)]
        elif self.weighed and self.best is not None:
            lines.append(f"  each run   {self._each_run()}")
        lines += [f"  search     {line}" for line in self.found]
        further = self.compared_rows - self.held_out_rows
        more = f"; compared on {further} of the search rows too, which nothing was chosen by" if further > 0 else ""
        lines.append(f"  rows       {self.search_rows} to search on, {self.held_out_rows} held out{more}")
        if self.comparison is not None:
            lines.append(f"  power      {power_line(self.comparison.n, self.comparison.spread)}")
        lines.append(f"  spent      {usage_line(self.usage)}, {self.seconds:.1f} s")
        if self.replayed:
            others = ", ".join(f"{n} of run {name!r}" for name, n in self.taken_over.items())
            lines.append(f"  replayed   {self.replayed} rollouts from the journal" + (f" ({others})" if others else ""))
        if self.warnings:
            lines.append("  noted      " + ", ".join(f"{v} x {k}" for k, v in sorted(self.warnings.items())))
        lines.append(f"  stopped    {self.stop_reason}")
        if self.evidence.plan is not None:
            planned = table(self.evidence.plan.against(self.evidence.phases))
            lines += [f"  {'planned' if i == 0 else '':<10} {row}" for i, row in enumerate(planned.splitlines())]
        return "\n".join(lines)

    def _role(self, one: Weighed) -> str:
        if one is self.weighed[0]:
            return " (the original)"
        return " (returned)" if self.improved and one.candidate == self.candidate else ""

    def _each_run(self) -> str:
        """Return what a run takes, before and after."""
        new = next((one for one in self.weighed[1:] if one.candidate == self.candidate), self.weighed[0])
        return f"original {costs_line(self.weighed[0].costs, SHOWN)}; compiled {costs_line(new.costs, SHOWN)}"
