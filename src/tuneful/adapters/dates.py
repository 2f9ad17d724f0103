"""The date or time that a text means, in the forms that are common in English; none where two may be meant."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import suppress

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_MONTH = rf"(?P<month>{'|'.join(_FULL)}|sept|{'|'.join(_MONTHS)})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_FORMS = (
    re.compile(rf"(?<!\d){_YEAR}([-/.])(?P<month>\d{{1,2}})\2(?P<day>\d{{1,2}})(?!\d)"),
    re.compile(rf"\b{_MONTH}\s+{_DAY},?\s+{_YEAR}\b", re.IGNORECASE),
    re.compile(rf"(?<![\d.]){_DAY}(?:\s+of)?[\s-]+{_MONTH},?[\s-]+{_YEAR}\b", re.IGNORECASE),
    re.compile(r"(?<!\d)(?P<first>\d{1,2})(?P<mark>[/.-])(?P<second>\d{1,2})(?P=mark)(?P<year>\d{4})(?!\d)"),
    re.compile(r"\A(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})\Z"),
)
_TIME = re.compile(
    r"(?<![\d:])(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2}))?)?\s*(?P<half>[ap]\.?m\b\.?)?(?![\d:])",
    re.IGNORECASE,
)

Moment = dt.date | dt.datetime | dt.time


def read_moment(kind: type, text: str) -> Iterator[tuple[Moment, str]]:
    """Yield the moment of a kind that a text names, if it names exactly one.

    `03/05/2024` is two dates to two readers, and so is none; a day above 12, or points (`5.3.2024`), make it one.

    Args:
        kind: `datetime.date`, `datetime.datetime` or `datetime.time`.
        text: the text.
    """
    if kind is dt.time:
        times = set(_times(text))
        if len(times) == 1:
            yield times.pop(), "time in words"
        return
    found = {date: m.end() for date, m in _dates(text)}
    if len(found) != 1:
        return
    ((date, end),) = found.items()
    if kind is dt.date:
        yield date, "date in words"
        return
    times = set(_times(text[end:]))
    if len(times) <= 1:
        yield dt.datetime.combine(date, times.pop() if times else dt.time()), "date in words"


def _dates(text: str) -> Iterator[tuple[dt.date, re.Match[str]]]:
    for form in _FORMS:
        for found in form.finditer(text):
            with suppress(ValueError):  # the 31st of February
                yield _date(found), found


def _date(found: re.Match[str]) -> dt.date:
    parts = found.groupdict()
    year = int(parts["year"])
    if "first" in parts:
        first, second = int(parts["first"]), int(parts["second"])
        if parts["mark"] == "." or first > 12 or first == second:
            return dt.date(year, second, first)
        if second > 12:
            return dt.date(year, first, second)
        raise ValueError("day and month cannot be told apart")
    month = parts["month"]
    number = int(month) if month.isdigit() else _MONTHS.index(month[:3].lower()) + 1
    return dt.date(year, number, int(parts["day"]))


def _times(text: str) -> Iterator[dt.time]:
    for found in _TIME.finditer(text):
        half = (found["half"] or "").lower()
        if not half and found["minute"] is None:
            continue  # a mere number
        hour = int(found["hour"])
        if half and not 1 <= hour <= 12:
            continue
        if half:
            hour = hour % 12 + (12 if half.startswith("p") else 0)
        with suppress(ValueError):
            yield dt.time(hour, int(found["minute"] or 0), int(found["second"] or 0))
