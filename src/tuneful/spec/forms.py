"""The forms that a signature is written in, as fields: a class body, a typed function, a mapping.

The text form is read by `grammar`.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

from tuneful.errors import SignatureError
from tuneful.spec.fields import MISSING, Field, FieldDeclaration
from tuneful.spec.grammar import read_type

_PACKAGE = __name__.partition(".")[0]


def names_in_scope() -> dict[str, Any]:
    """Return the names visible where the user wrote the signature: the nearest frame outside the package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return {**frame.f_globals, **frame.f_locals} if frame is not None else {}


def field_of(name: str, declared: Any) -> Field:
    """Return an entry of a mapping, a declaration or (type, declaration), as a field. SignatureError for another."""
    type_, field = declared if isinstance(declared, tuple) else (None, declared)
    if isinstance(field, Field):
        return replace(field, name=name)
    if not isinstance(field, FieldDeclaration):
        raise SignatureError(f"`{name}` must be declared with InputField() or OutputField(), not {field!r}.")
    return field.bind(name, MISSING if type_ is None else type_)


def fields_of_class(
    name: str, namespace: Mapping[str, Any], inherited: Iterable[Field], scope: Mapping[str, Any]
) -> list[Field]:
    """Return the fields that a class body declares, after those it inherits.

    Raises:
        SignatureError: it holds something else, or has no input or no output.
    """
    annotations = _class_annotations(namespace)
    declared = {k: v for k, v in namespace.items() if not k.startswith("__")}
    fields = {f.name: f for f in inherited}
    for field_name in dict.fromkeys((*annotations, *declared)):
        declaration = declared.get(field_name)
        if not isinstance(declaration, FieldDeclaration):
            raise SignatureError(
                f"`{field_name}` in signature `{name}` must be declared with InputField() or OutputField(), "
                f"not {declaration!r}. A signature holds fields and a docstring, nothing else."
            )
        annotation = annotations.get(field_name, MISSING)
        if isinstance(annotation, str):
            annotation = read_type(annotation, scope)
        fields[field_name] = declaration.bind(field_name, annotation)
    for role in ("input", "output"):
        if not any(f.role == role for f in fields.values()):
            raise SignatureError(f"signature `{name}` has no {role} field. Declare one with {role.title()}Field().")
    return list(fields.values())


def _class_annotations(namespace: Mapping[str, Any]) -> dict[str, Any]:
    if sys.version_info >= (3, 14):  # annotations are computed on demand there (PEP 649)
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        if annotate is None:
            return {}
        return annotationlib.call_annotate_function(annotate, annotationlib.Format.FORWARDREF)
    return dict(namespace.get("__annotations__", {}))


def fields_of_function(function: Callable[..., Any], names: Mapping[str, Any]) -> list[Field]:
    """Return a function's parameters as inputs and what it returns as outputs: itself, or a record's members.

    Args:
        function: a typed function.
        names: types by name, beside those in scope.

    Raises:
        SignatureError: it takes `*args` or `**kwargs`, or returns None.
    """
    scope = {**getattr(function, "__globals__", {}), **names_in_scope(), **names}
    parsed = inspect.signature(function)

    def resolve(annotation: Any) -> Any:
        if annotation is inspect.Parameter.empty:
            return MISSING
        return read_type(annotation, scope) if isinstance(annotation, str) else annotation

    fields = []
    for parameter in parsed.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise SignatureError(f"`*{parameter.name}` of `{function.__name__}` cannot be a field: name every input.")
        default = MISSING if parameter.default is parameter.empty else parameter.default
        declaration = FieldDeclaration("input", default=default)
        fields.append(declaration.bind(parameter.name, resolve(parameter.annotation)))
    returned = resolve(parsed.return_annotation)
    if returned is None:
        raise SignatureError(f"`{function.__name__}` returns None: its return type says what the step produces.")
    output = FieldDeclaration("output")
    many = _members_of(returned)
    pairs = many.items() if many else [(function.__name__, returned)]
    return fields + [output.bind(name, type_) for name, type_ in pairs]


def _members_of(returned: Any) -> dict[str, Any]:
    """Return the members of a record type (TypedDict, dataclass, NamedTuple), or {} for any other type."""
    is_record = (
        typing.is_typeddict(returned)
        or hasattr(returned, "__dataclass_fields__")
        or (isinstance(returned, type) and issubclass(returned, tuple) and hasattr(returned, "_fields"))
    )
    return typing.get_type_hints(returned, include_extras=True) if is_record else {}
