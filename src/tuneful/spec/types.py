"""Value types of fields: how a type is named, validated and turned into JSON. Any pydantic type will do."""

from __future__ import annotations

import enum
import types
import typing
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin

import pydantic
from pydantic import ConfigDict, TypeAdapter

NoneType = type(None)


@lru_cache(maxsize=2048)
def _cached_adapter(annotation: Any) -> TypeAdapter[Any]:
    return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except pydantic.PydanticUserError:  # models and dataclasses bring a configuration of their own
        return TypeAdapter(annotation)


def adapter_for(annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's validator for `annotation`; building one costs about a millisecond, so it is kept."""
    try:
        return _cached_adapter(annotation)
    except TypeError:  # an annotation with unhashable metadata
        return _new_adapter(annotation)


def type_name(annotation: Any) -> str:
    """Return the type as a person would write it: `list[str]`, `Literal['a', 'b']`, `float | None`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is NoneType:
        return "None"
    if annotation is Any:
        return "Any"
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(map(type_name, args))
    if origin is typing.Annotated:
        return type_name(args[0])
    if origin is not None:
        inner = ", ".join("..." if a is Ellipsis else type_name(a) for a in args)
        return f"{getattr(origin, '__name__', str(origin))}[{inner}]"
    return getattr(annotation, "__name__", None) or str(annotation)


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union (an optional included), or the type itself as the only one."""
    if get_origin(annotation) is typing.Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def is_optional(annotation: Any) -> bool:
    """Say whether None is a value of the type."""
    return any(m is NoneType for m in members(annotation))


def choices(annotation: Any) -> tuple[Any, ...] | None:
    """Return the values of a `Literal` or an `Enum`, or None for any other type."""
    if get_origin(annotation) is typing.Annotated:
        return choices(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return tuple(m.value for m in annotation)
    return None


def json_schema(annotation: Any) -> dict[str, Any]:
    """Return the JSON schema of the type."""
    return adapter_for(annotation).json_schema()
