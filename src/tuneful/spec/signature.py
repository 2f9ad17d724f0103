"""A signature: what one step does, as an immutable value (name, instructions, ordered typed fields)."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from tuneful.errors import SignatureError, nearest
from tuneful.spec.fields import CONSTRAINTS, Field, Role
from tuneful.spec.forms import field_of, fields_of_class, fields_of_function, names_in_scope
from tuneful.spec.grammar import read_signature
from tuneful.spec.types import type_name


class _ClassForm(type):
    """Turns `class QA(Signature): ...` into a `Signature` value, not a class.

    A value cannot be changed behind the back of the programs that share it, and compares by what it says.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> Any:
        if not any(isinstance(base, _ClassForm) for base in bases):
            return super().__new__(mcs, name, bases, namespace)
        inherited = [b for b in namespace.get("__orig_bases__", ()) if isinstance(b, Signature)]
        fields = fields_of_class(name, namespace, (f for parent in inherited for f in parent._all()), names_in_scope())
        doc = namespace.get("__doc__") or (inherited[0]._own_instructions() if inherited else None)
        return Signature._make(name, doc, fields)


class Signature(metaclass=_ClassForm):
    """What one step does: typed inputs, typed outputs and instructions. An immutable value.

    Three forms, one meaning:

    >>> from tuneful.spec.signature import Signature
    >>> Signature("question, context: list[str] -> answer: float", "Answer from the context.")
    Signature('question, context: list[str] -> answer: float')

    >>> from tuneful.spec.fields import InputField, OutputField
    >>> class Grade(Signature):
    ...     "Grade the essay."
    ...     essay: str = InputField()
    ...     points: int = OutputField(desc="out of 10", ge=0, le=10)
    >>> Grade.output_fields["points"].constraint_text
    'at least 0, at most 10'

    >>> def summarise(text: str) -> str:
    ...     "Summarise the text in one line."
    >>> Signature(summarise).instructions
    'Summarise the text in one line.'

    Args:
        spec: a signature string, a typed function (its parameters are the inputs, its docstring the instructions;
            the output is named after the function, or, where it returns a `TypedDict`, dataclass or `NamedTuple`,
            one output for each member), a mapping `{name: Field declaration or (type, declaration)}`, or a signature.
        instructions: what to do; by default a sentence made from the field names.
        custom_types: types by name for the string form. Types in scope where the string is written are found too.

    Raises:
        SignatureError: the text cannot be read (it points at the column), or a field is declared wrongly.
    """

    name: str
    instructions: str

    def __init__(
        self,
        spec: str | Signature | Callable[..., Any] | Mapping[str, Any],
        instructions: str | None = None,
        *,
        custom_types: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(spec, Signature):
            self._set(name or spec.name, instructions or spec.instructions, spec._fields.values())
        elif isinstance(spec, str):
            names = {**names_in_scope(), **(custom_types or {})}
            self._set(name or "Signature", instructions, read_signature(spec, names))
        elif isinstance(spec, Mapping):
            self._set(name or "Signature", instructions, (field_of(n, f) for n, f in spec.items()))
        elif inspect.isroutine(spec):
            doc = instructions or inspect.getdoc(spec)
            self._set(name or spec.__name__, doc, fields_of_function(spec, custom_types or {}))
        else:
            raise SignatureError(
                f"a signature is a string, a class, a typed function or a mapping, not {type(spec).__name__}: {spec!r}."
            )

    def _set(self, name: str, instructions: str | None, fields: Iterable[Field]) -> None:
        ordered = list(fields)
        ordered.sort(key=lambda f: f.role == "output")  # stable: inputs first, order within a role kept
        by_name = {f.name: f for f in ordered}
        _check_told_apart([f.name for f in ordered if f.role == "output"])
        state = {
            "name": name,
            "instructions": inspect.cleandoc(instructions) if instructions else default_instructions(ordered),
            "_fields": by_name,
            "_inputs": {n: f for n, f in by_name.items() if f.role == "input"},
            "_outputs": {n: f for n, f in by_name.items() if f.role == "output"},
        }
        self.__dict__.update(state)
        text = f"{_side(self._inputs.values())} -> {_side(self._outputs.values())}"
        self.__dict__.update(_text=text, _hash=hash((self.instructions, tuple(by_name), text)))

    @classmethod
    def _make(cls, name: str, instructions: str | None, fields: Iterable[Field]) -> Signature:
        made: Signature = object.__new__(cls)
        made._set(name, instructions, fields)
        return made

    # --- reading ---

    @property
    def fields(self) -> dict[str, Field]:
        """All fields by name, inputs first."""
        return dict(self._fields)

    @property
    def input_fields(self) -> dict[str, Field]:
        """Input fields by name, in order."""
        return dict(self._inputs)

    @property
    def output_fields(self) -> dict[str, Field]:
        """Output fields by name, in order."""
        return dict(self._outputs)

    @property
    def signature(self) -> str:
        """The string form."""
        return str(self)

    @property
    def interface_hash(self) -> str:
        """Hash of what a saved program must match: field names, roles, types and constraints. Not the wording."""
        rows = [[f.name, f.role, type_name(f.type), [list(map(str, c)) for c in f.constraints]] for f in self._all()]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def _all(self) -> list[Field]:
        return list(self._fields.values())

    # Made once: a signature never changes, and is read at every call.
    _fields: dict[str, Field]
    _inputs: dict[str, Field]
    _outputs: dict[str, Field]
    _text: str
    _hash: int

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        head = "" if self.name == "Signature" else f"{self.name}: "
        return f"Signature({head + str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Signature):
            return NotImplemented
        return self is other or (self.instructions == other.instructions and self._all() == other._all())

    def __hash__(self) -> int:
        return self._hash

    def equals(self, other: Signature) -> bool:
        """Say whether instructions and fields, types included, are the same. The name does not count."""
        return self == other

    def __setattr__(self, name: str, value: Any) -> None:
        raise SignatureError(
            f"a signature is immutable: `{name}` cannot be set. Use `with_instructions`, `with_updated_fields`, "
            "`append`, `insert` or `delete`, which return a new one."
        )

    def __delattr__(self, name: str) -> None:
        raise SignatureError(f"a signature is immutable: `{name}` cannot be deleted. Use `delete({name!r})`.")

    def __copy__(self) -> Signature:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature:
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (Signature,)  # `class Longer(QA)`: the body is built on QA's fields, see _ClassForm

    # --- deriving ---

    def with_instructions(self, instructions: str) -> Signature:
        """Return the signature with other instructions; the fields are shared."""
        return self._make(self.name, instructions, self._all())

    def append_instructions(self, text: str) -> Signature:
        """Return the signature with `text` as a further paragraph of its instructions."""
        return self.with_instructions(f"{self.instructions}\n\n{text}")

    def with_updated_fields(self, name: str, type_: Any = None, **changes: Any) -> Signature:
        """Return the signature with one field changed.

        Args:
            name: the field.
            type_: its new type, or None to keep it.
            changes: `desc`, `label` (or `prefix`), `default`, or a constraint such as `ge=0`.

        Raises:
            SignatureError: no such field, or no such option.
        """
        field = self._field(name)
        if "prefix" in changes:
            changes["label"] = changes.pop("prefix").rstrip().rstrip(":")
        constraints = dict(field.constraints) | {k: changes.pop(k) for k in list(changes) if k in CONSTRAINTS}
        unknown = set(changes) - {"desc", "label", "default"}
        if unknown:
            raise SignatureError(
                f"a field has no option `{min(unknown)}`; it has desc, label, default and constraints."
            )
        typed = {} if type_ is None else {"type": type_, "typed": True}
        new = replace(field, constraints=tuple(constraints.items()), **typed, **changes)
        return self._make(self.name, self._own_instructions(), [new if f is field else f for f in self._all()])

    def append(self, name: str, field: Any, type_: Any = None) -> Signature:
        """Return the signature with a field added after the others of its role."""
        return self.insert(-1, name, field, type_)

    def prepend(self, name: str, field: Any, type_: Any = None) -> Signature:
        """Return the signature with a field added before the others of its role."""
        return self.insert(0, name, field, type_)

    def insert(self, index: int, name: str, field: Any, type_: Any = None) -> Signature:
        """Return the signature with a field put at `index` among the fields of its role; -1 is the end.

        Raises:
            SignatureError: the name is taken, the index is out of range, or `field` is no field.
        """
        if name in self._fields:
            raise SignatureError(f"the signature has a field `{name}` already: {self}.")
        new = field_of(name, field if type_ is None else (type_, field))
        same = [f for f in self._all() if f.role == new.role]
        other = [f for f in self._all() if f.role != new.role]
        at = index if index >= 0 else len(same) + 1 + index
        if not 0 <= at <= len(same):
            raise SignatureError(f"index {index} is out of range: there are {len(same)} {new.role} fields.")
        return self._make(self.name, self._own_instructions(), [*same[:at], new, *same[at:], *other])

    def delete(self, name: str) -> Signature:
        """Return the signature without the field. Raises SignatureError where there is no such field."""
        field = self._field(name)
        return self._make(self.name, self._own_instructions(), [f for f in self._all() if f is not field])

    @cached_property
    def without_thoughts(self) -> Signature:
        """What a model that reasons by itself is asked for: all but its thoughts (see `Reasoning`)."""
        asked = [f for f in self._all() if not f.thoughts]
        if len(asked) == len(self._fields) or not any(f.role == "output" for f in asked):
            return self
        return self._make(self.name, self._own_instructions(), asked)

    def with_name(self, name: str) -> Signature:
        """Return the signature under another name."""
        return self._make(name, self.instructions, self._all())

    def _own_instructions(self) -> str | None:
        """The user's instructions, or None where they are the default, which then follows the fields."""
        return None if self.instructions == default_instructions(self._all()) else self.instructions

    def _field(self, name: str) -> Field:
        if name not in self._fields:
            raise SignatureError(f"the signature has no field `{name}`.{nearest(name, self._fields)} It has: {self}.")
        return self._fields[name]

    # --- state ---

    def dump_state(self) -> dict[str, Any]:
        """Return instructions and wording as JSON values, keyed by field name."""
        return {
            "instructions": self.instructions,
            "fields": {f.name: {"label": f.label, "desc": f.desc} for f in self._all()},
        }

    def load_state(self, state: Mapping[str, Any]) -> Signature:
        """Return the signature with the instructions and wording of a saved state."""
        for name in state["fields"]:
            self._field(name)
        fields = [f.with_wording(**state["fields"].get(f.name, {})) for f in self._all()]
        return self._make(self.name, state["instructions"], fields)


def _check_told_apart(outputs: Sequence[str]) -> None:
    """Raise SignatureError for outputs that an answer would not tell apart: models spell a name as they like."""
    seen: dict[str, str] = {}
    for name in outputs:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise SignatureError(f"the outputs `{other}` and `{name}` differ in case only; name one of them otherwise.")


def default_instructions(fields: Iterable[Field]) -> str:
    """Return the sentence that stands in where the user wrote no instructions."""

    def names(role: Role) -> str:
        return ", ".join(f"`{f.name}`" for f in ordered if f.role == role)

    ordered = list(fields)
    return f"Given the fields {names('input')}, produce the fields {names('output')}."


def ensure_signature(spec: Any, instructions: str | None = None) -> Signature:
    """Return `spec` as a signature, building one from a string or a typed function."""
    if isinstance(spec, Signature) and instructions is None:
        return spec
    return Signature(spec, instructions)


def make_signature(spec: Any, instructions: str | None = None, signature_name: str | None = None) -> Signature:
    """Build a signature; the function form of the constructor, as programs in this field write it."""
    return Signature(spec, instructions, name=signature_name)


def _side(fields: Iterable[Field]) -> str:
    return ", ".join(f"{f.name}: {type_name(f.type)}" if f.typed else f.name for f in fields)
