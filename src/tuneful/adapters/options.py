"""The option of a choice, and the truth value, that a text means; none where two may be meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

#: Options that are also words of any sentence; such a one counts only where it stands as an answer.
_COMMON = frozenset({
    "no", "none", "not", "any", "all", "both", "either", "neither", "other", "some", "it", "us", "in", "on", "or",
    "may", "might", "a", "i", "so", "yes", "do", "does", "is", "out", "up",
})  # fmt: skip
_DENIAL = re.compile(
    r"(?:\b(?:not|never|neither|nor|non|no|hardly|without|rather than|instead of)|n['’]t)\W*(?:\w+\W+)?\Z"
)
_EDGES = " \t\n\r'\"`*_.,;:!()[]{}“”‘’«»"
_JOINT = r"[\s_\-‐-–]+"
#: How alike a misspelt word is to its option at least, and how much less alike to any other (`difflib` ratios).
_ALIKE = 0.84
_CLEARLY = 0.08

_TRUE = frozenset({"true", "yes", "y", "1", "correct", "right"})
_FALSE = frozenset({"false", "no", "n", "0", "incorrect", "wrong"})
#: Words after which a first "yes" or "no" is still an answer: "No it is not", but no "No one knows".
_GOES_ON = frozenset({
    "it", "this", "that", "these", "those", "they", "he", "she", "the", "there", "i", "we", "you", "because", "since",
    "as", "not", "a", "an", "its", "their", "his", "her", "is", "isn't",
})  # fmt: skip
_TRUTH = re.compile(r"(?<![\w-])(true|yes|correct|false|incorrect|untrue|wrong)(?![\w-])")
_DOUBT = re.compile(
    r"\b(?:if|whether|unless|or|may|might|could|would|should|perhaps|maybe|possibly|neither|cannot|unclear|unsure|know)\b|\?"
)
_NOT = re.compile(r"(?:\bnot|\bnever|\bhardly|n['’]t)\s+(?:\w+\s+)?\Z")
_NEGATION = re.compile(r"\b(?:not|never|hardly|no|nothing|none)\b|n['’]t\b")


# --- choices ---


def exact_option(options: tuple[Any, ...], text: str) -> list[Any]:
    """Return the option that is written as it stands, in a list, or nothing."""
    by_text = _by_text(options)
    return [by_text[text]] if text in by_text else []


def read_option(options: tuple[Any, ...], text: str, names: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Yield the option that a text means, the most literal reading first, each with the name of its tolerance.

    Args:
        options: what there is to choose from.
        text: what was written.
        names: further names of options, such as those of an enum's members.
    """
    bare = text.strip(_EDGES)
    plain = _plain(bare)
    if folded := _only(o for o in options if str(o).casefold() == bare.casefold()):
        yield folded[0], "choice in other case"
    elif alike := _only(o for o in options if plain and not plain[0].isdigit() and _plain(str(o)) == plain):
        yield alike[0], "choice in other form"
    elif named := _only(o for n, o in names.items() if _plain(n) == plain):
        yield named[0], "choice by its name"
    elif inside := _only(_within(options, text)):
        yield inside[0], "choice within a sentence"
    elif close := _close(options, plain):
        yield close


def _by_text(options: tuple[Any, ...]) -> dict[str, Any]:
    return {str(o): o for o in options} | {json.dumps(o, default=str): o for o in options}


def _only(found: Iterator[Any]) -> list[Any]:
    """Return the one thing found, in a list, or nothing where there are several."""
    several: list[Any] = []
    for one in found:
        if not any(type(one) is type(o) and one == o for o in several):
            several.append(one)
    return several if len(several) == 1 else []


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """Return a label with one blank where it has underscores, hyphens and blanks, in lower case, bare of marks."""
    return re.sub(_JOINT, " ", text).strip(_EDGES).casefold()


