"""What a value is certain to begin with, while only the beginning of its text is there.

Shared by the adapters that write fields as text. Whatever might still be read as something else is held back: blanks
at the end (the reader strips them), a text in quotes (it may be a JSON string), a word that may mean None, what may be
the field's own label or a code fence around all of it.
"""

from __future__ import annotations

import json
import re

from tuneful.adapters.values import ValueProblem, read_value
from tuneful.adapters.wrapping import may_be_wrapped, wrapping_begins
from tuneful.spec.fields import Field

_TEXT_TYPES = (str, str | None)
_EMPTY_WORDS = ("none", "null", "n/a", "nil")

_STRING_BODY = re.compile(
    r"""
    (?: [^"\\\x00-\x1f]++
      | \\["\\/bfnrt]
      | \\u(?![dD][89abAB])[0-9a-fA-F]{4}
      | \\u[dD][89abAB][0-9a-fA-F]{2} (?= [^\\] | \\[^u] | \\u[0-9a-fA-F]{4} )  # half a pair waits
    )*+
    """,
    re.VERBOSE,
)
_MAY_BE_STRING = re.compile(
    r"""
    " (?: [^"\\\x00-\x1f]++ | \\["\\/bfnrt] | \\u[0-9a-fA-F]{4} )*+
    (?: (?: \\ (?: u[0-9a-fA-F]{0,3} )? )? | " )
    """,
    re.VERBOSE,
)


def is_text(field: Field) -> bool:
    """Whether the value of a field is the text that is written for it, so that it may be given piece by piece."""
    return field.type in _TEXT_TYPES


def settled(field: Field, text: str, *, closed: bool) -> str:
    """Return what the value is certain to begin with, or "" for a field whose value is no text.

    Args:
        field: the field.
        text: what was written for it so far.
        closed: whether that is all of it.
    """
    if not is_text(field):
        return ""
    shown = text.strip()
    if closed:
        return _read(field, shown)
    if shown[:1] in wrapping_begins(field.name, field.label) and (
        _MAY_BE_STRING.fullmatch(shown) or may_be_wrapped(field, shown)
    ):
        return ""
    undecided = field.type is not str and any(word.startswith(shown.lower()) for word in _EMPTY_WORDS)
    return "" if undecided else shown


def _read(field: Field, text: str) -> str:
    try:
        value = read_value(field, text)
    except ValueProblem:  # the answer as a whole will be refused
        return text
    return value if isinstance(value, str) else ""


def open_string(text: str, start: int) -> str:
    """Return what a JSON string says so far, whose end is not there yet.

    Args:
        text: a text that breaks off in the string.
        start: where the string's first character is, after its quote.
    """
    found = _STRING_BODY.match(text, start)
    assert found is not None
    said: str = json.loads(f'"{found.group()}"')
    return said
