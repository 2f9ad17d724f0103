"""The number that a text means: with units, separators, currency, as a fraction, in words; none where two may be meant.

A wrong number is worse than none: a model can be asked again, but nobody sees that 5 was read where 10 was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

Number = int | float

_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_SCALES = {"k": 3, "hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
#: What may not follow a number word that is to be the whole number: "one hundred", "one of them", "two thirds".
_NO_UNITS = (
    "of|or|and|to|more|less|fewer|another|by|hundreds?|thousands?|millions?|billions?|trillions?|dozens?|half|halves|"
    r"thirds?|quarters?|fourths?|fifths?|tenths?|percent|point|out|thing|way|day|can|could|must|should|who|which|that|is|"
    + "|".join(_WORDS)
)

_ABOUT = r"(?:approximately|approx\.?|about|around|roughly|nearly|almost|circa|ca\.|exactly|~|≈)"
_CURRENCY = re.compile(r"[$€£¥₹]|USD|EUR|GBP|JPY|CHF|INR", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"\d+,(?:\d{1,2}|\d{4,})|0,\d+")
_MINUS = ("-", "minus", "negative")
_MOST_CUES = 8
_TOKEN = re.compile(
    r"""
    (?P<sign> (?<![\w.,)%\]]) [-+] | \b(?:minus|negative)\s+ )?
    (?: (?:[$€£¥₹]|\b(?:USD|EUR|GBP|JPY|CHF|INR)) \s? (?P<inner>[-+])? )?
    (?P<digits>
        \d{1,3} (?:,\d{2,3})*,\d{3} (?!\d) (?:\.\d+)?        # 1,234.5 and 1,00,000
      | \d{1,3} (?:\.\d{3})+ ,\d+ (?!\d)                     # 1.234,5
      | \d{1,3} (?:\.\d{3}){2,} (?!\d)                       # 1.234.567
      | \d{1,3} (?:[ _']\d{3})+ (?!\d) (?:[.,]\d+)?          # 1 234,5 and 1_000
      | \d+ (?:_\d+)*                                        # 12_34, as Python writes it
        (?: \.\d+ | ,\d{1,2}(?![\d,]) | ,\d{4,}(?![\d,]) )?  # 2.5 and 2,5
      | \.\d+
    )
    (?P<exponent> [eE][-+]?\d+ | \s? (?:[x×*·]|\\times) \s? 10 \s? (?:\^|\*\*) \s? \{? [-+]?\d+ \}? )?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DATE = re.compile(r"(?<!\d)(?!\d{1,3}(?:\.\d{3})+(?![.\d]))\d++([-/.:])\d++(?:\1\d++)++")
_DENIED = re.compile(r"(?:\bnot|n't|n’t|\bnever)\s+(?:\w+\s+)?\Z", re.IGNORECASE)
_MIXED = re.compile(r"\d\s+\d+\s?/\s?\d")
_DIVISOR = re.compile(r"(\s?/\s?|\s+(?:out\s+)?of\s+)(\d+(?:\.\d+)?)(?![\w/]|\.\d)", re.IGNORECASE)
_MARKS = (5, 10, 20, 100)
_NAME_GOES_ON = re.compile(r"[-.:,]\d|[a-z]+\d", re.IGNORECASE)
_SCALE = re.compile(r"(k)(?!\w)|\s*(hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
_BIG_UNIT = re.compile(r"\s?(M|B|mn|bn|tn)(?!\w)")
_BIG_UNITS = {"M": 6, "mn": 6, "B": 9, "bn": 9, "tn": 12}
_PERCENT = re.compile(r"\s?(?:%|percent\b)", re.IGNORECASE)
_CUES = re.compile(r"\b(?:answer|total|result|sum|equals|altogether|therefore|thus|hence)\b|[=≈]", re.IGNORECASE)
_STRONG = "answer"
#: What may stand between such a word and its number.
_BETWEEN = re.compile(
    rf"(?:[\s:=*_`\"'(\\\[{{]|\b(?:is|are|of|was|be|would|the|equal|equals|to|a|an)\b|{_ABOUT})*", re.IGNORECASE
)
_IN_WORDS = re.compile(
    rf"(?:{_ABOUT}\s+|(?:there\s+(?:are|is)|it\s+is|only|just|i\s+think)\s+)?(?P<minus>(?:minus|negative)\s+)?"
    rf"(?P<word>{'|'.join(_WORDS)})(?:\s+(?!(?:{_NO_UNITS})\b)[a-z]+)?\W*",
    re.IGNORECASE,
)
_OPERATOR = re.compile(r"\s*(?:[-+*/×÷^]|\\times|\\cdot)\s*[\d(]")
_LOOKALIKES = str.maketrans("−–‒﹣－＋０１２３４５６７８９．，’\u00a0\u202f\u2009", "-----+0123456789.,'   ")


@dataclass(frozen=True, slots=True)
class _Found:
    """A number in a text.

    Args:
        value: its value, or None where it cannot be told (`5M`, `not 5`).
        start, end: where it stands.
        of: what it is a fraction of, `2` in `1/2`.
        slash: whether it is written as a fraction.
    """

    value: Number | None
    start: int
    end: int
    of: float | None = None
    slash: bool = False


class SeveralNumbersError(ValueError):
    """A text holds several numbers, of which each may be meant."""


def read_numbers(text: str, *, whole: bool) -> Iterator[tuple[Number, str]]:
    """Yield the numbers that a text may mean, the likeliest first, each with the name of the tolerance.

    More than one comes only for a fraction (a value, or a mark out of ten) and a percentage (45, or 0.45): the
    constraints of the field decide.

    Args:
        text: the text.
        whole: whether only a whole number can be meant.

    Raises:
        SeveralNumbersError: several are equally plausible.
    """
    text = text.translate(_LOOKALIKES).strip()
    said = _IN_WORDS.fullmatch(text)
    if said:
        value = _WORDS.index(said["word"].lower())
        yield -value if said["minus"] else value, "number in words"
    elif not _MIXED.search(text):
        chosen = _chosen(text, list(_numbers(text)))
        if chosen is not None and chosen.value is not None:
            yield from _meanings(text, chosen, chosen.value, whole=whole)


def _meanings(text: str, found: _Found, value: Number, *, whole: bool) -> Iterator[tuple[Number, str]]:
    if found.of is None:
        yield value, "number within words"
        if not whole and _PERCENT.match(text, found.end):
            yield value / 100, "percentage"
        return
    meant: list[tuple[Number, str]] = []
    if not found.slash or (found.of in _MARKS and 0 <= value <= found.of):  # 8 out of 10
        meant.append((value, "number within words"))
    if not whole and found.of:
        meant.insert(0 if found.slash else 1, (value / found.of, "fraction"))
    yield from meant


def _chosen(text: str, found: list[_Found]) -> _Found | None:
    if not found:
        return None
    cued = _after_cue(text, found)
    if cued is not None:
        return cued
    if any((f.value, f.of) != (found[0].value, found[0].of) for f in found):
        raise SeveralNumbersError(", ".join(text[f.start : f.end].strip() for f in found[:4]))
    return found[-1]


def _after_cue(text: str, found: list[_Found]) -> _Found | None:
    """Return the number right after the last "answer", or after the last equals sign or word such as "total"."""
    cues = list(_CUES.finditer(text))
    strong = [c for c in cues if c.group().lower() == _STRONG]
    for cue in (*reversed(strong[-_MOST_CUES:]), *reversed(cues[-_MOST_CUES:])):
        between = _BETWEEN.match(text, cue.end())
        assert between is not None
        for number in found:
            if cue.end() <= number.start <= between.end() and not _OPERATOR.match(text, number.end):
                return number
    return None


def _numbers(text: str) -> Iterator[_Found]:
    """Yield the numbers of a text: what is part of a name, a date, a time or a version is none."""
    text = _DATE.sub(lambda m: " " * len(m[0]), text)
    after = 0
    for token in _TOKEN.finditer(text):
        start, end = token.span()
        if start < after or _is_part_of_a_name(text, start, end):
            continue
        with suppress(ValueError):  # more digits than Python reads
            value: Number | None = _value(token)
            if divisor := _DIVISOR.match(text, end):
                after = divisor.end()
                yield _Found(value, start, after, float(divisor[2]), "/" in divisor[1])
                continue
            value, after = _scaled(token, value, text)
            if _DENIED.search(text, max(0, start - 16), start):
                value = None
            yield _Found(value, start, after)


def _value(token: re.Match[str]) -> Number:
    digits = token["digits"].replace(" ", "").replace("_", "").replace("'", "")
    comma, point = digits.rfind(","), digits.rfind(".")
    if comma > point >= 0 or (point < 0 and _DECIMAL_COMMA.fullmatch(digits)):  # 1.234,5 and 2,5
        digits = digits.replace(".", "").replace(",", ".")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    digits = digits.replace(",", "")
    sign = "-" if any(s and s.strip().lower() in _MINUS for s in (token["sign"], token["inner"])) else ""
    exponent = token["exponent"] or ""
    power = exponent[1:] if exponent[:1] in ("e", "E") else exponent[exponent.find("10") + 2 :].strip(" ^*{}")
    if exponent:
        return float(f"{sign}{digits}e{power}")
    return float(sign + digits) if "." in digits else int(sign + digits)


def _scaled(token: re.Match[str], value: Number | None, text: str) -> tuple[Number | None, int]:
    """Return the number with the power of ten that follows it, and where that ends."""
    end = token.end()
    power = 0
    if scale := _SCALE.match(text, end):
        power, end = _SCALES[(scale[1] or scale[2]).lower()], scale.end()
    elif unit := _BIG_UNIT.match(text, end):
        if not _CURRENCY.match(token.group().lstrip("+-")):
            return None, unit.end()  # millions, or metres
        power, end = _BIG_UNITS[unit[1]], unit.end()
    if not power or value is None:
        return value, end
    scaled = value * 10**power
    return (round(scaled) if isinstance(scaled, float) and scaled.is_integer() else scaled), end


def _is_part_of_a_name(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 2) : start]
    glued = before[-1:].isalpha() or (len(before) == 2 and before[1] in "-_.:," and before[0].isalnum())
    return (text[start].isalnum() and glued) or bool(_NAME_GOES_ON.match(text, end))
