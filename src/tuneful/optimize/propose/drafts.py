"""Drafts: what a search has written at its beginning: instructions for each step, and words for its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.optimize.propose.describe import examples_text, program_text, rows_of, signature_text
from tuneful.optimize.propose.instructions import TIPS, fresh
from tuneful.optimize.propose.wording import new_words
from tuneful.optimize.trial import Brief, Job
from tuneful.spec.fields import Field

#: Rows that a writer is shown: the same each time, so that the prefix cache serves them.
_SHOWN = 5


def steps(brief: Brief, kind: str) -> dict[str, str]:
    """Return the predictors of which a kind of parameter is free ("instructions", "wording"), with its path."""
    paths = {step: f"{step}.{kind}".lstrip(".") for step in brief.signatures}
    return {step: path for step, path in paths.items() if brief.tunable(path)}


def written_fields(brief: Brief, step: str) -> list[Field]:
    """Return the outputs of a step for which words are worth looking for: those that are no reasoning."""
    return [field for field in brief.signatures[step].output_fields.values() if not field.thoughts]


def jobs(brief: Brief, instructions: int, wording: int) -> list[Job]:
    """Return the texts to write: so many instructions for each step, and words for each field that it writes.

    Each job's `step` is where its result belongs: the path of a parameter, and after a colon the name of a field.
    """
    tips, found = list(TIPS.values()), list[Job]()
    for step, path in steps(brief, "instructions").items():
        given = {**_about(brief, step), "program": "" if brief.student is None else program_text(brief.student, step)}
        for i in range(instructions):
            found.append(Job("instructions", {**given, "tip": tips[i % len(tips)], "sample": i, "step": path}))
    for step, path in steps(brief, "wording").items():
        for field in written_fields(brief, step):
            given = {**_about(brief, step), "field": field.name}
            found += [Job("wording", {**given, "sample": i, "step": f"{path}:{field.name}"}) for i in range(wording)]
    return found


def taken(brief: Brief, results: Sequence[tuple[Job, Any]]) -> dict[str, list[Any]]:
    """Return what was written by where it belongs: only what is new and says something."""
    by_place: dict[str, list[tuple[str, Any]]] = {}
    for job, made in results:
        by_place.setdefault(job.inputs["step"], []).append((job.name, made))
    found: dict[str, list[Any]] = {}
    for place, all_made in by_place.items():
        path, _, name = place.partition(":")
        now, made = brief.parameters[path].value, [one for _, one in all_made]
        found[place] = new_words(made, now[name], ()) if name else fresh(made, [now])
    return {place: values for place, values in found.items() if values}


def _about(brief: Brief, step: str) -> Mapping[str, Any]:
    signature, rows = brief.signatures[step], brief.trainset
    shown = brief.stream("examples").sample(rows, min(_SHOWN, len(rows)))
    return {"task": signature_text(signature), "examples": examples_text(rows_of(signature, shown))}
