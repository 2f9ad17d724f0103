"""Exact match of short answers, after normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneful.errors import MetricError
from tuneful.evaluate.metrics.f1 import F1
from tuneful.spec.normalize import normalize_text


def em_score(prediction: str, answer: str) -> bool:
    """Say whether two answers are the same after `normalize_text`."""
    return normalize_text(str(prediction)) == normalize_text(str(answer))


def EM(prediction: str, answers: Sequence[str]) -> bool:  # noqa: N802 (the metric's name)
    """Say whether the prediction is one of the answers, after `normalize_text`."""
    return any(em_score(prediction, a) for a in answers)


def gold_answers(example: Any) -> list[str]:
    """Return the accepted answers of an example: its field `answer`, a text or a list of texts."""
    answer = example.answer
    if isinstance(answer, (list, tuple)):
        if not answer:
            raise MetricError("the example's `answer` is an empty list; it needs at least one accepted answer.")
        return [str(a) for a in answer]
    return [str(answer)]


def answer_exact_match(example: Any, prediction: Any, trace: Any = None, frac: float = 1.0) -> bool:  # noqa: ARG001
    """Say whether `prediction.answer` matches `example.answer` (a text, or a list of accepted texts).

    Args:
        example, prediction: both with a field `answer`.
        trace: not used.
        frac: below 1, an F1 of at least this is enough.

    Source: the exact match of SQuAD (Rajpurkar et al., 2016).
    """
    answers = gold_answers(example)
    return EM(prediction.answer, answers) if frac >= 1.0 else F1(prediction.answer, answers) >= frac
