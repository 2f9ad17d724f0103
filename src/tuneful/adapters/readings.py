"""What a text may stand for, by the type of its field, the most literal reading first."""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from decimal import Decimal
from typing import Any, get_args, get_origin

import json_repair

from tuneful.adapters.dates import read_moment
from tuneful.adapters.numbers import SeveralNumbersError, read_numbers
from tuneful.adapters.options import exact_option, read_option, read_truth
from tuneful.adapters.wrapping import FENCE, LABEL, PUNCTUATION, after_cue, peelings, unwrapped
from tuneful.spec.code import first_block, is_code
from tuneful.spec.fields import Field
from tuneful.spec.types import NoneType, choices

EMPTY_WORDS = frozenset({"none", "null", "n/a", "nil", ""})

#: What a text may stand for, and the names of the tolerances that it takes to read it so.
Reading = tuple[Any, tuple[str, ...]]
#: Reads the text of a part of a value, as a field of the part's type.
ReadPart = Callable[[Field, str], Any]

_MOMENTS = (dt.date, dt.datetime, dt.time)
_EMPTY_LIST = frozenset({"none", "empty", "nothing", "null", "n/a", "no items", "(none)", "(empty)", "-"})
_BULLET = re.compile(r"^\s*(?:[-*+]\s+|[•‣◦·▪]\s*|\(?\d+[.):]\s+|\[\d+\]\s+)")
_MEMBER = re.compile(r"""^["'*_`]*([A-Za-z_][\w -]{0,40}?)["'*_`]*\s*[:=：]\s*["'*_`]*(.+?)["'*_`,]*$""")
_AND = re.compile(r"(?:,\s*+|(?<!\s)\s++)(?:and|or|&)\s+")
_FIRST_AND = re.compile(r"\A(?:and|or|&)\s+")
_BRACKET = re.compile(r"[\[\]{}]")
_DEEPEST = 100
_SENTENCE_WORDS = 6
#: Digits that a number needs at least to be a moment as computers count it; a shorter one is a year or a day.
_TIMESTAMP = 9
JSON_MENDED = "json mended"


def load_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError where it is none, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def mended_json(text: str) -> Any:
    """Return the object or list of a JSON text that needs mending, or None, also where it is nested absurdly deep."""
    depth = deepest = 0
    for bracket in _BRACKET.finditer(text):
        depth = max(0, depth + (1 if bracket.group() in "{[" else -1))
        deepest = max(deepest, depth)
    found: Any = None
    if deepest > _DEEPEST:
        return None
    with suppress(ValueError, RecursionError):
        found = json_repair.loads(text, skip_json_loads=True)
    return found if isinstance(found, (dict, list)) and found else None


def readings(field: Field, text: str, read: ReadPart) -> Iterator[Reading]:
    """Yield readings of a text, which has no blanks at its edges.

    Args:
        field: the field.
        text: what was written for it.
        read: reads a part of the value; raises ValueError where it cannot.
    """
    kinds = field.kinds
    if is_code(kinds[0]):
        yield from _code_in(kinds, text)
        return
    yield from _literal(kinds, text)
    if str in kinds:
        bare, taken = unwrapped(field, text)
        if taken:
            yield from ((value, (*taken, *names)) for value, names in _literal(kinds, bare))
            yield bare, taken
        yield text, ()
        return
    whole, taken = text, tuple[str, ...]()
    for peeled, names in peelings(field, text, short=not any(map(_is_container, kinds))):
        if names[-1] != PUNCTUATION:  # the tolerant readers look past that themselves
            whole, taken = peeled, names
        yield from ((value, names) for value, _ in _literal(kinds, peeled))
    yield from ((value, (*taken, name)) for value, name in _tolerant(field, whole, read))
    if not any(map(_is_container, kinds)) and (said := after_cue(field, whole)) and said != whole:
        yield from ((value, (LABEL, name)) for value, name in _tolerant(field, said, read))
    if taken:
        yield from ((value, (name,)) for value, name in _tolerant(field, text, read))
    if not _as_it_stands(kinds):
        yield text, ("value in other words",)


