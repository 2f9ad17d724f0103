"""Exact match of short answers, after normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneful.evaluate.metrics.accepted import accepted
from tuneful.evaluate.metrics.f1 import F1
from tuneful.spec.normalize import normalize_text


def em_score(prediction: str, answer: str) -> bool:
    """Say whether two answers are the same after `normalize_text`."""
    return normalize_text(str(prediction)) == normalize_text(str(answer))


def EM(prediction: str, answers: str | Sequence[str]) -> bool:  # noqa: N802 (the metric's name)
    """Say whether the prediction is one of the answers (a text, or a list of accepted texts), normalised.

    Raises:
        MetricError: the list is empty.
    """
    return any(em_score(prediction, a) for a in accepted(answers))


def answer_exact_match(example: Any, prediction: Any, trace: Any = None, frac: float = 1.0) -> bool:  # noqa: ARG001
    """Say whether `prediction.answer` matches `example.answer` (a text, or a list of accepted texts).

    Args:
        example, prediction: both with a field `answer`.
        trace: not used.
        frac: below 1, an F1 of at least this is enough.

    Source: the exact match of SQuAD (Rajpurkar et al., 2016).
    """
    if frac >= 1.0:
        return EM(prediction.answer, example.answer)
    return F1(prediction.answer, example.answer) >= frac
