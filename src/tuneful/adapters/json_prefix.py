"""The members of a JSON object that breaks off: which have begun, and what their strings say so far."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from tuneful.adapters.prefix import open_string

_DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object.

    Args:
        name: its key.
        text: what it says so far, where it is a string; otherwise "".
        closed: whether it is complete.
    """

    name: str
    text: str
    closed: bool


def members_begun(text: str, names: Collection[str], most_openings: int) -> list[Member]:
    """Return the members with one of the names, each once, of the first object in a text that has any.

    Nothing is returned while another object could still be meant. What follows a mistake is not looked at.
    """
    for opening in islice(re.finditer(r"\{", text), most_openings):
        at = _skipped(text, opening.end())
        if at < len(text) and text[at] not in '"}':
            continue  # a brace in the words before the object
        found: dict[str, Member] = {}
        for member in _members(text, at):
            if member.name in names:
                found.setdefault(member.name, member)
        return list(found.values())
    return []


def _members(text: str, at: int) -> list[Member]:
    found: list[Member] = []
    while text[at : at + 1] == '"':
        try:
            name, at = _DECODER.raw_decode(text, at)
        except ValueError:  # the key is not there yet
            break
        at = _skipped(text, at)
        if text[at : at + 1] != ":":
            break
        member, at = _member(name, text, _skipped(text, at + 1))
        found.append(member)
        if text[at : at + 1] != ",":
            break
        at = _skipped(text, at + 1)
    return found


def _member(name: str, text: str, at: int) -> tuple[Member, int]:
    """Return the member whose value starts at a place, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):  # the value is not there yet, or none
        said = open_string(text, at + 1) if text[at : at + 1] == '"' else ""
        return Member(name, said, closed=False), len(text)
    end = _skipped(text, end)
    if isinstance(value, str):
        return Member(name, value, closed=True), end
    return Member(name, "", closed=text[end : end + 1] in (",", "}")), end  # more digits may follow


def _skipped(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None
    return found.end()
