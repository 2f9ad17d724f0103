"""Leaving out: which demo was made from which row, so that no row is run with its own and could copy the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

from tuneful.optimize.facts import hash_of
from tuneful.program.module import Module
from tuneful.spec.example import Example
from tuneful.spec.signature import Signature

#: Where a program shows demos of a row: the predictor's path, and the demos' numbers among its demos and in its pool.
Places = dict[str, tuple[set[int], set[int]]]


class Origins:
    """Knows from which row a demo was made: from the runs that it was told of, or by what demo and row share.

    Rows with equal inputs are one and the same here. What several rows could have given is nobody's own: it says
    nothing of one of them that the others do not say too.

    Args:
        rows: all rows that programs are run on.
    """

    def __init__(self, rows: Sequence[Example]) -> None:
        self._inputs: set[str] = set()
        self._holding: dict[str, set[str]] = {}  # rows by a field's name and value
        self._made: dict[str, set[str]] = {}  # rows by a step's path and inputs
        for row in rows:
            owner = _key(row)
            self._inputs.update(row.inputs().keys())
            for name, value in row.to_dict().items():
                self._holding.setdefault(hash_of([name, value]), set()).add(owner)

    def note(self, steps: Sequence[Mapping[str, Any]], row: Example, signatures: Mapping[str, Signature]) -> None:
        """Take the steps of a run on a row: demos for the same predictors, of these inputs, may be made from it."""
        for step in steps:
            known = signatures[step["path"]].input_fields if step["path"] in signatures else ()
            if inputs := {name: value for name, value in step["inputs"].items() if name in known}:
                self._made.setdefault(hash_of([step["path"], inputs]), set()).add(_key(row))

    def places(self, program: Module) -> dict[str, Places]:
        """Return where a program shows demos that are a row's own, by row (see `without_own`)."""
        found: dict[str, Places] = {}
        for path, predictor in program.named_predictors():
            for place, demos in enumerate((predictor.demos, predictor.demo_pool.rows)):
                for number, demo in enumerate(demos):
                    shown = Example(demo).to_dict()
                    asked = {n: shown[n] for n in predictor.signature.input_fields if n in shown}
                    if (owner := self._owner(path, asked, shown)) is not None:
                        found.setdefault(owner, {}).setdefault(path, (set(), set()))[place].add(number)
        return found

    def _owner(self, path: str, asked: Mapping[str, Any], shown: Mapping[str, Any]) -> str | None:
        rows = self._made.get(hash_of([path, asked])) or self._alike(n for n in shown.items() if n[0] in self._inputs)
        if len(rows) != 1:  # such inputs are several rows', or none of a row's; its labels may tell
            rows = self._alike(shown.items())
        return next(iter(rows)) if len(rows) == 1 else None

    def _alike(self, values: Iterable[tuple[str, Any]]) -> set[str]:
        """Return the rows that hold all of the values, of those that any row holds."""
        holding = [rows for name, value in values if (rows := self._holding.get(hash_of([name, value])))]
        return reduce(set.intersection, holding) if holding else set()


def without_own(program: Module, example: Example, places: Mapping[str, Places]) -> Module:
    """Return the program without the demos that are the example's own; the program itself where there are none."""
    own = places.get(_key(example))
    if own is None:
        return program
    copy = program.deepcopy()
    for path, predictor in copy.named_predictors():
        if path in own:
            demos, pool = own[path]
            predictor.demos = [demo for i, demo in enumerate(predictor.demos) if i not in demos]
            predictor.demo_pool = predictor.demo_pool.without(pool)
    return copy


def _key(row: Example) -> str:
    return row.inputs().content_hash()
