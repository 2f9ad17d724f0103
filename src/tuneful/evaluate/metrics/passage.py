"""Passage match: does some retrieved passage hold the answer?"""

from __future__ import annotations

from typing import Any

from tuneful.evaluate.metrics.accepted import accepted, texts
from tuneful.spec.normalize import normalize_text


def answer_passage_match(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001
    """Say whether some passage of `prediction.context` holds some answer of `example.answer`, word for word.

    Each is a text or a list of texts.

    Source: the recall of DPR (Karpukhin et al., 2020), over words after `normalize_text`.
    """
    passages = [f" {normalize_text(p)} " for p in texts(prediction.context)]
    return any(f" {normalize_text(a)} " in p for a in accepted(example.answer) for p in passages)
