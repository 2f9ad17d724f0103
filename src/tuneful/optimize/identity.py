"""The identity of a rollout: a hash of everything that decides its record.

So a journal never answers for another program, metric, model or row. What counts of a value is said in `facts`.
"""

from __future__ import annotations

from typing import Any

from tuneful.optimize.facts import Facts, hash_of
from tuneful.optimize.trial import Trial
from tuneful.program.module import Module
from tuneful.program.running.runtime import settings
from tuneful.spec.example import Example


def fingerprint(program: Module, facts: Facts | None = None) -> str:
    """Return the hash of a program: its code, its parameters and other values, its models and how they sample.

    Args:
        program: the program.
        facts: what has been looked at already, by one who asks for many programs of the same code.
    """
    return with_values(fixed(program, facts or Facts()), program)


def fixed(program: Module, facts: Facts) -> str:
    """Return the hash of what a program is besides the values of its parameters."""
    ambient = [settings.adapter, settings.max_repairs, settings.max_backtracks, settings.rm]
    parts = frozenset(id(part) for _, part in program.named_sub_modules())
    return hash_of([facts.of(program, parts), facts.of(ambient)])


def with_values(fixed: str, program: Module) -> str:
    """Return the hash of a program that has the values of its parameters from `program`, and else is `fixed`."""
    return hash_of([fixed, {path: p.value for path, p in program.parameters().items()}])


def metric_fingerprint(metric: Any, facts: Facts | None = None) -> str:
    """Return the hash of a metric, whether it is a function, an object that is called, or a program."""
    if metric is None:
        return ""
    return fingerprint(metric, facts) if isinstance(metric, Module) else (facts or Facts()).of(metric)


def key_of(program: str, metric: str, example: Example, trial: Trial) -> str:
    """Return the key of a rollout.

    Args:
        program, metric: their fingerprints.
        example: the row.
        trial: what it is run for.
    """
    more = ["by step"] if trial.by_step else []
    return hash_of([program, metric, example.content_hash(), trial.sample, trial.bootstrapping, *more])
