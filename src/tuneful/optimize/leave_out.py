"""Leaving out: a program without the demos that were made from a row, so that it cannot copy its own answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneful.program.module import Module
from tuneful.spec.example import Example


def without_own_demos(program: Module, example: Example) -> Module:
    """Return the program without the demos that hold the example's own inputs."""
    own = example.inputs().to_dict()

    def is_own(demo: Mapping[str, Any] | Example) -> bool:
        shared = [k for k in own if k in demo]
        return bool(shared) and all(Example(demo).to_dict()[k] == own[k] for k in shared)

    if not any(is_own(d) for p in program.predictors() for d in (*p.demos, *p.demo_pool.rows)):
        return program
    copy = program.deepcopy()
    for predictor in copy.predictors():
        predictor.demos = [d for d in predictor.demos if not is_own(d)]
        predictor.demo_pool = predictor.demo_pool.without(is_own)
    return copy
