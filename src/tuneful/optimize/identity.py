"""The identity of a rollout: a hash of everything that decides its record.

So a journal never answers for another program, metric, model or row.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

from tuneful.optimize.trial import Trial
from tuneful.program.lm import current_lm
from tuneful.program.module import Module
from tuneful.program.runtime import settings
from tuneful.spec.example import Example


def hash_of(value: Any) -> str:
    """Return a hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:24]


def source_of(thing: Any) -> str:
    """Return the source of a function or class, or its name where there is none to read (a notebook's builtin, say)."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def fingerprint(program: Module) -> str:
    """Return the hash of a program: its code, its parameters, its models and how they sample."""
    lms = {path: p.lm or current_lm() for path, p in program.named_predictors()}
    models = {path: [lm.endpoint, lm.sampling.to_json()] for path, lm in lms.items()}
    values = {path: p.value for path, p in program.parameters().items()}
    code = sorted({source_of(type(m)) for _, m in program.named_sub_modules()})
    return hash_of([code, values, models, str(settings.adapter)])


def metric_fingerprint(metric: Any) -> str:
    """Return the hash of a metric: its source, or the fingerprint of a program."""
    if metric is None:
        return ""
    return fingerprint(metric) if isinstance(metric, Module) else hash_of(source_of(metric))


def key_of(program: str, metric: str, example: Example, trial: Trial) -> str:
    """Return the key of a rollout.

    Args:
        program, metric: their fingerprints.
        example: the row.
        trial: what it is run for.
    """
    return hash_of([program, metric, example.content_hash(), trial.sample, trial.bootstrapping])
