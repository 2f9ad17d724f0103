"""Submission: the outputs that code gives by calling `submit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from tuneful.adapters.objects import read_members
from tuneful.adapters.values import absent
from tuneful.errors import InputError
from tuneful.spec.fields import Field

#: The function whose arguments are the outputs.
SUBMIT = "submit"


class Submission:
    """What `submit` takes, and its check.

    Args:
        outputs: the fields.
    """

    def __init__(self, outputs: Mapping[str, Field]) -> None:
        self._outputs = outputs

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs, each of its type.

        Raises:
            InputError: some are missing, unknown or of another type; the message tells the code's author.
        """
        names = list(self._outputs)
        if len(args) > len(names) or (unknown := [n for n in kwargs if n not in names]):
            wrong = f"{len(args)} values" if len(args) > len(names) else f"`{unknown[0]}`"
            raise InputError(f"`submit` takes {', '.join(names)}, and got {wrong}. Nothing was submitted.")
        try:
            given = to_jsonable_python({**dict(zip(names, args, strict=False)), **kwargs})
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"`submit` takes texts, numbers, lists and dicts: {error}. Submit again.") from error
        read, problems = read_members(given, self._outputs, [])
        absent(self._outputs, read, problems)
        if problems:
            wrong = "; ".join(f"`{name}`: {problem}" for name, problem in problems.items())
            raise InputError(f"the answer was not accepted: {wrong}. Mend it, and submit again.")
        return {name: read[name] for name in names}
