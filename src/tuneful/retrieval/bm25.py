"""BM25: ranked word search through SQLite's full-text index, in memory or in a file. No further dependency."""

from __future__ import annotations

import os
import queue
import re
import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tuneful.errors import DataError, StateError, UsageError
from tuneful.retrieval.corpus import checked_query, hash_of_corpus, shown_passages
from tuneful.spec.passage import Passage

#: What marks a file as such an index ("tfBM"), and the version of its layout.
_APPLICATION, _VERSION = 0x7466424D, 1

#: Threads that may search a file at the same moment; others wait.
_CONNECTIONS = 4


class BM25:
    """A retriever by words: any `(query, k) -> passages`.

    >>> find = BM25(["Paris is the capital of France.", "The Nile is a river in Africa."])
    >>> find("capital of France", k=1)[0].text
    'Paris is the capital of France.'

    Use it first: it needs no model, and names, numbers and rare words are what it is good at. Where query and passage
    say the same in other words, add a `Dense` one with `Hybrid`.

    Words are stemmed (Porter, for English) and a passage need not hold all of them. Passages without any word of the
    query are not returned, so there may be fewer than k; a k larger than the corpus is no error.

    Args:
        corpus: texts, mappings with `text` and perhaps `title` and `id`, or `Passage`s; a generator is read as it is
            needed.
        path: a file to keep the index in, written whole or not at all; one that is there is replaced. `BM25.load` opens
            it. By default the index is in memory.
        title_weight: how many times a word in a title counts.
        progress: whether a bar shows, where a person can see it.

    Raises:
        DataError: the corpus is empty, or two passages have one id.

    Cost: no model call.

    Source: Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond"; SQLite's FTS5 with
    its default weights (k1 = 1.2, b = 0.75). Deviation: from 1,000 passages on, words that more than a tenth of them
    hold do not count, unless a query has no others: they cost the most time and tell the least (docs/lab-notes.md).
    """

    #: Words in more than this share of a corpus of at least so many passages are common.
    COMMON_SHARE = 0.1
    LARGE = 1000

    def __init__(
        self,
        corpus: Iterable[Any],
        path: str | Path | None = None,
        *,
        title_weight: float = 2.0,
        progress: bool = True,
    ) -> None:
        if isinstance(title_weight, bool) or not isinstance(title_weight, (int, float)) or not 0 <= title_weight < 1e9:
            raise UsageError(f"`title_weight` is {title_weight!r}; expected a number of at least 0.")
        rows = shown_passages(corpus, "BM25", progress=progress)
        if path is None:
            self._open(lambda: _built(":memory:", rows, title_weight), 1)
            return
        with _replacing(Path(path)) as partial:
            _built(str(partial), rows, title_weight).close()
        self._open_file(Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open an index that was kept in a file. It is read from there, not into memory.

        Raises:
            StateError: there is no such file, or it is no index of this version.
        """
        index = cls.__new__(cls)
        index._open_file(Path(path))
        return index

    def save(self, path: str | Path) -> None:
        """Write the index to a file, whole or not at all."""
        with _replacing(Path(path)) as partial, closing(sqlite3.connect(partial)) as copy, self._connection() as db:
            db.backup(copy)

    #: The file that it is in, if it is in one.
    _file: Path | None = None

    def _open_file(self, path: Path) -> None:
        self._file = path
        self._open(lambda: _opened(path), _CONNECTIONS)

    def _open(self, connect: Any, most: int) -> None:
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        for _ in range(most):
            db = connect()
            weakref.finalize(self, db.close)
            self._idle.put(db)
        with self._connection() as db:
            self._count = int(db.execute("SELECT max(rowid) FROM passage").fetchone()[0])
        self._common: dict[str, bool] = {}

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        db = self._idle.get()
        try:
            yield db
        finally:
            self._idle.put(db)

    def __call__(self, query: str, k: int = 3) -> list[Passage]:
        """Return at most k passages, the best first.

        Raises:
            UsageError: the query is no text, or k is below 1.
        """
        checked_query(query, k)
        words = list(dict.fromkeys(re.findall(r"\w+", query.lower())))
        with self._connection() as db:
            if self._count >= self.LARGE:
                words = [word for word in words if not self._is_common(db, word)] or words
            if not words:
                return []
            match = " OR ".join(f'"{word}"' for word in words)
            # Two statements: in one, the texts of all matches would pass through the sorter.
            best = db.execute(
                "SELECT rowid, rank FROM passage WHERE passage MATCH ? ORDER BY rank, rowid LIMIT ?", (match, k)
            ).fetchall()
            return [self._passage(db, row).scored(-rank) for row, rank in best]

    def _is_common(self, db: sqlite3.Connection, word: str) -> bool:
        found = self._common.get(word)
        if found is None:
            if len(self._common) >= 100_000:
                self._common.clear()
            most = int(self.COMMON_SHARE * self._count)
            (held,) = db.execute(
                "SELECT count(*) FROM (SELECT 1 FROM passage WHERE passage MATCH ? LIMIT ?)", (f'"{word}"', most + 1)
            ).fetchone()
            found = self._common[word] = held > most
        return found

    @staticmethod
    def _passage(db: sqlite3.Connection, row: int) -> Passage:
        text, title, id_ = db.execute("SELECT text, title, id FROM passage WHERE rowid = ?", (row,)).fetchone()
        return Passage(text, id=id_, title=title)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _content(self) -> str:
        with self._connection() as db:
            (rank,) = db.execute("SELECT v FROM passage_config WHERE k = 'rank'").fetchone()
            return hash_of_corpus(db.execute("SELECT text, title, id FROM passage ORDER BY rowid"), rank)

    def content_hash(self) -> str:
        """Return a hash of the passages and of how titles count: the identity of the index in journals."""
        return self._content

    def __deepcopy__(self, memo: dict[int, Any]) -> BM25:
        return self  # an index never changes, so the copies of a program share it

    def __getstate__(self) -> Path | bytes:
        if self._file is not None:  # another process opens it where it lies
            return self._file
        with self._connection() as db:
            return db.serialize()

    def __setstate__(self, state: Path | bytes) -> None:
        if isinstance(state, Path):
            self._open_file(state)
        else:
            self._open(lambda: _revived(state), 1)


def _built(target: str, passages: Iterator[Passage], title_weight: float) -> sqlite3.Connection:
    """Return a connection to a new index. Raises DataError where there is no passage."""
    first = next(passages, None)
    if first is None:
        raise DataError("BM25 needs a corpus of at least one passage, got none.")
    db = sqlite3.connect(target, check_same_thread=False, isolation_level=None)
    try:
        for setting in (
            "journal_mode=OFF",
            "synchronous=OFF",
            "cache_size=-64000",
        ):  # a build that fails is thrown away
            db.execute(f"PRAGMA {setting}")
        db.execute(f"PRAGMA application_id={_APPLICATION}")
        db.execute(f"PRAGMA user_version={_VERSION}")
        db.execute("CREATE VIRTUAL TABLE passage USING fts5(title, text, id UNINDEXED, tokenize='porter unicode61')")
        db.execute("INSERT INTO passage(passage, rank) VALUES ('rank', ?)", (f"bm25({title_weight!r}, 1.0)",))
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO passage(title, text, id) VALUES (?, ?, ?)",
            ((p.title, p.text, p.id) for p in chain([first], passages)),
        )
        db.execute("INSERT INTO passage(passage) VALUES ('optimize')")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _revived(data: bytes) -> sqlite3.Connection:
    """Return a connection to an index in memory that another process had."""
    db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    db.deserialize(data)
    return db


def _opened(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise StateError(f"there is no index {str(path)!r}. Build it: BM25(corpus, path={str(path)!r}).")
    # Nobody changes such a file, so it may be read without locks: also after a fork, or where nothing can be written.
    address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    db = sqlite3.connect(address, uri=True, check_same_thread=False, isolation_level=None)
    with suppress(sqlite3.DatabaseError):
        marks = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if marks == [_APPLICATION, _VERSION]:
            return db
    db.close()
    raise StateError(f"{str(path)!r} is no BM25 index of this version. Build it: BM25(corpus, path={str(path)!r}).")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file that takes the place of `path` in the end, unless the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