def _code_in(kinds: tuple[Any, ...], text: str) -> Iterator[Reading]:
    """Yield the code of a text: what stands in a fence, whatever is said around it; without one, all of it."""
    if NoneType in kinds and text.lower() in EMPTY_WORDS:
        yield None, ()
    block = first_block(text)
    if block is None or text.startswith(("```", "~~~")):
        yield text, ()  # its type takes a fence around all of it off
    if block is not None:
        yield block, (FENCE,)


def _literal(kinds: tuple[Any, ...], text: str) -> Iterator[Reading]:
    """Yield what the text says in the form that is asked for."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        with suppress(ValueError):
            yield load_json(text), ()
    if NoneType in kinds and text.lower() in EMPTY_WORDS:
        yield None, ()
    for kind in kinds:
        options = choices(kind)
        if options is not None:
            yield from ((value, ()) for value in exact_option(options, text))
    dated = any(k in _MOMENTS for k in kinds)
    if _as_it_stands(kinds) and not (dated and text.isdigit() and len(text) < _TIMESTAMP):
        yield text, ()
    if kinds != (str,):
        with suppress(ValueError):
            value = load_json(text)
            number = isinstance(value, (int, float))
            if not (number and dated) and not (isinstance(value, bool) and bool not in kinds and _numeric(kinds)):
                yield value, ()
        if text in ("inf", "-inf", "nan") and float in kinds:
            yield float(text), ()


def _tolerant(field: Field, text: str, read: ReadPart) -> Iterator[tuple[Any, str]]:
    """Yield what a person would understand, the likeliest first, with the name of the tolerance."""
    kinds = field.kinds
    if "{" in text:
        yield from _under_its_name(field, mended_json(text[text.index("{") :]), read)
    for kind in kinds:
        yield from _of_kind(kind, text)
    if _numeric(kinds):
        try:
            yield from read_numbers(text, whole=not {float, Decimal}.intersection(kinds))
        except SeveralNumbersError as several:
            yield several, ""
    for kind in kinds:
        if _is_list(kind):
            yield from _list_readings(kind, text, read)
        elif _is_container(kind):
            yield from _mapping_readings(text)


def _of_kind(kind: Any, text: str) -> Iterator[tuple[Any, str]]:
    options = choices(kind)
    if options is not None:
        yield from read_option(options, text, _names(kind))
    elif kind is bool:
        yield from read_truth(text)
    elif kind in _MOMENTS:
        yield from read_moment(kind, text)


def _as_it_stands(kinds: Collection[Any]) -> bool:
    """Whether pydantic reads the texts of a type itself, such as those of a date or a URL."""
    return not any(k in (bool, int, float, str) or choices(k) for k in kinds)


def _numeric(kinds: Collection[Any]) -> bool:
    return any(k in (int, float, Decimal) for k in kinds)


def _names(kind: Any) -> Mapping[str, Any]:
    return {m.name: m.value for m in kind} if isinstance(kind, type) and issubclass(kind, enum.Enum) else {}


def _is_list(kind: Any) -> bool:
    return (get_origin(kind) or kind) in (list, tuple, set, frozenset)


def _is_container(kind: Any) -> bool:
    """Whether values of a type have parts: lists, mappings, models."""
    return _is_list(kind) or (get_origin(kind) or kind) is dict or hasattr(kind, "model_fields") or is_dataclass(kind)


def _under_its_name(field: Field, found: Any, read: ReadPart) -> Iterator[tuple[Any, str]]:
    """Yield the value of an object that only gives it a name: `{"answer": 3}` for a number."""
    if not isinstance(found, dict) or len(found) != 1:
        return
    ((name, value),) = found.items()
    if str(name).casefold() not in {field.name.casefold(), field.label.casefold(), "answer", "value", "result"}:
        return
    if not isinstance(value, str):
        yield value, "value under its name"
        return
    with suppress(ValueError):
        yield read(field, value), "value under its name"


# --- values with parts ---


def _list_readings(kind: Any, text: str, read: ReadPart) -> Iterator[tuple[Any, str]]:
    if text.lower().strip(" .") in _EMPTY_LIST:
        yield [], "list in words"
        return
    items, name = items_of(text)
    bulleted = bool(_BULLET.match(text))
    if not bulleted and ("[" in text or "{" in text):
        mended = mended_json(text[min(i for i in (text.find("["), text.find("{")) if i >= 0) :])
        if isinstance(mended, dict) and len(mended) == 1:
            (inner,) = mended.values()
            mended = inner if isinstance(inner, list) else [mended]
        if mended is not None:
            yield mended, JSON_MENDED
    with suppress(ValueError):
        yield _parts(kind, items, read), name


def _parts(kind: Any, items: Sequence[str], read: ReadPart) -> list[Any]:
    inner = [a for a in get_args(kind) if a is not Ellipsis]
    several = get_origin(kind) is tuple and Ellipsis not in get_args(kind)
    found = []
    for place, item in enumerate(items):
        part = inner[place] if several and place < len(inner) else (inner[0] if inner else str)
        found.append(unquoted(item) if part is str else read(Field("item", "output", part), item))
    return found


def unquoted(text: str) -> str:
    """Return a text without one pair of quotes around it."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" else text


