"""Duplicates: rows that are in two splits at once, so that a score on one is no evidence about new rows."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tuneful.spec.example import Example

#: Pairs that a warning lists.
_LISTED = 5

#: Words in a shingle.
_WORDS = 3

#: Texts with fewer words count as near only when they are equal: in "3 + 4?" every word matters.
_SHORT = 8

_NOT_WORDS = re.compile(r"[^\w+*/<=>%$-]+")

#: Rows that are looked at for one row without asking whether another field leaves fewer.
_FEW = 16

_Words = tuple[str, ...]


class DuplicateRowsWarning(UserWarning):
    """Rows to be judged on are among the rows to learn from, so that the result looks better than it is.

    Attributes:
        pairs: every pair: positions among the rows to search on, and among those held out.
    """

    def __init__(self, pairs: Sequence[Duplicate]) -> None:
        self.pairs = list(pairs)
        kinds = Counter(p.kind for p in pairs)
        rows = len({p.second for p in pairs})
        listed = ", ".join(f"{p.first} = {p.second}" for p in self.pairs[:_LISTED])
        more = f" and {len(self.pairs) - _LISTED} more" if len(self.pairs) > _LISTED else ""
        super().__init__(
            f"{rows} held-out rows have the same inputs as rows that are searched on "
            f"({', '.join(f'{n} {kind}' for kind, n in kinds.items())}; search row = held-out row: {listed}{more}). "
            "The result may only look good on them: leave them out of one of the two."
        )


@dataclass(frozen=True)
class Duplicate:
    """Two rows with the same inputs, or nearly.

    Args:
        first, second: their positions in the two data sets.
        kind: "exact" (equal but for case, spaces and punctuation) or "near".
        likeness: share of common shingles in the field that differs most; 1 for exact ones.
    """

    first: int
    second: int
    kind: Literal["exact", "near"]
    likeness: float


def find_duplicates(first: Sequence[Example], second: Sequence[Example], near: float = 0.8) -> list[Duplicate]:
    """Return the pairs of rows of two data sets whose inputs are the same, or nearly; labels do not count.

    Near means that in every input field the shingles (runs of 3 words) of both rows are alike: so another question
    about the same passage is no duplicate.

    >>> train = [Example(question="Who wrote Faust?").with_inputs("question")]
    >>> dev = [Example(question="who wrote  FAUST").with_inputs("question")]
    >>> find_duplicates(train, dev)
    [Duplicate(first=0, second=0, kind='exact', likeness=1.0)]

    Args:
        first, second: rows with inputs marked.
        near: least likeness (Jaccard's index), above 0.

    Cost: no model call; time grows with the words, and with the rows that share rare shingles in the field in which
    fewest do: a passage that all rows have costs nothing more.

    Source: Broder (1997), shingles; Chaudhuri, Ganti and Kaushik (2006), the prefix filter: two sets that are alike
    share one of their rarest members, so only those are looked up. Nothing is missed. Deviations: fields are
    looked up by themselves, since rows must be alike in all of them; shingles are 64-bit hashes.
    """
    ours, theirs = [_plain(row) for row in first], [_plain(row) for row in second]
    names = dict.fromkeys(name for row in (*ours, *theirs) for name in row)
    fields = [_Field(n, [row.get(n) for row in ours], [row.get(n) for row in theirs], near) for n in names]
    fields.sort(key=lambda field: field.words)
    found = []
    for j, row in enumerate(theirs):
        own = [field for field in fields if field.name in row]
        cheap = next((field for field in own if field.cost(j) <= _FEW), None)  # the others are not even prepared
        rarest = cheap or min(own, key=lambda field: field.cost(j), default=None)
        for i in rarest.rows_like(j) if rarest is not None else ():
            likeness = min(field.likeness(i, j) for field in own) if ours[i].keys() == row.keys() else 0.0
            if likeness >= near:
                found.append(Duplicate(i, j, "exact" if ours[i] == row else "near", likeness))
    return found


def warn_of_duplicates(first: Sequence[Example], second: Sequence[Example]) -> int:
    """Warn where rows to be judged on (`second`) are among the others too; return how many they are.

    Issues a `DuplicateRowsWarning`.
    """
    pairs = find_duplicates(first, second)
    if pairs:
        warnings.warn(DuplicateRowsWarning(pairs), stacklevel=2)
    return len({p.second for p in pairs})


def _plain(row: Example) -> dict[str, _Words]:
    """Return the words of each input, without case and punctuation."""
    given = row.inputs().identity()
    return {
        name: tuple(_NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", str(value)).casefold()).split())
        for name, value in given.items()
    }


class _Field:
    """One input field of all rows: which of its texts are alike. Each distinct text is looked at once, if at all.

    Args:
        name: of the field.
        ours, theirs: its words in each row of the two data sets; None where a row lacks it.
        near: least likeness.
    """

    def __init__(self, name: str, ours: Sequence[_Words | None], theirs: Sequence[_Words | None], near: float) -> None:
        numbers: dict[_Words | None, int] = {}
        self.name = name
        self._ours = [numbers.setdefault(words, len(numbers)) for words in ours]
        self._theirs = [numbers.setdefault(words, len(numbers)) for words in theirs]
        self._texts = [words or () for words in numbers]
        self.words = sum(map(len, self._texts))
        self._near = near
        self._rows: dict[int, list[int]] = {}
        for i, text in enumerate(self._ours):
            if ours[i] is not None:
                self._rows.setdefault(text, []).append(i)
        self._likenesses: dict[tuple[int, int], float] = {}
        self._costs: dict[int, int] = {}
        self._kept: dict[int, frozenset[int]] = {}

    def _shingles(self, text: int) -> frozenset[int]:
        if text not in self._kept:
            self._kept[text] = _shingled(self._texts[text])
        return self._kept[text]

    @cached_property
    def _rarest(self) -> list[list[int]]:
        """Of each text so many of its rarest shingles that a text without any of them shares too few.

        Those that no other text has come first and find nothing, so they are left out.
        """
        every = [self._shingles(text) for text in range(len(self._texts))]
        seen: set[int] = set()
        again: set[int] = set()
        for shingles in every:
            again |= seen & shingles
            seen |= shingles
        frequency = Counter(shingle for shingles in every for shingle in shingles & again)
        found = []
        for shingles in every:
            shared = shingles & again
            kept = len(shared) - int(self._near * len(shingles) - 1e-9)
            found.append(sorted(shared, key=lambda s: (frequency[s], s))[:kept] if kept > 0 else [])
        return found

    @cached_property
    def _index(self) -> dict[int, list[int]]:
        """Our texts, by their rarest shingles."""
        index: dict[int, list[int]] = {}
        for text in self._rows:
            for shingle in self._rarest[text]:
                index.setdefault(shingle, []).append(text)
        return index

    @cached_property
    def _weight(self) -> dict[int, int]:
        return {s: sum(len(self._rows[text]) for text in texts) for s, texts in self._index.items()}

    def cost(self, j: int) -> int:
        """Return how many of our rows would be looked at for one of theirs, at most."""
        text = self._theirs[j]
        if text not in self._costs:
            others = sum(self._weight.get(shingle, 0) for shingle in self._rarest[text])
            self._costs[text] = others + len(self._rows.get(text, ()))
        return self._costs[text]

    def rows_like(self, j: int) -> list[int]:
        """Return those of our rows that are like one of theirs in this field."""
        text = self._theirs[j]
        found = {other for shingle in self._rarest[text] for other in self._index.get(shingle, ())}
        found |= {text} & self._rows.keys()
        return sorted(i for one in found if self._alike(one, text) >= self._near for i in self._rows[one])

    def likeness(self, i: int, j: int) -> float:
        """Return Jaccard's index of two rows that both have the field."""
        return self._alike(self._ours[i], self._theirs[j])

    def _alike(self, one: int, other: int) -> float:
        if one == other:
            return 1.0
        if (one, other) not in self._likenesses:
            mine, theirs = self._shingles(one), self._shingles(other)
            shared = len(mine & theirs)
            self._likenesses[one, other] = shared / (len(mine) + len(theirs) - shared)
        return self._likenesses[one, other]


def _shingled(words: _Words) -> frozenset[int]:
    size = len(words) if len(words) < _SHORT else _WORDS
    if size != _WORDS:
        return frozenset({hash(words)})
    return frozenset(map(hash, zip(words, words[1:], words[2:], strict=False)))
