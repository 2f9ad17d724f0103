"""The tree of a program: its parts in attributes, in lists, tuples and dicts, nested as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneful.spec.tool_form import ToolForm


class Part:
    """What stands in the tree with a path of its own: a module."""


def walk(part: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield a part and all parts in it, with their paths; one that is in several places only once."""
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    yield path, part
    for name, value in part.__dict__.items():
        yield from parts_in(value, f"{path}.{name}" if path else name, seen)


def parts_in(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the parts in a value that stands at `path`."""
    if isinstance(value, Part):
        yield from walk(value, path, seen)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from parts_in(item, f"{path}[{i}]", seen)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from parts_in(item, f"{path}[{key!r}]", seen)
    elif isinstance(value, ToolForm):  # a module may be a tool
        yield from parts_in(getattr(value, "func", None), path, seen)


def substituted(value: Any, new: Mapping[int, Any]) -> Any:
    """Return `value` with each part that `new` knows by its id exchanged; lists and dicts are changed in place."""
    if isinstance(value, Part):
        return new.get(id(value), value)
    if isinstance(value, list):
        value[:] = [substituted(item, new) for item in value]
    elif isinstance(value, dict):
        value.update({key: substituted(item, new) for key, item in value.items()})
    elif isinstance(value, tuple):
        parts = [substituted(item, new) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    elif isinstance(value, ToolForm) and isinstance(func := getattr(value, "func", None), Part):
        vars(value)["func"] = new.get(id(func), func)
    return value
