"""Events: what a program says while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldStarted:
    """A predictor has begun to write an output field.

    Args:
        path: the predictor's path in the program, as in traces.
        field: the field.
    """

    path: str
    field: str


@dataclass(frozen=True, slots=True)
class FieldPiece:
    """Further text of a field whose value is a text. Other fields have no pieces.

    Args:
        path: the predictor's path.
        field: the field.
        text: what comes after the pieces so far.
    """

    path: str
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class FieldEnded:
    """The answer is whole and could be read: the value of a field. It counts, whatever its pieces were.

    Args:
        path: the predictor's path.
        field: the field.
        value: its value.
    """

    path: str
    field: str
    value: Any


@dataclass(frozen=True, slots=True)
class Retracted:
    """What was streamed of an answer does not hold. If a repair turn follows, its fields come again.

    Args:
        path: the predictor's path.
        reason: why: what could not be read, or how the call failed.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    """Further thoughts of a reasoning model, where the provider gives them apart from the answer.

    Args:
        path: the predictor's path.
        text: what comes after the pieces so far.
    """

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the program has returned.

    Args:
        prediction: what it returned, of whatever type.
    """

    prediction: Any


Event = FieldStarted | FieldPiece | FieldEnded | Retracted | ReasoningPiece | Finished
