"""Proposal: what a proposer gives, by what it is asked for, checked before a search takes it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tuneful.errors import ProposalError
from tuneful.spec.prediction import Prediction

#: The fields that teleprompters read of a proposal, by the proposer's name. Proposers of other names may give anything.
READ: dict[str, dict[str, Any]] = {
    "advice": {"advice": dict[str, str]},
    "data summary": {"summary": str},
    "instructions": {"instructions": str},
    "reflection": {"instructions": str},
    "rules": {"rules": list[str]},
    "wording": {"label": str, "description": str},
}


def checked_proposal(name: str, given: Any) -> dict[str, Any]:
    """Return what a proposer gave, as JSON values.

    >>> checked_proposal("data summary", Prediction({"summary": "Sums of two digits."}))
    {'summary': 'Sums of two digits.'}

    Args:
        name: the proposer's.
        given: what it returned.

    Raises:
        ProposalError: it is no prediction, lacks a field, or has one of another type.
    """
    wanted = READ.get(name, {})
    expected = ", ".join(f"{field}: {_name(kind)}" for field, kind in wanted.items())
    if not isinstance(given, Prediction):
        shape = f" with {expected}" if expected else ""
        raise ProposalError(
            f"the proposer `{name}` returned {given!r:.80}; expected a tf.Prediction{shape}.", proposer=name
        )
    found = dict(given.to_dict())
    for field, kind in wanted.items():
        try:
            _adapter(kind).validate_python(found.get(field), strict=True)
        except ValidationError as error:
            raise ProposalError(
                f"the proposer `{name}` gave {field}={found.get(field)!r:.80}; expected {expected}.", proposer=name
            ) from error
    return found


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)


@lru_cache(maxsize=16)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
