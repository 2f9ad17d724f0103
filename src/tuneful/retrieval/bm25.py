"""BM25: ranked word search in memory, through SQLite's full-text index. No further dependency."""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from tuneful.errors import DataError, UsageError


class BM25:
    """A retriever over a small or middling corpus: any `(query, k) -> passages`.

    >>> find = BM25(["Paris is the capital of France.", "The Nile is a river in Africa."])
    >>> find("capital of France", k=1)
    ['Paris is the capital of France.']

    Words are stemmed (Porter) and a passage need not hold all of them. Passages without any word of the query are
    not returned, so there may be fewer than k.

    Args:
        corpus: the passages.

    Source: Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond"; SQLite's FTS5
    with its default weights (k1 = 1.2, b = 0.75).
    """

    def __init__(self, corpus: Sequence[str]) -> None:
        if not corpus:
            raise DataError("BM25 needs a corpus of at least one passage, got none.")
        self._passages = [str(p) for p in corpus]
        self._lock = threading.Lock()  # one connection serves every thread, one query at a time
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._db.close)
        self._db.execute("CREATE VIRTUAL TABLE passage USING fts5(text, content='', tokenize='porter unicode61')")
        rows = ((i, text) for i, text in enumerate(self._passages))
        self._db.executemany("INSERT INTO passage(rowid, text) VALUES (?, ?)", rows)

    def __call__(self, query: str, k: int = 3) -> list[str]:
        """Return at most k passages, the best first."""
        if k < 1:
            raise UsageError(f"`k` is {k!r}; it is the number of passages and at least 1.")
        words = dict.fromkeys(re.findall(r"\w+", query.lower()))
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            rows = self._db.execute(
                "SELECT rowid FROM passage WHERE passage MATCH ? ORDER BY bm25(passage), rowid LIMIT ?", (match, k)
            ).fetchall()
        return [self._passages[i] for (i,) in rows]

    def __len__(self) -> int:
        return len(self._passages)

    def __deepcopy__(self, memo: dict[int, Any]) -> BM25:
        return self  # an index never changes, so the copies of a program share it
