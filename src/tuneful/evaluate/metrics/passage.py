"""Passage match: does some retrieved passage hold the answer?"""

from __future__ import annotations

from typing import Any

from tuneful.evaluate.metrics.exact import gold_answers
from tuneful.spec.normalize import normalize_text


def answer_passage_match(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001
    """Say whether some passage of `prediction.context` holds some answer of `example.answer`, word for word.

    Source: the recall of DPR (Karpukhin et al., 2020), over words after `normalize_text`.
    """
    passages = [f" {normalize_text(p)} " for p in prediction.context]
    return any(f" {normalize_text(a)} " in p for a in gold_answers(example) for p in passages)
