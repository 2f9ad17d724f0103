"""Ready metrics for short answers."""

from tuneful.evaluate.metrics.exact import EM, answer_exact_match, em_score
from tuneful.evaluate.metrics.f1 import F1, f1_score
from tuneful.evaluate.metrics.passage import answer_passage_match
from tuneful.spec.normalize import normalize_text

__all__ = ["EM", "F1", "answer_exact_match", "answer_passage_match", "em_score", "f1_score", "normalize_text"]
