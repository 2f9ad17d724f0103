"""Reads an answer that is not in its adapter's form: other markers, labels, a JSON object, bare values.

Only where no mark of the adapter's own form is there: what an answer in form quotes from a user must not open a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

from tuneful.adapters.objects import key_of, read_members, read_object
from tuneful.adapters.prefix import is_text
from tuneful.adapters.thinking import after_thoughts, open_thoughts
from tuneful.adapters.values import ValueProblem, read_value
from tuneful.adapters.wrapping import opens_fence, without_closing_fence
from tuneful.spec.fields import Field

Outputs = Mapping[str, Field]
#: Values by field name, and problems by field name.
Found = tuple[dict[str, Any], dict[str, str]]

MARKER_MISSING = "marker missing"
_OTHER_MARKER = "marker in other form"
_FOREIGN = re.compile(r"^[ \t]*[*_`#]*[ \t]*\[\[[ \t]*##[ \t]*\w+[ \t]*##[ \t]*\]\]", re.MULTILINE)
#: Words in front of an answer that are no part of it.
_PREAMBLE = re.compile(
    r"\W*(?:sure|certainly|of course|absolutely|great|okay|ok|alright|hello|hi|yes)(?:[!,.][^\n]{0,80})?\W*"
    r"|\W*(?:here(?: is|'s|’s| are| you go)|below (?:is|are))\b[^\n]{0,80}"
    r"|.*:",
    re.IGNORECASE | re.DOTALL,
)


def read_without_marks(
    body: str, text: str, outputs: Outputs, salvages: list[str], *, bare: str | None = MARKER_MISSING
) -> Found:
    """Return the outputs that an answer without the adapter's marks holds. Never raises.

    Args:
        body: the answer without thoughts in front.
        text: all of the answer.
        outputs: the output fields.
        salvages: receives the tolerances.
        bare: the name of the tolerance by which a lone output needs no mark; None where it does need one.
    """
    if not body.strip():
        return _in_open_thoughts(open_thoughts(text, outputs), outputs, salvages)
    body = after_thoughts(body)
    noted: list[str] = []
    found = _marked(body, outputs, noted)
    if not found[0] and len(outputs) > 1:
        found = _by_lines(body, outputs, noted) or found
    if not found[0] and len(outputs) == 1 and bare is not None:
        found = _bare(body, outputs, found, noted, bare)
    salvages += noted if found[0] else []
    return found


def _marked(text: str, outputs: Outputs, salvages: list[str]) -> Found:
    """Return what the better of two ways reads: by marks, or by the object where there is one."""
    ways = (_by_object, _by_marks) if text.lstrip()[:1] in ("{", "`") else (_by_marks, _by_object)
    best: Found = {}, {}
    for way in ways:
        noted: list[str] = []
        found = way(text, outputs, noted)
        if found is not None and (len(found[0]) > len(best[0]) or not (best[0] or best[1])):
            best = found
            salvages[:] = noted
    return best


def _bare(text: str, outputs: Outputs, marked: Found, salvages: list[str], name: str) -> Found:
    """Return a lone output whose mark is missing; a text that has a mark which says otherwise is none."""
    ((lone, field),) = outputs.items()
    if is_text(field) and marked[1]:
        return marked
    salvages[:] = [name]
    try:
        return {lone: read_value(field, _FOREIGN.split(text)[0], salvages)}, {}
    except ValueProblem as problem:
        return {}, {lone: str(problem)}


def _in_open_thoughts(text: str, outputs: Outputs, salvages: list[str]) -> Found:
    """Return the outputs marked in thoughts that have no end, where all of them are; a draft of some does not count."""
    noted: list[str] = []
    found = _marked(text, outputs, noted)
    if not found[0] or not all(n in found[0] or f.optional for n, f in outputs.items()):
        return {}, {}
    salvages += ["thinking without end", *noted]
    return found


def before_first_mark(text: str, outputs: Outputs, first: str, found: Found, salvages: list[str]) -> None:
    """Read the words in front of the first mark as the first output, where its mark alone is missing.

    Args:
        text: the words.
        outputs: the output fields.
        first: the field of the first mark.
        found: what the marked fields hold; receives the value. What introduces the answer is none.
        salvages: receives the tolerance.
    """
    lead, following = [*outputs, "", ""][:2]
    shown = after_thoughts(text).strip()
    if any(lead in known for known in found) or following != first or outputs[lead].optional or not shown:
        return
    noted: list[str] = []
    if is_text(outputs[lead]) and (_PREAMBLE.fullmatch(shown) or opens_fence(text)):
        return
    try:
        value = read_value(outputs[lead], shown, noted)
    except ValueProblem:
        return
    if not noted or is_text(outputs[lead]):  # of another type only what is nothing but the value
        found[0][lead] = value
        salvages += [MARKER_MISSING, *noted]


# --- the ways ---


def _by_object(text: str, outputs: Outputs, salvages: list[str]) -> Found | None:
    if "{" not in text:
        return None
    found = read_object(text, outputs, salvages)
    if found is None:
        return None
    salvages.append("object instead of marks")
    return read_members(found, outputs, salvages)


def _by_marks(text: str, outputs: Outputs, salvages: list[str]) -> Found | None:
    sections = dict(_sections(text, outputs))
    lead = sections.pop("", "")
    if not sections:
        return None
    read: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, section in sections.items():
        try:
            read[name] = read_value(outputs[name], section, salvages)
        except ValueProblem as problem:
            problems[name] = str(problem)
    salvages.append(_OTHER_MARKER)
    before_first_mark(lead, outputs, next(iter(sections)), (read, problems), salvages)
    return read, problems


def _by_lines(text: str, outputs: Outputs, salvages: list[str]) -> Found | None:
    """Read one line for each output, where their types agree to it; a text in front may have several."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    names = list(outputs)
    spare = len(lines) - len(names)
    if spare < 0 or (spare and not is_text(outputs[names[0]])) or all(map(is_text, outputs.values())):
        return None
    texts = ["\n".join(lines[: spare + 1]), *lines[spare + 1 :]]
    read: dict[str, Any] = {}
    for name, section in zip(names, texts, strict=True):
        noted: list[str] = []
        try:
            read[name] = read_value(outputs[name], section, noted)
        except ValueProblem:
            return None
        if noted:
            return None
    salvages.append(MARKER_MISSING)
    return read, {}