def _within(options: tuple[Any, ...], text: str) -> Iterator[Any]:
    """Yield the options that a sentence holds and does not deny; the longer one where one is part of another."""
    folded = text.casefold()
    if len(folded) != len(text):  # a letter that folds to two; then places cannot be compared
        text = folded
    taken = bytearray(len(folded))
    for label, option in sorted(((str(o), o) for o in options), key=lambda pair: -len(pair[0])):
        words = _plain(label).split()
        if not words:
            continue
        edge = (r"(?<![\w−-])(?<!\d[.,])", r"(?!\w|[.,]\d)") if words[0][0].isdigit() else (r"(?<!\w)", r"(?!\w)")
        for found in re.finditer(edge[0] + _JOINT.join(map(re.escape, words)) + edge[1], folded):
            start, end = found.span()
            if any(taken[start:end]):
                continue
            taken[start:end] = b"1" * (end - start)
            if not _DENIAL.search(folded, max(0, start - 24), start) and _stands_out(text, start, end, label):
                yield option


def _stands_out(text: str, start: int, end: int, label: str) -> bool:
    """Whether a word in a sentence is meant as an option: a letter or a common word only in the place of an answer."""
    letter = len(label) == 1 and label.isalpha()
    if not letter and label.casefold() not in _COMMON:
        return True
    if letter and text[start:end] != label:
        return False
    before, after = text[:start].rstrip("\"'`*_( ["), text[end:]
    closes = not after.strip() or after[:1] in ")].:,;*\"'`"
    announced = re.search(r"(?:\A|[:=\n]|\b(?:is|option|choice|answer|letter))\s*\Z", before, re.IGNORECASE)
    return closes and (letter or bool(announced))


def _close(options: tuple[Any, ...], plain: str) -> tuple[Any, str] | None:
    """Return the one option that a word begins, or is a misspelling of."""
    if not 3 <= len(plain) <= 60:
        return None
    labels = {_plain(o): o for o in options if isinstance(o, str)}
    begun = [t for t in labels if t.startswith(plain)]
    if len(begun) == 1:
        return labels[begun[0]], "choice cut short"
    if len(plain) < 4 or not labels or any(c.isdigit() for c in plain):
        return None
    ratios = sorted(((SequenceMatcher(None, plain, t).ratio(), t) for t in labels), reverse=True)
    best, *others = ratios
    clear = not others or best[0] - others[0][0] >= _CLEARLY
    if best[0] >= _ALIKE and clear and best[1][:1] == plain[:1]:
        return labels[best[1]], "choice misspelt"
    return None


# --- truth ---


def read_truth(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the truth value that a text means, if it means one."""
    folded = text.casefold().strip(_EDGES)
    first, _, rest = folded.partition(" ")
    word = re.split(r"[\s.,;:!)*_`\"'–—-]", folded, maxsplit=1)[0]
    if word in _TRUE or word in _FALSE:
        goes_on = rest.lstrip(_EDGES).split(" ", 1)[0].rstrip(_EDGES)
        if first != word or not rest or word == "yes" or (len(word) > 1 and goes_on in _GOES_ON):
            if not _part_of_a_word(folded, len(word)):
                yield word in _TRUE, "boolean in other words"
            return
    values = set()
    for found in _TRUTH.finditer(folded):
        true = found[1] in _TRUE
        denied = bool(_NOT.search(folded, max(0, found.start() - 24), found.start()))
        values.add(true != denied)
    denials = [m for m in _NEGATION.finditer(folded) if not _TRUTH.search(folded, m.end(), m.end() + 24)]
    if len(values) == 1 and not denials and not _DOUBT.search(folded):
        yield values.pop(), "boolean in other words"


def _part_of_a_word(text: str, at: int) -> bool:
    """Whether a hyphen or an apostrophe joins a first word to another: "no-one", "y'all", "0.5"."""
    return bool(re.match(r"[-'’.,:/]\w", text[at:]))
