"""The identity of a rollout: a hash of everything that decides its record.

So a journal never answers for another program, metric, model or row.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tuneful.optimize.facts import facts_of, facts_of_program
from tuneful.optimize.trial import Trial
from tuneful.program.module import Module
from tuneful.spec.example import Example


def hash_of(value: Any) -> str:
    """Return a hash of a JSON value."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    ).hexdigest()[:24]


def fingerprint(program: Module) -> str:
    """Return the hash of a program: its code, its parameters and other values, its models and how they sample."""
    return hash_of(facts_of_program(program))


def metric_fingerprint(metric: Any) -> str:
    """Return the hash of a metric: of all that decides its scores."""
    return "" if metric is None else hash_of(facts_of(metric))


def key_of(program: str, metric: str, example: Example, trial: Trial) -> str:
    """Return the key of a rollout.

    Args:
        program, metric: their fingerprints.
        example: the row.
        trial: what it is run for.
    """
    more = ["by step"] if trial.by_step else []
    return hash_of([program, metric, example.content_hash(), trial.sample, trial.bootstrapping, *more])
