"""Prompts: what each predictor sends, before and after: for the report's diff."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from tuneful.errors import TunefulError
from tuneful.optimize.evidence import as_text
from tuneful.optimize.trial import Candidate
from tuneful.program.demos.demo_pool import DemoPool
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.program.running.runtime import context
from tuneful.spec.example import Example

#: Most characters of a prompt in a report.
MOST_CHARS = 30_000


def prompts(
    student: Module, candidate: Candidate, inputs: Mapping[str, Mapping[str, Any]], row: Example
) -> dict[str, tuple[str, str]]:
    """Return the prompt of each predictor, of the original and with a candidate's values.

    Args:
        student: the original.
        candidate: the values.
        inputs: what a predictor was given in a run, by its path.
        row: an example, for predictors of which no run is known.
    """
    other = student.with_parameters(candidate)
    twins = dict(other.named_predictors())
    found: dict[str, tuple[str, str]] = {}
    with context(callbacks=()):  # they are sent to nobody
        for path, predictor in student.named_predictors():
            given = inputs.get(path, row.to_dict())
            found[path] = (_text(predictor, given), _text(twins[path], given))
    return found


def standing(predictor: Predict[Any]) -> Predict[Any]:
    """Return the predictor with the first rows of its demo pool as demos: picking the nearest asks an embedder."""
    if not predictor.demo_pool.rows:
        return predictor
    twin = predictor.deepcopy()
    shown = (predictor.demo_pool.value or {})["k"]
    twin.demos = [*predictor.demos, *map(Example, predictor.demo_pool.rows[:shown])]
    twin.demo_pool = DemoPool()
    return twin


def size(program: Module) -> float:
    """Return about how many tokens the prompts of a program have, inputs aside, as a mean over its predictors."""
    with context(callbacks=()):
        return fmean([_size(predictor) for predictor in program.predictors()] or [0])


def _size(predictor: Predict[Any]) -> int:
    try:
        return standing(predictor).render().estimated_tokens
    except TunefulError:  # such a prompt is never sent: the program's runs fail before, and cost nothing
        return 0


def _text(predictor: Predict[Any], given: Mapping[str, Any]) -> str:
    shown = {n: given[n] for n in predictor.signature.input_fields if n in given}
    try:
        messages = standing(predictor).render(**shown).messages
    except TunefulError as error:  # a report is worth more than one prompt in it
        return f"(cannot be shown: {as_text(str(error))})"
    text = "\n\n".join(f"[{m.role}]\n{m.text}" for m in messages)
    return text if len(text) <= MOST_CHARS else text[:MOST_CHARS] + "\n(and so on)"
