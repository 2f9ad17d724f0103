"""Duplicates: rows that are in two splits at once, so that a score on one is no evidence about new rows."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuneful.spec.example import Example

#: Pairs that a warning lists.
_LISTED = 5

#: Words in a shingle.
_WORDS = 3

#: Texts with fewer words count as near only when they are equal: in "3 + 4?" every word matters.
_SHORT = 8

_NOT_WORDS = re.compile(r"[^\w+*/<=>%$-]+")

#: Shingles of a row: of which field, and the text.
_Shingles = frozenset[tuple[str, str]]


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

    Cost: no model call; time grows with the rows and with the candidates that share rare shingles.

    Source: Broder (1997), shingles; Chaudhuri, Ganti and Kaushik (2006), the prefix filter: two sets that are alike
    share one of their rarest members, so only those are looked up. Exact, nothing is missed.
    """
    ours, theirs = [_shingled(row) for row in first], [_shingled(row) for row in second]
    frequency = Counter(s for row in (*ours, *theirs) for s in row)
    index: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(ours):
        for shingle in _rarest(row, frequency, near):
            index.setdefault(shingle, []).append(i)
    found = []
    for j, row in enumerate(theirs):
        candidates = sorted({i for shingle in _rarest(row, frequency, near) for i in index.get(shingle, ())})
        for i in candidates:
            likeness = _likeness(ours[i], row)
            if likeness >= near:
                same = _plain(first[i]) == _plain(second[j])
                found.append(Duplicate(i, j, "exact" if same else "near", likeness))
    return found


def warn_of_duplicates(first: Sequence[Example], second: Sequence[Example]) -> int:
    """Warn where rows to be judged on (`second`) are among the others too; return how many they are.

    Issues a `DuplicateRowsWarning`.
    """
    pairs = find_duplicates(first, second)
    if pairs:
        warnings.warn(DuplicateRowsWarning(pairs), stacklevel=2)
    return len({p.second for p in pairs})


def _plain(row: Example) -> dict[str, tuple[str, ...]]:
    """Return the words of each input, without case and punctuation."""
    given = row.inputs().to_dict()
    return {
        name: tuple(_NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", str(value)).casefold()).split())
        for name, value in given.items()
    }


def _shingled(row: Example) -> _Shingles:
    found: set[tuple[str, str]] = set()
    for name, words in _plain(row).items():
        size = len(words) if len(words) < _SHORT else _WORDS
        found |= {(name, " ".join(words[i : i + size])) for i in range(len(words) - size + 1)}
    return frozenset(found)


def _rarest(row: _Shingles, frequency: Counter[tuple[str, str]], near: float) -> list[tuple[str, str]]:
    """Return so many of the rarest shingles that a row without any of them shares too few."""
    keep = len(row) - int(near * len(row) - 1e-9)
    return sorted(row, key=lambda s: (frequency[s], s))[:keep]


def _likeness(one: _Shingles, other: _Shingles) -> float:
    """Return Jaccard's index of the field in which two rows differ most."""
    fields = {name for name, _ in one | other}
    least = 1.0
    for field in fields:
        mine, theirs = {s for s in one if s[0] == field}, {s for s in other if s[0] == field}
        least = min(least, len(mine & theirs) / len(mine | theirs))
    return least
