"""CompileReport: what a compile did, and what its result is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tuneful.evaluate.statistics import Comparison
from tuneful.optimize.verdict import Measured, Word
from tuneful.program.runtime import usage_line
from tuneful.wire.response import Usage


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
        data_hash: hash of all rows, in order.
        models: names of the models that answered.
    """

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
