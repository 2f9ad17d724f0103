"""The identity of a rollout: a hash of everything that decides its record.

So a journal never answers for another program, metric, model or row.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping, Sized
from functools import lru_cache
from typing import Any

from tuneful.optimize.trial import Trial
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module
from tuneful.program.running.runtime import settings
from tuneful.spec.example import Example

#: Attributes of modules that are told by other means: parameters, and what a run leaves.
_ELSEWHERE = frozenset(
    {"signature", "demos", "demo_pool", "sampling", "adapter", "lm", "token", "_tunables", "_report"}
)


def hash_of(value: Any) -> str:
    """Return a hash of a JSON value."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    ).hexdigest()[:24]


def source_of(thing: Any) -> str:
    """Return the source of a function or class, or its name where there is none to read (a notebook's builtin, say)."""
    try:
        return _read(thing)
    except (OSError, TypeError):
        return str(getattr(thing, "__qualname__", type(thing).__qualname__))


@lru_cache(maxsize=1024)
def _read(thing: Any) -> str:
    return inspect.getsource(thing)  # takes some 20 ms, and every row without its own demos needs a fingerprint


def fingerprint(program: Module) -> str:
    """Return the hash of a program: its code, its parameters and other values, its models and how they sample."""
    lms = {path: p.lm or current_lm() for path, p in program.named_predictors()}
    models = {path: [lm.endpoint, lm.sampling.to_json()] for path, lm in lms.items()}
    values = {path: p.value for path, p in program.parameters().items()}
    code = sorted({source_of(type(m)) for _, m in program.named_sub_modules()})
    facts = {path: _facts(vars(m)) for path, m in program.named_sub_modules()}
    ambient = [str(settings.adapter), settings.max_repairs, settings.max_backtracks, _facts(settings.rm)]
    pickers = {path: _facts(p.demo_pool.function) for path, p in program.named_predictors() if p.demo_pool.rows}
    return hash_of([code, facts, values, models, ambient, pickers])


def _facts(value: Any) -> Any:
    """Return what tells a value of a module from another one, as JSON: numbers as they are, functions by their source.

    What is a parameter, a part or an LM has its own place in the fingerprint; of any other object, its type and length.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(k): _facts(v) for k, v in value.items() if k not in _ELSEWHERE}
        case list() | tuple():
            return [_facts(v) for v in value]
        case Module() | LM():
            return type(value).__qualname__
    if inspect.isroutine(value):
        return source_of(value)
    if dataclasses.is_dataclass(value):
        return [_facts(getattr(value, f.name)) for f in dataclasses.fields(value)]
    return [type(value).__qualname__, len(value) if isinstance(value, Sized) else None]


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
    more = ["by step"] if trial.by_step else []
    return hash_of([program, metric, example.content_hash(), trial.sample, trial.bootstrapping, *more])
