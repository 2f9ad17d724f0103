"""What models put around a value: code fences, the field's own label, a box, emphasis. Each is taken off by itself.

A text field keeps its text but for what is certainly no part of it (`unwrapped`). A value of another type may be peeled
as long as it takes (`peelings`), since its type says when it is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from tuneful.spec.fields import Field

LABEL = "label removed"
FENCE = "fence removed"
PUNCTUATION = "punctuation removed"

#: Words after ``` that say of what is inside only that it is text. Another one belongs to the text: it is code.
_TEXT_FENCES = ("", "text", "txt", "plain", "plaintext")
_WHOLE_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_ANY_FENCE = re.compile(r"```[ \t]*(?:[\w+-]*[ \t]*\n)?(.*?)(?:```|\Z)", re.DOTALL)
_FENCE_OPEN = re.compile(r"(?:\A|\n)[ \t]*```[ \t]*[\w+-]*\s*\Z")
_FENCE_END = re.compile(r"\n[ \t]*```\s*\Z")
_FENCE_END_BEGUN = re.compile(r"\n[ \t]*`{0,3}\s*\Z")

_LEADING_EDGES = " \t\n\r\"'`*_“”‘’«»"
_TRAILING_EDGES = _LEADING_EDGES + ".,;:!"
_BOLD = re.compile(r"\*\*([^*\n]+?)\*\*|__([^_\n]+?)__")
_LATEX_GROUP = re.compile(r"\\(?:text|mathrm|mathbf|textbf|boldsymbol|mathit|textit|operatorname)\s*\{([^{}]*)\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_LATEX_SPACE = re.compile(r"\\[,;:! ]|\\q?quad|~")


# --- text ---


@lru_cache(maxsize=1024)
def _own_label(name: str, label: str) -> re.Pattern[str]:
    words = "|".join({re.escape(name), re.escape(label)})
    return re.compile(rf"[*_`#]*[ \t]*(?:{words})[*_`]*[ \t]*[:：][*_`]*\s*(?=\S)", re.IGNORECASE)


@lru_cache(maxsize=1024)
def _own_label_begun(name: str, label: str) -> re.Pattern[str]:
    words = (name, label)
    starts = "|".join(re.escape(w[:i]) for w in words for i in range(len(w)))
    whole = "|".join(map(re.escape, words))
    return re.compile(rf"[*_`#]*[ \t]*(?:{starts}|(?:{whole})[*_`]*[ \t]*(?:[:：][*_`]*\s*)?)", re.IGNORECASE)


@lru_cache(maxsize=1024)
def wrapping_begins(name: str, label: str) -> frozenset[str]:
    """Return the first characters of a text that may be wrapped; any other text stands as it is."""
    firsts = {name[:1], label[:1]} - {""}
    return frozenset('"`*_# \t') | {f for w in firsts for f in (w, w.lower(), w.upper(), w.casefold())}


def unwrapped(field: Field, text: str) -> tuple[str, tuple[str, ...]]:
    """Return a text without its own label and without code fences around all of it, and what was taken off."""
    taken: tuple[str, ...] = ()
    if label := _own_label(field.name, field.label).match(text):
        text = text[label.end() :]
        taken = (LABEL,)
    fence = _WHOLE_FENCE.fullmatch(text) if text.startswith("```") else None
    if fence and fence[1].lower() in _TEXT_FENCES and "```" not in fence[2]:
        text = fence[2].strip()
        taken += (FENCE,)
    return text, taken


def may_be_wrapped(field: Field, text: str) -> bool:
    """Whether more of a text may show that its beginning is no part of it."""
    if text.startswith("`"):
        word, newline, _ = text[3:].partition("\n")
        known = (
            word.strip().lower() in _TEXT_FENCES if newline else any(t.startswith(word.strip()) for t in _TEXT_FENCES)
        )
        if text[:3] == "```"[: len(text)] and known:
            return True
    label = _own_label(field.name, field.label).match(text)
    return bool(label or _own_label_begun(field.name, field.label).fullmatch(text))


def opens_fence(text: str) -> bool:
    """Whether a text, the words in front of an answer, ends by opening a code fence."""
    return bool(_FENCE_OPEN.search(text))


def without_closing_fence(text: str) -> str:
    """Return the end of an answer without the line that closes a fence around the answer."""
    return _FENCE_END.sub("", text)


def fence_held_back(text: str) -> str:
    """Return a text without an end that may become the line that closes a fence."""
    return _FENCE_END_BEGUN.sub("", text)


# --- values of other types ---


@lru_cache(maxsize=1024)
def _cue(name: str, label: str) -> re.Pattern[str]:
    """Return what announces a value: `Final answer:`, `the answer is`, and so with the field's own name."""
    words = "|".join(map(re.escape, {"answer", "result", "label", "output", name, label}))
    return re.compile(
        r"(?<!\w)(?:(?:so|thus|therefore|hence),?\s+)?(?:(?:the|my|your)\s+)?(?:(?:final|correct|best)\s+)?"
        rf"(?:{words})[*_`\"']*(?:\s+(?:is|are|would\ be)\b|\s*[:：=]|\s+[-–—](?=\s))[*_`:\s]*(?=\S)",
        re.IGNORECASE,
    )


