"""Images, sounds and documents in a prompt: a placeholder in the text, and a part beside it.

A part is made from a value, never from a text: whatever a text holds, a placeholder for instance, it stays text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args, get_type_hints

import pydantic

from tuneful.errors import UsageError
from tuneful.spec.fields import Field
from tuneful.spec.media import Medium
from tuneful.spec.signature import Signature
from tuneful.wire.messages import Media, Message, user

Values = Mapping[str, Any]
Write = Callable[[Signature, Values], str]


def user_turn(write: Write, signature: Signature, *rows: Values, head: str = "") -> Message:
    """Return the user's turn that shows some rows of values.

    Args:
        write: writes one row as text.
        signature: the signature of the rows.
        rows: field values.
        head: text in front of them.

    Returns:
        A message that is plain text where no value holds media. Otherwise the text, in which each is a placeholder
        such as `<image 1>`, and after it the media in that order.

    Raises:
        UsageError: a value holds media and the type of its field does not say so.
    """
    found: list[Media] = []
    texts = [write(signature, _with_placeholders(signature, row, found)) for row in rows]
    text = "\n\n".join([head, *texts] if head else texts)
    return user((text, *found)) if found else user(text)


def holds_media(signature: Signature, values: Values) -> bool:
    """Say whether the inputs of a row hold media. Raises UsageError as `user_turn` does."""
    found: list[Media] = []
    _with_placeholders(signature, values, found)
    return bool(found)


_PLAIN = frozenset({str, int, float, bool, type(None)})


@lru_cache(maxsize=512)
def _any_media(signature: Signature) -> bool:
    return any(_declares_media(f.type) for f in signature.input_fields.values())


def _with_placeholders(signature: Signature, values: Values, found: list[Media]) -> Values:
    """Return the values with a placeholder for each medium among the inputs, and put the media into `found`."""
    if not _any_media(signature) and all(type(v) in _PLAIN for v in values.values()):
        return values  # nearly always
    changed: dict[str, Any] = {}
    for name, field in signature.input_fields.items():
        value = values.get(name)
        if value is None or (type(value) is str and field.type is str):
            continue
        before = len(found)
        declared = _declares_media(field.type)
        shown = _replaced(_typed(field, value) if declared else value, found)
        if len(found) == before:
            continue
        if not declared:
            kind = found[before].kind.title()
            raise UsageError(
                f"the input `{name}` holds a value of type {kind}, and its field does not say so: write "
                f"`{name}: {kind}` (or `{name}: list[{kind}]`) in the signature. No model was called."
            )
        changed[name] = shown
    return {**values, **changed} if changed else values


def _typed(field: Field, value: Any) -> Any:
    """Return the value as the field's type has it: demos that come from a file hold JSON."""
    try:
        return field.adapter.validate_python(value)
    except pydantic.ValidationError:  # such as the name of a field, where a prompt is only looked at
        return value


def _replaced(value: Any, found: list[Media]) -> Any:
    """Return the value with placeholders for its media; one that holds none is returned as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, Medium):
        found.append(Media(value.kind, value.media_type, value.data, value.url, value.name))
        return f"<{value.kind} {sum(m.kind == value.kind for m in found)}>"
    before = len(found)
    shown = value
    if isinstance(value, Mapping):
        shown = {k: _replaced(v, found) for k, v in value.items()}
    elif isinstance(value, (list, tuple)):
        if set(map(type, value)) == {str}:  # the usual case, taken straight
            return value
        shown = [_replaced(v, found) for v in value]
    elif isinstance(value, (set, frozenset)) and any(isinstance(v, Medium) for v in value):
        shown = [_replaced(v, found) for v in sorted(value, key=_order)]  # a set has no order, and a prompt has one
    elif isinstance(value, pydantic.BaseModel):
        shown = {k: _replaced(v, found) for k, v in value}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = {f.name: _replaced(getattr(value, f.name), found) for f in dataclasses.fields(value)}
    return shown if len(found) > before else value


def _order(value: Any) -> tuple[str, ...]:
    return (value.kind, value.url, value.media_type, value.data) if isinstance(value, Medium) else (str(value),)


def _declares_media(annotation: Any) -> bool:
    try:
        return _declares(annotation)
    except TypeError:  # an annotation with unhashable metadata
        return _declares.__wrapped__(annotation)


@lru_cache(maxsize=2048)
def _declares(annotation: Any) -> bool:
    return _mentions(annotation, [])


def _mentions(annotation: Any, seen: list[Any]) -> bool:
    """Say whether media are among what a type is made of."""
    if any(annotation is s for s in seen):
        return False
    seen.append(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Medium):
        return True
    parts: Sequence[Any] = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        parts = [f.annotation for f in annotation.model_fields.values()]
    elif isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        parts = list(get_type_hints(annotation).values())
    return any(_mentions(part, seen) for part in parts)
