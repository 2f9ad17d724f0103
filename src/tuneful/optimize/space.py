"""Space: everything that may be chosen of a program, as axes with options; a point of it is a candidate.

Demo sets, instructions, wording, adapters, models, sampling and the user's own numbers stand side by side, so that
one search chooses among all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.adapters.select import resolve
from tuneful.errors import UsageError
from tuneful.optimize.trial import Brief, Candidate
from tuneful.program.lm import LM
from tuneful.program.lm_state import restored
from tuneful.program.parameter import Choice, Integer, Parameter, Real, Tunable
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.request import Sampling

#: Most options of a number without options of its own.
_STEPS = 8

#: The option of each axis, by its name.
Point = dict[str, int]


@dataclass(frozen=True)
class Axis:
    """One thing to choose.

    Args:
        name: what is chosen, such as "answer.demos".
        options: values by parameter path, one mapping for each option. The first is the program as it is: {}.
        blends: whether an option may well help on top of others. False of those that change how all is asked, such as
            an adapter or a model, where most options do harm.
    """

    name: str
    options: tuple[Candidate, ...]
    blends: bool = True

    @classmethod
    def of(cls, path: str, now: Any, values: Iterable[Any], *, blends: bool = True) -> Axis:
        """Return the axis of one parameter: its value as it is, then the other values, none twice."""
        others: list[Any] = []
        for value in values:
            if value != now and value not in others:
                others.append(value)
        return cls(path, ({}, *({path: value} for value in others)), blends)


Space = tuple[Axis, ...]


def origin(space: Space) -> Point:
    """Return the point that is the program as it is."""
    return {axis.name: 0 for axis in space}


def candidate(space: Space, point: Mapping[str, int]) -> Candidate:
    """Return the values that a point stands for. An axis that the point does not name stays as it is.

    Axes that set parts of one parameter, such as the words of two fields, are put together.
    """
    found: Candidate = {}
    for axis in space:
        for path, value in axis.options[point.get(axis.name, 0)].items():
            both = path in found and isinstance(found[path], dict) and isinstance(value, dict)
            found[path] = {**found[path], **value} if both else value
    return found


def spread(space: Space, n: int) -> list[Point]:
    """Return up to n points that are each on many axes at once, so that every option of these is among them in turn.

    Each point tells something of all its options (a factorial design, as against one factor at a time), and only such
    points find what helps together and not alone. Axes that do not blend stay as they are.
    """
    mixed = [axis for axis in space if axis.blends]
    longest = max((len(axis.options) for axis in mixed), default=0)
    points = [{**origin(space), **{a.name: k % len(a.options) for a in mixed}} for k in range(1, longest)]
    return points[:n] if len(mixed) > 1 else []


def neighbours(space: Space, point: Mapping[str, int]) -> list[Point]:
    """Return the points that differ from one in a single axis."""
    here = {**origin(space), **point}
    return [
        {**here, axis.name: option}
        for axis in space
        for option in range(len(axis.options))
        if option != here[axis.name]
    ]


def size(space: Space) -> int:
    """Return how many points there are."""
    return math.prod(len(axis.options) for axis in space)


def sized(axes: Iterable[Axis]) -> Space:
    """Return the axes that leave a choice."""
    return tuple(axis for axis in axes if len(axis.options) > 1)


# --- the axes ---


def numbers(brief: Brief) -> Space:
    """Return the axes of the user's own `Choice`, `Integer` and `Real`; of long ranges some values, evenly spread."""
    found = (p for p in brief.parameters.values() if p.space is not None and not p.frozen)
    return sized(Axis.of(p.path, p.value, _values(p.space)) for p in found if p.space is not None)


def _values(space: Tunable) -> Sequence[Any]:
    match space:
        case Choice():
            return space.values
        case Integer() if space.high - space.low < _STEPS:
            return range(space.low, space.high + 1)
        case Integer():
            return [round(value) for value in _spread(space.low, space.high, log=space.log)]
        case Real():
            return _spread(space.low, space.high, log=space.log)
    return ()


def _spread(low: float, high: float, *, log: bool) -> list[float]:
    if low == high:
        return [low]
    shares = [i / (_STEPS - 1) for i in range(_STEPS)]
    inner = [low * (high / low) ** s if log else low + s * (high - low) for s in shares[1:-1]]
    return [low, *inner, high]  # the ends as they were given, whatever rounding would make of them


def each(brief: Brief, kind: str, values: Sequence[Any]) -> Space:
    """Return an axis for each free parameter of a kind ("adapter", "lm", ...), with the same values."""
    return sized(Axis.of(p.path, p.value, values, blends=False) for p in _free(brief, kind))


def sampling(brief: Brief, name: str, values: Sequence[Any]) -> Space:
    """Return an axis for each predictor's sampling, with values of one of its settings ("temperature", ...)."""
    found = [(p, [{**p.value, name: v} for v in values]) for p in _free(brief, "sampling")]
    return sized(Axis.of(p.path, p.value, own, blends=False) for p, own in found)


def _free(brief: Brief, kind: str) -> list[Parameter]:
    return [p for p in brief.parameters.values() if p.kind == kind and not p.frozen]


# --- what users name as options ---


def known_adapters(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of adapters. Raises UsageError where there is none of a name, or something else is given."""
    found = (names,) if isinstance(names, str) else _listed("adapters", names)
    for name in found:
        if not isinstance(name, str):
            raise UsageError(
                f"`adapters` has {name!r:.80} in it; expected names, such as 'json', which a saved program can hold."
            )
        resolve(name, Capabilities())
    return found


def known_temperatures(temperatures: Sequence[float]) -> tuple[float, ...]:
    """Return temperatures. Raises UsageError where one is none."""
    found = _listed("temperatures", temperatures)
    for value in found:
        Sampling.from_options({"temperature": value})
    return found


def lm_states(models: Sequence[LM | str | Mapping[str, Any]]) -> tuple[Any, ...]:
    """Return LMs as values of their parameter; see `LM.state`.

    Raises:
        UsageError: an unknown name, or an LM that is more than its state says: a saved program could not find it again.
    """
    return tuple(_state(model) for model in _listed("models", models))


def _listed(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UsageError(f"`{name}` is {values!r:.80}; expected a list of options, as in {name}=[...].")
    return tuple(values)


def lms_of_states(brief: Brief, states: Sequence[Any]) -> list[LM]:
    """Return the LMs of such values, where a predictor may take them."""
    return [restored(state) for state in states] if _free(brief, "lm") else []


def _state(model: LM | str | Mapping[str, Any]) -> Any:
    state = model.state if isinstance(model, LM) else model
    again = restored(state)
    if isinstance(model, LM) and (again.endpoint, again.sampling) != (model.endpoint, model.sampling):
        raise UsageError(
            f"{model!r} cannot be one of several models to choose from: a program is saved with a model's name, and "
            f"{model.model!r} alone is another LM. Give names that need no further settings in `tf.LM(name)`; sampling "
            "options go on the predictors."
        )
    return state
