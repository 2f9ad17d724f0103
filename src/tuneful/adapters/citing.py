"""Citations: whether the quotes of an answer stand in the documents that the model was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tuneful.adapters.base import Parsed, Values
from tuneful.spec.document import Citation, Citations, Document, documents_of
from tuneful.spec.signature import Signature
from tuneful.spec.types import members

_PLAIN_MARKS = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "–": "-", "—": "-"})

Sources = Sequence[tuple[str, Document]]


def with_checked_quotes(signature: Signature, parsed: Parsed, inputs: Values) -> Parsed:
    """Return what was read, with a problem for each output whose quotes do not stand in the documents among the inputs.

    A quote that stands in another document than the one it names is put right ("citation moved"). Without documents
    nothing is checked.
    """
    fields = _citing(signature)
    if not fields or not any(name in parsed.fields for name in fields):
        return parsed
    sources = documents_of(inputs)
    if not sources:
        return parsed
    read, problems = dict(parsed.fields), dict(parsed.problems)
    salvages = list(parsed.salvages)
    for name in fields:
        if (value := read.get(name)) is None:
            continue
        wrong = [c for c in _several(value) if not _places(c, sources)]
        if wrong:
            del read[name]
            problems[name] = "; ".join(_complaint(c, sources) for c in wrong[:3])
            continue
        moved = [c.model_copy(update={"document": _nearest(c, sources)}) for c in _several(value)]
        if moved != _several(value):
            salvages.append("citation moved")
            read[name] = moved if isinstance(value, list) else moved[0]
    return Parsed(read, problems, tuple(salvages)) if read != parsed.fields else replace(parsed)


@lru_cache(maxsize=512)
def _citing(signature: Signature) -> tuple[str, ...]:
    kinds = (Citation, Citations)
    return tuple(n for n, f in signature.output_fields.items() if any(m in kinds for m in members(f.type)))


def _several(value: Any) -> list[Citation]:
    return list(value) if isinstance(value, list) else [value]


def _places(citation: Citation, sources: Sources) -> list[str]:
    """Return the documents that hold a quote."""
    wanted = _folded(citation.quote)
    return [name for name, document in sources if wanted and wanted in _folded(document.text)]


def _nearest(citation: Citation, sources: Sources) -> str:
    """Return the document that is meant: the one that is named, if it holds the quote."""
    places = _places(citation, sources)
    return citation.document if citation.document in places else places[0]


@lru_cache(maxsize=1024)
def _folded(text: str) -> str:
    return " ".join(text.translate(_PLAIN_MARKS).casefold().split())


def _complaint(citation: Citation, sources: Sources) -> str:
    names: Mapping[str, None] = dict.fromkeys(name for name, _ in sources)
    return (
        f"the quote {citation.quote[:200]!r} stands in none of the documents ({', '.join(names)}); quote one of them "
        "word for word"
    )
