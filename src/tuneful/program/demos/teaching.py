"""Which predictor of a teacher teaches which of the student's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.program.module import Module


def taught_paths(teacher: Module, student: Module) -> dict[str, str]:
    """Return the student's predictor path for each of the teacher's that teaches one.

    A teacher is the student's own program, compiled perhaps or with another LM, or one with predictors at the same
    paths that write some of the same fields; or it holds that program, once or
    several times, as an ensemble or `BestOfN` does: a part of the teacher with the same predictors, with the same
    fields, teaches by their paths within that part.

    >>> from tuneful.modules.ensemble import EnsembledProgram
    >>> from tuneful.program.predict import Predict
    >>> student = Predict("question -> answer")
    >>> taught_paths(EnsembledProgram([student.deepcopy(), student.deepcopy()]), student)
    {'programs[0]': '', 'programs[1]': ''}
    """
    mine = {path: _interface(p) for path, p in student.named_predictors()}
    same = {path: path for path, p in teacher.named_predictors() if path in mine and _interface(p)[1] & mine[path][1]}
    if same:
        return same
    found: dict[str, str] = {}
    for prefix, part in teacher.named_sub_modules():
        theirs = {path: _interface(p) for path, p in part.named_predictors()}
        if theirs == mine:
            found |= {".".join(filter(None, (prefix, path))): path for path in mine}
    return found


def as_taught(steps: Iterable[Mapping[str, Any]], paths: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
    """Return the steps of a teacher's run that teach the student something, under the student's paths."""
    return tuple({**step, "path": paths[step["path"]]} for step in steps if step["path"] in paths)


def _interface(predictor: Any) -> tuple[frozenset[str], frozenset[str]]:
    signature = predictor.signature
    return frozenset(signature.input_fields), frozenset(signature.output_fields)
