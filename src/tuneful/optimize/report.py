"""CompileReport: what a compile did, and what its result is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneful.evaluate.statistics import Comparison, mean_interval
from tuneful.program.runtime import usage_line
from tuneful.wire.response import Usage


@dataclass(frozen=True)
class Measured:
    """A program's scores on the held-out rows.

    Args:
        mean: mean score, in the metric's units.
        interval: its 95 % interval.
        n: rows that count.
        statuses: how the rows ended, by status.
    """

    mean: float
    interval: tuple[float, float]
    n: int
    statuses: dict[str, int]

    @classmethod
    def of(cls, records: list[Mapping[str, Any]]) -> Measured:
        """Sum up journal records."""
        scores = [r["score"] for r in records if r["score"] is not None]
        mean = sum(scores) / len(scores) if scores else float("nan")
        return cls(mean, mean_interval(scores), len(scores), dict(Counter(r["status"] for r in records)))

    def __str__(self) -> str:
        low, high = self.interval
        odd = ", ".join(f"{v} {k}" for k, v in self.statuses.items() if k != "ok")
        return f"{100 * self.mean:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {self.n}" + (
            f"; {odd})" if odd else ")"
        )


@dataclass(frozen=True)
class CompileReport:
    """What a compile did. `print(program.report)` shows it.

    Args:
        teleprompter: name and hyper-parameters.
        verdict: "better", "not distinguishable", "no gain", "not validated" or "nothing learned".
        advice: the verdict as a sentence.
        stop_reason: "finished", or the limit of the budget that was reached.
        baseline, best: the original and the best candidate on the held-out rows; None where not measured.
        comparison: the paired comparison of the two.
        candidate: the best candidate's values by parameter path, returned or not.
        found: what the search kept and dropped.
        warnings: what happened on the way that a user should know: repairs, salvages, failures, by kind.
        usage: calls, tokens and cost of the whole run, before a restart included.
        seconds: wall time of this process's part.
        replayed: rollouts that were read from the journal instead of run.
        search_rows, held_out_rows: how many rows there were of each.
        data_hash: hash of all rows, in order.
        models: names of the models that answered.
    """

    teleprompter: str
    settings: dict[str, Any]
    verdict: str
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

    @property
    def improved(self) -> bool:
        """Whether the compiled program differs from the original."""
        return self.verdict in ("better", "not validated")

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

    def __str__(self) -> str:
        settings = ", ".join(f"{k}={v}" for k, v in self.settings.items() if v is not None)
        lines = [f"{self.teleprompter}({settings})", f"  verdict    {self.advice}"]
        if self.baseline is not None:
            lines.append(f"  original   {self.baseline}")
        if self.best is not None:
            lines.append(f"  compiled   {self.best}")
        if self.comparison is not None:
            lines.append(f"  difference {self.comparison}")
        lines += [f"  search     {line}" for line in self.found]
        lines.append(f"  rows       {self.search_rows} to search on, {self.held_out_rows} held out")
        lines.append(f"  spent      {usage_line(self.usage)}, {self.seconds:.1f} s")
        if self.replayed:
            lines.append(f"  replayed   {self.replayed} rollouts from the journal")
        if self.warnings:
            lines.append("  noted      " + ", ".join(f"{v} x {k}" for k, v in sorted(self.warnings.items())))
        lines.append(f"  stopped    {self.stop_reason}")
        return "\n".join(lines)


def advise(comparison: Comparison, alpha: float) -> tuple[str, str]:
    """Return the verdict on a comparison and the sentence that explains it."""
    low, high = comparison.interval
    span = f"{100 * low:+.1f} to {100 * high:+.1f}"
    if comparison.is_better_at(alpha):
        return "better", f"better by {100 * comparison.difference:.1f} points (95 % interval {span})"
    more = comparison.rows_to_tell()
    if comparison.difference > 0 and more is not None:
        advice = (
            f"not distinguishable from the original ({100 * comparison.difference:+.1f} points, {span}), which is "
            f"returned: about {max(1, more - comparison.n)} more held-out rows would tell"
        )
        return "not distinguishable", advice
    return "no gain", f"no gain ({100 * comparison.difference:+.1f} points, {span}): the original is returned"
