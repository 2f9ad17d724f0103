"""Document and Citation: a text that a model is given, and a place in it that the model points to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

#: What could be taken for the beginning or the end of a document.
_DELIMITER = re.compile(r"<(\\*)(/?document\b)", re.IGNORECASE)


class Document(BaseModel):
    """A text with a title and an identity, as the value of an input field: `sources: list[tf.Document]`.

    >>> Document(text="The Rhône flows through Lyon.", title="Lyon").title
    'Lyon'

    In a prompt it stands between `<document id="..." title="...">` and `</document>` (in JSON, as an object). A text
    that holds such a mark is escaped by a backslash, so that it can neither end its document nor begin another. A plain
    text is taken for a document without a title.

    Args:
        text: what it says.
        title: its title.
        id: what citations call it; by default its number in its list, from 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    text: str
    title: str = ""
    id: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


class Citation(BaseModel):
    """A passage of a document, word for word.

    Where a predictor is given documents, each quote must occur in one of them (blanks, case and the kind of quotation
    marks aside); one that does not is a problem for the repair turn, as a value of the wrong type is.

    Args:
        document: the document's id, or its number in its list.
        quote: the words of the document.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    document: str
    quote: str


#: The type of an output field: places in the documents that the model was given.
Citations = list[Citation]


def documents_of(values: Mapping[str, Any]) -> list[tuple[str, Document]]:
    """Return the documents among some field values, each with what citations call it."""
    return [pair for value in values.values() for pair in _numbered(value)]


def written_documents(value: Any) -> str | None:
    """Return a document, or a list of them, as the text of a prompt; None for any other value."""
    several = value if isinstance(value, (list, tuple)) else [value]
    if not several or not all(isinstance(v, Document) for v in several):
        return None
    return "\n".join(_written(name, document) for name, document in _numbered(value))


def _numbered(value: Any) -> Iterator[tuple[str, Document]]:
    several = value if isinstance(value, (list, tuple)) else [value]
    return ((v.id or str(number), v) for number, v in enumerate(several, 1) if isinstance(v, Document))


def _written(name: str, document: Document) -> str:
    title = f" title={json.dumps(document.title, ensure_ascii=False)}" if document.title else ""
    text = _DELIMITER.sub(r"<\\\1\2", document.text)
    return f"<document id={json.dumps(name, ensure_ascii=False)}{title}>\n{text}\n</document>"