# --- marks in other forms ---


@lru_cache(maxsize=512)
def _mark(names: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Return what matches a line's beginning that marks a field, by its name or its label."""
    spelt = {
        r"[\s_-]*".join(map(re.escape, re.split(r"[\s_-]+", w.strip()))) for pair in names for w in pair if w.strip()
    }
    words = "|".join(sorted(spelt, key=len, reverse=True))
    deco = r"[*_`\#]*+[ \t]*+"
    return re.compile(
        rf"""
        ^[ \t>]*+ (?:[-*+•][ \t]++|\(?\d++[.)][ \t]++)?
        (?: {deco} (?:[\[\]<{{【［「《〈⟦]{{1,2}}|\(\() \s*+ [\#*]*+ \s*+ (?P<bracketed>{words}) \s*+ [\#*]*+ \s*+
            (?:[\]>}}】］」》〉⟧]{{1,2}}|\)\)) [*_`]*+ [ \t]*+ [:：]? [*_`]*+
          | \#{{1,6}} [ \t]*+ (?P<hashed>{words}) [ \t]*+ \#{{1,6}} [:：]?
          | {deco} (?:(?:the|my|your)[ \t]++)? (?:(?:final|correct)[ \t]++)? (?P<labelled>{words}) [*_`"']*+ [ \t]*+
            (?:\([^()\n]{{0,30}}\) [*_`]*+ [ \t]*+)? (?: [:：] [*_`]*+ | (?<=[ \t]) [-–—=] (?=[ \t]) )
          | (?:\#{{1,6}} [ \t]*+ [*_]*+ | \*\* | __) (?P<headed>{words}) [*_]*+ [ \t]*+ (?=\n|\Z)
        )
        """,
        re.IGNORECASE | re.MULTILINE | re.VERBOSE,
    )


@lru_cache(maxsize=512)
def _closing(names: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    words = "|".join(re.escape(w) for pair in names for w in pair)
    return re.compile(rf"[<\[]/\s*(?:{words})\s*[>\]].*", re.IGNORECASE | re.DOTALL)


def _sections(text: str, outputs: Outputs) -> Iterator[tuple[str, str]]:
    """Yield "" and the words in front of the first mark, then name and text of each marked field."""
    names = tuple((n, f.label) for n, f in outputs.items())
    by_key = {key_of(w): n for n, label in reversed(names) for w in (label, n)}
    marks = [(m, by_key.get(key_of(m[m.lastgroup or 0]))) for m in _mark(names).finditer(text)]
    marks = [(m, n) for m, n in marks if n is not None]
    if not marks:
        return
    lead = text[: marks[0][0].start()]
    yield "", lead
    fenced = opens_fence(lead)
    if len(outputs) == 1 and lead.strip():  # words, and at their end the answer
        marks = marks[-1:]
    seen = set()
    for (mark, name), following in pairwise([*marks, (None, "")]):
        assert mark is not None
        if name is None or name in seen:
            continue
        seen.add(name)
        section = text[mark.end() : following[0].start() if following[0] else len(text)]
        section = _closing(names).sub("", _FOREIGN.split(section)[0])
        yield name, without_closing_fence(section) if fenced else section