def items_of(text: str) -> tuple[list[str], str]:
    """Return the items of a list in words, and the name of the tolerance: bullets, lines, or parted by commas."""
    lines = text.split("\n")
    if any(map(_BULLET.match, lines)):
        return _bulleted(lines), "list from lines"
    whole = [line.strip() for line in lines if line.strip()]
    if len(whole) > 1:
        return (whole[1:] if whole[0].endswith(":") else whole), "list from lines"
    return _parted(text)


def _bulleted(lines: Sequence[str]) -> list[str]:
    """Return the items of a list with bullets; words around it are left out, further lines of an item are not."""
    items: list[str] = []
    ended = False
    for line in lines:
        if mark := _BULLET.match(line):
            items.append(line[mark.end() :].strip())
            ended = False
        elif not line.strip():
            ended = True
        elif items and (not ended or line[:1] in " \t"):
            items[-1] += f" {line.strip()}"
    return items


def _parted(text: str) -> tuple[list[str], str]:
    line = text.strip().rstrip(".")
    if ";" in line:
        parts = line.split(";")
    elif "," in line:
        *parts, last = re.split(r",\s+" if re.search(r",\s", line) else ",", line)
        parts += _AND.split(_FIRST_AND.sub("", last))
    else:
        parts = _AND.split(line)
        if len(parts) > 1 and max(len(p.split()) for p in parts) > 3:
            parts = [line]
    items = [p.strip() for p in parts if p.strip()]
    if len(items) < 2 or max(len(i.split()) for i in items) > _SENTENCE_WORDS:
        return [text.strip()], "list from lines"
    return items, "list from commas"


def _mapping_readings(text: str) -> Iterator[tuple[Any, str]]:
    if "{" in text:
        mended = mended_json(text[text.index("{") :])
        if isinstance(mended, list):
            objects = [m for m in mended if isinstance(m, dict)]
            mended = objects[0] if len(objects) == 1 else None
        if isinstance(mended, dict):
            yield mended, JSON_MENDED
            if len(mended) == 1 and isinstance(inner := next(iter(mended.values())), dict):
                yield inner, "value under its name"
        return
    members = [_MEMBER.match(_BULLET.sub("", line).strip()) for line in text.split("\n") if line.strip()]
    if members and all(members):
        yield {m[1].strip(): _scalar(m[2]) for m in members if m}, "mapping from lines"


def _scalar(text: str) -> Any:
    try:
        return load_json(text)
    except ValueError:
        return None if text.lower() in EMPTY_WORDS else text
