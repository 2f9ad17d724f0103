"""majority: the most frequent answer among several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tuneful.errors import DataError
from tuneful.spec.normalize import normalize_text
from tuneful.spec.prediction import Completions, Prediction


def majority(
    prediction_or_completions: Prediction | Completions | Sequence[Any],
    normalize: Callable[[str], str | None] = normalize_text,
    field: str | None = None,
) -> Prediction:
    """Return the prediction whose answer is the most frequent one; among equals, the earliest.

    >>> majority([{"answer": "Paris"}, {"answer": "Lyon"}, {"answer": "paris."}]).answer
    'Paris'

    Args:
        prediction_or_completions: a prediction with several completions, completions, or a list of predictions.
        normalize: makes answers comparable; one that becomes None does not vote. Numbers are compared as numbers.
        field: the field that votes; by default the last one.

    Source: Wang et al. (2022), "Self-Consistency Improves Chain of Thought Reasoning in Language Models".
    """
    source = prediction_or_completions
    rows = list(source.completions if isinstance(source, Prediction) else source)
    if not rows:
        raise DataError("majority needs at least one completion, got none.")
    name = field or list(rows[0])[-1]
    votes = [_number(row[name]) or normalize(str(row[name])) for row in rows]
    counts = Counter(v for v in votes if v is not None)
    winner = votes.index(counts.most_common(1)[0][0]) if counts else 0
    return rows[winner] if isinstance(rows[winner], Prediction) else Prediction(rows[winner])


def _number(value: Any) -> str | None:
    """Return a number, also one that is written as a text, in one form; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return repr(float(value.replace(",", "") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        return None
