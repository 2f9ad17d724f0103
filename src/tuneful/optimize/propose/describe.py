"""Describing, for a proposer: a step, its data, its program and what was tried, as text. Pure functions."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuneful.adapters.values import describe
from tuneful.program.module import Module
from tuneful.spec.example import Example
from tuneful.spec.signature import Signature

#: Most characters of one value, and of the source of one class.
_VALUE_CHARS = 600
_SOURCE_CHARS = 4_000


def signature_text(signature: Signature) -> str:
    """Return instructions and fields, with their types and what is said of them.

    >>> print(signature_text(Signature("question -> answer: int", "Count.")))
    Instructions: Count.
    Given:
    - question: str
    To write:
    - answer: int
    """
    given, asked = (
        "\n".join(map(describe, side.values())) for side in (signature.input_fields, signature.output_fields)
    )
    return f"Instructions: {signature.instructions}\nGiven:\n{given}\nTo write:\n{asked}"


def rows_of(signature: Signature, rows: Iterable[Example | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the fields of a step alone; a row that says too little of the step stays whole.

    That is a row without any of its inputs or any of its outputs: the labels of a program are seldom those of each of
    its steps, and what the whole is about helps too.
    """
    found = []
    for row in map(_plain, rows):
        own = {n: row[n] for n in signature.fields if row.get(n) is not None}
        fits = own.keys() & signature.input_fields.keys() and own.keys() & signature.output_fields.keys()
        found.append(own if fits else row)
    return found


def examples_text(rows: Iterable[Example | Mapping[str, Any]], *, value_chars: int = _VALUE_CHARS) -> str:
    """Return rows, demos or steps, numbered, a field on each line; long values are cut.

    >>> print(examples_text([Example(question="1+1?", answer=2)]))
    Example 1
    question: 1+1?
    answer: 2
    """
    blocks = (
        "\n".join([f"Example {i}", *(f"{n}: {cut(v, value_chars)}" for n, v in _plain(row).items() if v is not None)])
        for i, row in enumerate(rows, 1)
    )
    return "\n\n".join(blocks)


def attempts_text(attempts: Iterable[tuple[str, float | None]], most: int = 10) -> str:
    """Return what was tried with its scores: the best ones, the very best last, where models look most.

    >>> print(attempts_text([("Think.", 0.5), ("Guess.", 0.125), ("Pray.", None)]))
    Score 0.125:
    Guess.
    <BLANKLINE>
    Score 0.5:
    Think.

    Args:
        attempts: texts with scores; those without one are left out.
        most: how many.
    """
    scored = [(text, score) for text, score in attempts if score is not None]
    best = sorted(scored, key=lambda a: a[1])[-most:] if most else []
    return "\n\n".join(f"Score {score:.3g}:\n{text}" for text, score in best)


def program_text(program: Module, step: str | None = None) -> str:
    """Return the outline of a program: its steps, and the source of the classes that the user wrote.

    A program of one step alone has no outline: its signature says all.

    Args:
        program: the program.
        step: path of the predictor that is to be improved; it is marked.
    """
    predictors = program.named_predictors()
    if len(predictors) == 1 and predictors[0][1] is program:
        return ""
    lines = [f"- {path or 'program'}: {p.signature}{' (this step)' * (path == step)}" for path, p in predictors]
    kinds = dict.fromkeys(type(module) for _, module in program.named_sub_modules())
    sources = (_source(kind) for kind in kinds if not kind.__module__.startswith(f"{_PACKAGE}."))
    return "\n\n".join(["\n".join(["Steps:", *lines]), *filter(None, sources)])


def cut(value: Any, most: int = _VALUE_CHARS) -> str:
    """Return a value as text of at most so many characters, and a few more that say how long it is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def halved(text: str, *, keep_end: bool = False) -> str:
    """Return the first half of a text, or the last, in whole lines where there are several. Of one character, ""."""
    lines = text.splitlines(keepends=True)
    pieces: Sequence[str] = lines if len(lines) > 1 else text
    middle = len(pieces) // 2
    return "".join(pieces[len(pieces) - middle :] if keep_end else pieces[:middle]).strip()


_PACKAGE = __name__.partition(".")[0]


def _plain(row: Example | Mapping[str, Any]) -> dict[str, Any]:
    return Example(row).to_dict()


def _source(kind: type) -> str:
    """Return the source of a class, or "" where there is none to read: it was typed at a prompt, say."""
    try:
        return cut(textwrap.dedent(inspect.getsource(kind)).strip(), _SOURCE_CHARS)
    except (OSError, TypeError):
        return ""