def peelings(field: Field, text: str, *, short: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield a text with ever less around it, and what was taken off; each differs from the one before.

    Args:
        field: the field.
        text: what was written for it.
        short: whether quotes and punctuation around the value are no part of it.
    """
    taken: tuple[str, ...] = ()
    for peel, name in _PEELS if short else _PEELS[:-1]:
        peeled = peel(field, text)
        if peeled != text and peeled:
            text = peeled
            taken += (name,)
            yield text, taken


def _unfenced(_: Field, text: str) -> str:
    found = _ANY_FENCE.findall(text) if "```" in text else []
    inside = [f for f in found if f.strip()]
    return inside[0].strip() if len(inside) == 1 else text


def _unboxed(_: Field, text: str) -> str:
    at = text.rfind("\\boxed")
    if at < 0:
        return text
    opening = text.find("{", at)
    depth = 0
    for place in range(opening, len(text)) if opening >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[opening + 1 : place].strip()
    return text


def _without_latex(_: Field, text: str) -> str:
    if "\\" not in text and "$" not in text:
        return text
    plain = _LATEX_FRACTION.sub(r"\1/\2", _LATEX_SPACE.sub(" ", text).replace("{,}", ","))
    plain = _LATEX_GROUP.sub(r"\1", plain)
    plain = re.sub(r"\\([$%&#_])|\\[\[\]()]", r"\1", plain).strip()
    if len(plain) > 1 and plain[0] == plain[-1] == "$":
        plain = plain.strip("$").strip()
    return plain


def _unlabelled(field: Field, text: str) -> str:
    cue = _cue(field.name, field.label).match(text.lstrip("*_`# \n"))
    return cue.string[cue.end() :].strip() if cue else text


def _bare(_: Field, text: str) -> str:
    if "\n" in text or text[:1] in ("[", "{"):
        return text
    return text.lstrip(_LEADING_EDGES).rstrip(_TRAILING_EDGES)


_PEELS = (
    (_unfenced, FENCE),
    (_unboxed, "box removed"),
    (_without_latex, "latex removed"),
    (_unlabelled, LABEL),
    (_bare, PUNCTUATION),
)


def after_cue(field: Field, text: str) -> str:
    """Return what follows the last "the answer is", or the only words in bold, or ""."""
    *_, last = [None, *_cue(field.name, field.label).finditer(text)]
    if last is not None:
        return text[last.end() :].strip()
    bold = [a or b for a, b in _BOLD.findall(text)]
    return bold[0].strip() if len(bold) == 1 else ""
