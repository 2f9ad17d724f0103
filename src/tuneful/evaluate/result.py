"""EvaluationResult: the rows of an evaluation, and what they add up to."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tuneful.errors import DataError
from tuneful.evaluate.rollout import COUNTED, Row
from tuneful.evaluate.statistics import Comparison, compare, mean_interval
from tuneful.program.running.runtime import usage_line
from tuneful.spec.example import Example
from tuneful.wire.response import Usage


class EvaluationResult:
    """What an evaluation found.

    Attributes:
        rows: one `Row` for each example, in the order of the data set.
    """

    def __init__(self, rows: Sequence[Row], seconds: float = 0.0) -> None:
        self.rows = list(rows)
        self.seconds = seconds

    @property
    def scores(self) -> list[float]:
        """Scores of the rows that count: see `COUNTED` in `tuneful.evaluate.rollout`."""
        return [r.score for r in self.rows if r.score is not None]

    @property
    def n(self) -> int:
        """Examples that count."""
        return len(self.scores)

    @property
    def mean(self) -> float:
        """Mean score, in the metric's own units. NaN where no example counts."""
        return fmean(self.scores) if self.scores else float("nan")

    @property
    def score(self) -> float:
        """Mean score in per cent, to two places: the convention of the field."""
        return round(100 * self.mean, 2)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `score`, in per cent."""
        low, high = mean_interval(self.scores)
        return (round(100 * low, 2), round(100 * high, 2))

    @property
    def usage(self) -> Usage:
        """Calls, tokens and cost of all rows."""
        return sum((r.usage for r in self.rows), Usage())

    @property
    def cost_usd(self) -> float | None:
        """US dollars, or None where a price is not known."""
        return self.usage.cost_usd

    @property
    def statuses(self) -> dict[str, int]:
        """How many rows ended in which way."""
        return dict(Counter(r.status for r in self.rows))

    @property
    def noted(self) -> dict[str, int]:
        """What did not go plainly, by kind: retries, repair turns, truncated answers, tolerances in reading."""
        return dict(sum((Counter(r.trace.noted) for r in self.rows), Counter()))

    @property
    def results(self) -> list[tuple[Example, Any, float | None]]:
        """Triples (example, prediction, score)."""
        return [(r.example, r.prediction, r.score) for r in self.rows]

    def compare(self, other: EvaluationResult) -> Comparison:
        """Compare another program with this one on the same examples: a paired test.

        Raises:
            DataError: the two were not evaluated on the same examples.
        """
        if [r.example for r in self.rows] != [r.example for r in other.rows]:
            raise DataError("the two results are not of the same examples in the same order; evaluate both on one set.")
        pairs = [
            (a.score, b.score)
            for a, b in zip(self.rows, other.rows, strict=True)
            if a.score is not None and b.score is not None
        ]
        return compare([a for a, _ in pairs], [b for _, b in pairs])

    def __float__(self) -> float:
        return self.score

    def __repr__(self) -> str:
        low, high = self.interval
        odd = {k: v for k, v in self.statuses.items() if k != "ok"}
        left_out = len(self.rows) - self.n
        parts = [f"score {self.score:g} % (95 % interval {low:g} to {high:g}, {self.n} examples)"]
        if odd:
            parts.append(", ".join(f"{v} {k}" for k, v in odd.items()))
        if left_out:
            parts.append(f"{left_out} left out: they say nothing about the program ({', '.join(COUNTED)} count)")
        if self.noted:
            parts.append(", ".join(f"{v} x {k}" for k, v in sorted(self.noted.items())))
        parts.append(f"{usage_line(self.usage)}, {self.seconds:.1f} s")
        return f"EvaluationResult({'; '.join(parts)})"

    # --- tables ---

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as flat JSON values: fields of the example, of the prediction, and the outcome."""
        found = []
        for row in self.rows:
            made = Example(row.prediction).to_dict() if isinstance(row.prediction, Example) else {}
            if row.prediction is not None and not made:
                made = {"returned": str(row.prediction)}
            given = row.example.to_dict()
            predicted = {(f"predicted_{k}" if k in given else k): v for k, v in made.items()}
            outcome = {
                "score": row.score,
                "status": row.status,
                "seconds": round(row.seconds, 3),
                "cost_usd": row.cost_usd,
                "feedback": row.feedback,
                "error": row.error.rsplit("\n", 1)[-1] if row.error else None,
            }
            found.append({**given, **predicted, **outcome})
        return found

    def table(self, rows: int | None = None) -> str:
        """Return a table as text, of the first rows or of all."""
        from tabulate import tabulate  # only people need it

        records = self.records()[:rows]
        columns = list(dict.fromkeys(k for r in records for k in r if any(x.get(k) is not None for x in records)))
        cells = [[_cell(record.get(c)) for c in columns] for record in records]
        table = tabulate(cells, columns, "simple", disable_numparse=True)
        return f"{self.score:g} % of {self.n} examples\n\n{table}"

    def print_table(self, rows: int | None = None) -> None:
        """Print the table on standard output."""
        sys.stdout.write(self.table(rows) + "\n")

    def save_csv(self, path: str | Path) -> None:
        """Write the rows as CSV, in UTF-8."""
        records = self.records()
        columns = list(dict.fromkeys(k for r in records for k in r))
        with Path(path).open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(records)

    def save_json(self, path: str | Path) -> None:
        """Write score, interval and rows as JSON, in UTF-8."""
        body = {"score": self.score, "interval": self.interval, "n": self.n, "rows": self.records()}
        text = json.dumps(body, ensure_ascii=False, indent=2) + "\n"
        Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")  # halves of characters, as escapes


def _cell(value: Any) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= 40 else text[:39] + "…"
