"""A field of a signature: its name, type, role, wording and constraints."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import pydantic
from pydantic import TypeAdapter

from tuneful.errors import SignatureError, nearest
from tuneful.spec.code import Reasoning
from tuneful.spec.types import adapter_for, is_optional, members, type_name

Role = Literal["input", "output"]

#: Constraints that a field may declare; enforced on inputs and on what the model answers.
CONSTRAINTS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")

_PHRASES = {
    "gt": "greater than {}",
    "ge": "at least {}",
    "lt": "less than {}",
    "le": "at most {}",
    "multiple_of": "a multiple of {}",
    "min_length": "at least {} {unit}",
    "max_length": "at most {} {unit}",
    "pattern": "matching {}",
}


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"  # a copy of it is itself


MISSING: Any = _Missing()


def infer_label(name: str) -> str:
    """Return the words of a field name as a label: `searchQuery_2` -> `Search query 2`."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).replace("_", " ").split()
    text = " ".join(w if w.isupper() and len(w) > 1 else w.lower() for w in words)
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Field:
    """One input or output of a signature. Immutable; a signature derived from another shares its fields.

    Args:
        name: Python name, the key of the value everywhere.
        role: "input" or "output".
        type: any pydantic type.
        typed: whether the user wrote the type. An input with no written type accepts any value.
        desc: what the field holds, shown to the model. A parameter: a teleprompter may set it.
        label: the words shown in front of the value. A parameter too.
        constraints: pairs such as ("ge", 0), from `CONSTRAINTS`.
        default: value of an input that is not given, or of an output that the model leaves out.
        thoughts: whether a model that reasons by itself gives it unasked. An output declared as `Reasoning` becomes a
            text with this mark, so that adapters need to know nothing of it.
    """

    name: str
    role: Role
    type: Any = str
    typed: bool = True
    desc: str = ""
    label: str = ""
    constraints: tuple[tuple[str, Any], ...] = ()
    default: Any = MISSING
    thoughts: bool = False

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", infer_label(self.name))
        if self.type is Reasoning:
            object.__setattr__(self, "type", str)
            object.__setattr__(self, "thoughts", self.role == "output")
            object.__setattr__(self, "typed", self.role == "input")

    @property
    def annotation(self) -> Any:
        """The type with its constraints, for pydantic."""
        if not self.constraints:
            return self.type
        return Annotated[self.type, pydantic.Field(**dict(self.constraints))]

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Pydantic's validator of the type and the constraints."""
        return adapter_for(self.annotation)

    @cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The members of the type where it is a union, else the type alone."""
        return members(self.type)

    @cached_property
    def plain(self) -> bool:
        """Whether any text is a value: a `str` without constraints."""
        return self.type is str and not self.constraints

    @cached_property
    def reworded(self) -> bool:
        """Whether somebody has given the field a label of its own."""
        return self.label not in (self.name, infer_label(self.name))

    @property
    def optional(self) -> bool:
        """Whether the field may be absent: it has a default, or its type admits None."""
        return self.default is not MISSING or is_optional(self.type)

    def absent_value(self) -> Any:
        """Return what an absent optional field holds."""
        return None if self.default is MISSING else copy.deepcopy(self.default)

    @property
    def constraint_text(self) -> str:
        """The constraints in words, or ""."""
        unit = "characters" if str in self.kinds else "items"
        return ", ".join(_PHRASES[k].format(v, unit=unit) for k, v in self.constraints)

    def describe(self) -> str:
        """Return name, type, constraints and description as one line of documentation."""
        detail = f" ({self.constraint_text})" if self.constraints else ""
        return f"{self.name}: {type_name(self.type)}{detail}" + (f" - {self.desc}" if self.desc else "")

    def with_wording(self, *, label: str | None = None, desc: str | None = None) -> Field:
        """Return the field with other words for the model."""
        return replace(self, label=self.label if label is None else label, desc=self.desc if desc is None else desc)


@dataclass(frozen=True)
class FieldDeclaration:
    """What `InputField()` or `OutputField()` leaves in a class body until the signature is built."""

    role: Role
    desc: str = ""
    label: str = ""
    constraints: tuple[tuple[str, Any], ...] = ()
    default: Any = MISSING

    def bind(self, name: str, type_: Any = MISSING) -> Field:
        """Give the declaration its name and type."""
        typed = type_ is not MISSING
        return Field(
            name=name,
            role=self.role,
            type=type_ if typed else str,
            typed=typed,
            desc=self.desc,
            label=self.label,
            constraints=self.constraints,
            default=self.default,
        )


def _declare(role: Role, options: dict[str, Any]) -> FieldDeclaration:
    desc = options.pop("desc", None) or options.pop("description", None) or ""
    label = (options.pop("label", None) or options.pop("prefix", None) or "").rstrip().rstrip(":")
    default = options.pop("default", MISSING)
    unknown = [k for k in options if k not in CONSTRAINTS]
    if unknown:
        known = ("desc", "label", "prefix", "default", *CONSTRAINTS)
        raise SignatureError(
            f"`{role.title()}Field` has no option `{unknown[0]}`.{nearest(unknown[0], known)} "
            f"It takes: {', '.join(known)}."
        )
    return FieldDeclaration(role, desc, label, tuple((k, options[k]) for k in CONSTRAINTS if k in options), default)


def InputField(**options: Any) -> Any:  # noqa: N802 (the field's name; reads as a type in a class body)
    """Declare an input in a class signature.

    Args:
        desc: what the field holds, shown to the model.
        label: the words in front of the value (also accepted as `prefix`).
        default: value where the caller gives none.
        gt, ge, lt, le, multiple_of, min_length, max_length, pattern: constraints, enforced.

    Raises:
        SignatureError: an option that does not exist.
    """
    return _declare("input", options)


def OutputField(**options: Any) -> Any:  # noqa: N802
    """Declare an output in a class signature; takes what `InputField` takes. Constraints bind the model's answer."""
    return _declare("output", options)
