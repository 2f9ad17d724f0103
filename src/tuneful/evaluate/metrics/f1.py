"""F1 of words: how much two short answers overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tuneful.evaluate.metrics.accepted import accepted
from tuneful.spec.normalize import normalize_text


def f1_score(prediction: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall of the words, after `normalize_text`.

    >>> f1_score("the Eiffel Tower", "Eiffel Tower, Paris")
    0.8

    Source: the F1 of SQuAD (Rajpurkar et al., 2016).
    """
    got, wanted = normalize_text(str(prediction)).split(), normalize_text(str(answer)).split()
    if not got or not wanted:
        return float(got == wanted)
    shared = sum((Counter(got) & Counter(wanted)).values())
    return 2 * shared / (len(got) + len(wanted))


def F1(prediction: str, answers: str | Sequence[str]) -> float:  # noqa: N802 (the metric's name)
    """Return the best F1 against any of the answers (a text, or a list of accepted texts).

    Raises:
        MetricError: the list is empty.
    """
    return max(f1_score(prediction, a) for a in accepted(answers))
