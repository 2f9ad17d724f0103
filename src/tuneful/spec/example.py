"""Example: one row of data, as attributes and as a mapping, with its input fields marked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any, Self

from pydantic_core import to_jsonable_python

from tuneful.errors import DataError, nearest


class Example:
    """One row of data. Fields are attributes and items; `with_inputs` says which of them a program is given.

    >>> row = Example(question="1+1?", answer="2").with_inputs("question")
    >>> row.answer, row["answer"], dict(row.inputs()), row.labels().answer
    ('2', '2', {'question': '1+1?'}, '2')

    Args:
        base: a mapping or an example to start from; its input marks are kept.
        fields: further fields.
    """

    def __init__(self, base: Mapping[str, Any] | Example | None = None, **fields: Any) -> None:
        marks: frozenset[str] | None = base._input_keys if isinstance(base, Example) else None
        start = base._store if isinstance(base, Example) else dict(base or {})
        self.__dict__["_store"] = {**start, **fields}
        self.__dict__["_input_keys"] = marks

    _store: dict[str, Any]
    _input_keys: frozenset[str] | None

    # --- one row as attributes and as a mapping ---

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_store":
            raise AttributeError(name)
        try:
            return self._store[name]
        except KeyError:
            raise AttributeError(
                f"this {type(self).__name__.lower()} has no field `{name}`.{nearest(name, self._store)} "
                f"It has: {', '.join(self._store) or 'none'}."
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            self.__dict__[name] = value
        else:
            self._store[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __getitem__(self, name: str) -> Any:
        return self._store[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._store[name] = value

    def __delitem__(self, name: str) -> None:
        del self._store[name]

    def __contains__(self, name: object) -> bool:
        return name in self._store

    def __iter__(self) -> Iterator[str]:
        return iter(self._store)

    def __len__(self) -> int:
        return len(self._store)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Example):
            return NotImplemented
        return self._store == other._store

    def __hash__(self) -> int:
        return hash(frozenset((k, v if isinstance(v, (str, int, float)) else None) for k, v in self._store.items()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={v!r}" for k, v in self._store.items())
        marks = f" (inputs: {', '.join(sorted(self._input_keys))})" if self._input_keys else ""
        return f"{type(self).__name__}({fields}){marks}"

    def keys(self) -> list[str]:
        """Return the field names."""
        return list(self._store)

    def values(self) -> list[Any]:
        """Return the values."""
        return list(self._store.values())

    def items(self) -> list[tuple[str, Any]]:
        """Return pairs of name and value."""
        return list(self._store.items())

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or `default` where there is none."""
        return self._store.get(name, default)

    # --- inputs and labels ---

    def with_inputs(self, *names: str) -> Self:
        """Return a copy that marks `names` as inputs.

        Raises:
            DataError: a name that is no field of the example.
        """
        for name in names:
            if name not in self._store:
                raise DataError(
                    f"`{name}` cannot be an input: the example has no such field.{nearest(name, self._store)} "
                    f"It has: {', '.join(self._store)}."
                )
        copy = self.copy()
        copy._input_keys = frozenset(names)
        return copy

    def inputs(self) -> Example:
        """Return the fields that are given to a program, as an example.

        Raises:
            DataError: `with_inputs` was not called.
        """
        if self._input_keys is None:
            raise DataError(
                "this example does not say which of its fields are inputs. "
                f"Call `example.with_inputs(...)` with some of: {', '.join(self._store)}."
            )
        return self._part({k: v for k, v in self._store.items() if k in self._input_keys})

    def labels(self) -> Example:
        """Return the fields that are not inputs, as an example. Raises DataError as `inputs` does."""
        given = self.inputs()
        return Example({k: v for k, v in self._store.items() if k not in given})

    @property
    def has_inputs(self) -> bool:
        """Whether `with_inputs` was called."""
        return self._input_keys is not None

    def _part(self, fields: dict[str, Any]) -> Example:
        part = Example(fields)
        part._input_keys = self._input_keys
        return part

    # --- copies ---

    def copy(self, **changes: Any) -> Self:
        """Return a copy with some fields changed; the input marks are kept."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.__dict__["_store"] = {**self._store, **changes}
        return new

    def without(self, *names: str) -> Self:
        """Return a copy without the fields; the marks of the others are kept. Raises KeyError where one is absent."""
        copy = self.copy()
        for name in names:
            del copy._store[name]
        if self._input_keys is not None:
            copy._input_keys = self._input_keys - set(names)
        return copy

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, nested models and examples included."""
        return {k: _jsonable(v) for k, v in self._store.items()}

    toDict = to_dict  # noqa: N815 (the spelling that programs in this field use)

    def identity(self) -> dict[str, Any]:
        """Return the fields as JSON values that are the same in every process, and differ where the values do.

        Values that JSON has no form for, such as arrays, count by what pickle would take of them.

        Raises:
            DataError: one of them cannot be pickled.
        """
        return {k: self._told(k, v) for k, v in self._store.items()}

    def _told(self, name: str, value: Any) -> Any:
        try:
            return _jsonable(value, _state)
        except (TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"the field `{name}` holds a {type(value).__name__} that nothing tells from another one: "
                f"{error!s:.120}. Give the row a plain value, such as a name, and look the object up in the program."
            ) from error

    def content_hash(self) -> str:
        """Return a hash of the fields and their values: the identity of the row in journals. Raises as `identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]


def _jsonable(value: Any, unknown: Callable[[Any], Any] = str) -> Any:
    """Return a value as JSON; `unknown` gives that of what JSON has no form for."""
    if isinstance(value, Example):
        return {k: _jsonable(v, unknown) for k, v in value._store.items()}
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v, unknown) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v, unknown) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_jsonable(v, unknown) for v in value), key=json.dumps)  # a set has no order, and a row one hash
    return to_jsonable_python(value, bytes_mode="base64", fallback=unknown)


def _state(value: Any) -> Any:
    """Return what pickle would take of a value: what makes it, of what, with which state and items."""
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return f"{value.__module__}.{value.__qualname__}"
    reduced = value.__reduce_ex__(4)
    parts = [reduced] if isinstance(reduced, str) else [list(p) if isinstance(p, Iterator) else p for p in reduced]
    return _jsonable([type(value), *parts], _state)
