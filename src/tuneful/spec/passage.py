"""Passage: a retrieved text, with where it comes from and how well it fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Self

from tuneful.errors import DataError

#: What retrievers and data sets call the parts of a passage; the first name that is there counts.
_NAMES = {"text": ("text", "long_text", "page_content"), "id": ("id", "pid"), "title": ("title",), "score": ("score",)}


class Passage(str):
    """A text that knows its id, its title and its score. It is a `str`, so it goes wherever a text goes.

    >>> nile = Passage("The Nile is a river.", id=7, title="Nile", score=2.5)
    >>> nile
    Passage('The Nile is a river.', id=7, title='Nile', score=2.5)
    >>> str(nile), nile.text
    ('Nile | The Nile is a river.', 'The Nile is a river.')

    What a model reads is the title and the text, and two passages that read alike are equal. It never changes.

    Args:
        text: the text without its title.
        id: its identity in the corpus, a text or a whole number.
        title: its title, or "".
        score: how well it fits the query; larger is better. Scores of different retrievers do not compare.
    """

    __slots__ = ("id", "score", "text", "title")
    id: str | int | None
    score: float | None
    text: str
    title: str  # type: ignore[assignment]  # hides a method of `str`, since it is what the field calls it

    def __new__(cls, text: str, *, id: str | int | None = None, title: str = "", score: float | None = None) -> Self:  # noqa: A002 (what it is called everywhere)
        """Make a passage."""
        made = super().__new__(cls, f"{title} | {text}" if title else text)
        for name, value in (("text", text), ("id", id), ("title", title), ("score", score)):
            object.__setattr__(made, name, value)
        return made

    @classmethod
    def of(cls, item: Any) -> Self:
        """Return the passage that a text, a mapping or an object with a `text` means.

        Raises:
            DataError: it has no text, or its parts are of other types.
        """
        if isinstance(item, cls):
            return item
        if isinstance(item, str):
            return cls(item)
        found = {part: _part(item, names) for part, names in _NAMES.items()}
        text, id_, title, score = found["text"], found["id"], found["title"] or "", found["score"]
        if not isinstance(text, str):
            raise DataError(f"{item!r:.120} is no passage: expected a text, or something with a `text` that is one.")
        if not isinstance(title, str):
            raise DataError(f"the title of the passage {text!r:.60} is {title!r:.60}; expected a text.")
        if isinstance(id_, bool) or not isinstance(id_, (str, int, type(None))):
            raise DataError(f"the id of the passage {text!r:.60} is {id_!r:.60}; expected a text or a whole number.")
        try:
            return cls(text, id=id_, title=title, score=None if score is None else float(score))
        except (TypeError, ValueError) as error:
            raise DataError(f"the score of the passage {text!r:.60} is {score!r:.60}; expected a number.") from error

    def scored(self, score: float | None) -> Self:
        """Return the passage with another score."""
        return type(self)(self.text, id=self.id, title=self.title, score=score)

    def __repr__(self) -> str:
        given = {"id": self.id, "title": self.title or None, "score": self.score}
        return f"Passage({', '.join([repr(self.text), *(f'{k}={v!r}' for k, v in given.items() if v is not None)])})"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a passage never changes; `{name}` cannot be set. Make another one: Passage(...).")

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (self.text,), {"id": self.id, "title": self.title, "score": self.score}

    def __getstate__(self) -> None:
        """Nothing is left to set."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def _part(item: Any, names: tuple[str, ...]) -> Any:
    """Return the first part of one of these names that is there and not None."""
    found = (item.get(name) if isinstance(item, Mapping) else getattr(item, name, None) for name in names)
    return next((value for value in found if value is not None), None)
