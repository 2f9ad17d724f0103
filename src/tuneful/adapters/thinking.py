"""Thoughts that a reasoning model writes in front of its answer, and how they are told from the answer."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

#: Tags that no field is taken for: `<think>`, and Magistral's and Kimi's ways of writing it.
_TAGS = ("think", "thinking", "thought", "thoughts", "scratchpad", "seed:think")
_OPENINGS = (*(f"<{t}>" for t in _TAGS), "[think]", "◁think▷", "<|begin_of_thought|>")
_CLOSINGS = (*(f"</{t}>" for t in _TAGS), "[/think]", "◁/think▷", "<|end_of_thought|>")
#: Tags that are thoughts unless an output field is called so.
_WORDS = ("reasoning", "analysis", "reflection")
_FIRST = "<[◁"


@lru_cache(maxsize=512)
def _openings(words: tuple[str, ...]) -> tuple[str, ...]:
    return (*_OPENINGS, *(f"<{w}>" for w in words))


@lru_cache(maxsize=512)
def _block(words: tuple[str, ...]) -> re.Pattern[str]:
    opening = "|".join(map(re.escape, _openings(words)))
    closing = "|".join(map(re.escape, (*_CLOSINGS, *(f"</{w}>" for w in words))))
    return re.compile(rf"\A\s*+(?:{opening})(.*?)({closing}|\Z)", re.DOTALL | re.IGNORECASE)


def _words(fields: Collection[str] | None) -> tuple[str, ...]:
    return () if fields is None else tuple(w for w in _WORDS if w not in fields)


def begins_with_thoughts(text: str, fields: Collection[str] | None = None) -> bool:
    """Whether the reader would take the beginning of a text for thoughts."""
    return bool(_block(_words(fields)).match(text))


def strip_thinking(text: str, salvages: list[str], fields: Collection[str] | None = None) -> str:
    """Remove a block of thoughts in front of an answer; one without an end is all of the answer.

    Args:
        text: an answer.
        salvages: receives "thinking removed".
        fields: the names of the output fields; without them only tags that are certainly no fields count.
    """
    if text[:2] == "[[" or (text[:1] not in _FIRST and text.lstrip()[:1] not in _FIRST):  # nearly every answer
        return text
    found = _block(_words(fields)).match(text)
    if found is None:
        return text
    salvages.append("thinking removed")
    return text[found.end() :]


def thoughts_of(text: str, fields: Collection[str] | None = None) -> str:
    """Return what the thoughts in front of an answer say, or ""."""
    found = _block(_words(fields)).match(text)
    return found[1].strip() if found else ""


def open_thoughts(text: str, fields: Collection[str] | None = None) -> str:
    """Return what a text says whose thoughts in front have no end, or ""."""
    found = _block(_words(fields)).match(text)
    return found[1] if found and not found[2] else ""


def after_thoughts(text: str) -> str:
    """Return what follows the last end of thoughts, also of thoughts whose beginning the prompt held; else the text."""
    ends = [m.end() for m in _ENDS.finditer(text)]
    return text[ends[-1] :] if ends and text[ends[-1] :].strip() else text


_ENDS = re.compile("|".join(map(re.escape, _CLOSINGS)), re.IGNORECASE)


def spoken(text: str, fields: Collection[str] | None = None) -> str:
    """Return the beginning of an answer without thoughts in front; "" while it may still be thoughts."""
    if text[:2] == "[[":
        return text
    begun = text.lstrip()
    if begun[:1] not in _FIRST:
        return text
    folded = begun.lower()
    if any(o.startswith(folded) for o in _openings(_words(fields))):
        return ""
    return strip_thinking(text, [], fields)
