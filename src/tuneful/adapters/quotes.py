"""A text in quotes as models write it: a JSON string that breaks off, has a loose backslash, or is talked on after."""

from __future__ import annotations

import json
import re

NOT_CLOSED = "quote not closed"
TEXT_AFTER = "text after the quotes"

_DECODER = json.JSONDecoder(strict=False)  # line breaks as they are
_BACKSLASH = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?')


def read_quoted(text: str, salvages: list[str]) -> str:
    """Return what stands in the quotes that a text begins with. Never raises.

    Args:
        text: begins with a double quote.
        salvages: receives the tolerances.
    """
    sound = _BACKSLASH.sub(lambda found: found[0] if found[1] else r"\\", text)
    try:
        said, end = _DECODER.raw_decode(sound)
    except ValueError:
        said, end = _DECODER.raw_decode(f'{sound}"')
        salvages.append(NOT_CLOSED)
    if sound[end:].strip():
        salvages.append(TEXT_AFTER)
    return str(said)
