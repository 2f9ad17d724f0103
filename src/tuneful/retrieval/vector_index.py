"""What indexes over vectors share: embedding a corpus, keeping it, and knowing which embedder it was."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tuneful.errors import DataError, MissingExtraError, StateError, UsageError
from tuneful.retrieval import vector_folder
from tuneful.retrieval.corpus import checked_query, hash_of_corpus, passages_of
from tuneful.spec.passage import Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Counts = NDArray[np.int32]

Embed = Callable[..., Any]


class VectorIndex:
    """Base of the indexes over vectors. A subclass gives `kind`, `_read` and `_best`."""

    kind: ClassVar[str]

    def __init__(
        self,
        corpus: Iterable[Any],
        embedder: Embed,
        path: str | Path | None,
        query_embedder: Embed | None,
        *,
        progress: bool,
    ) -> None:
        self._take(embedder, query_embedder)
        passages: Sequence[Passage] = list(passages_of(corpus))
        if not passages:
            raise DataError(f"{type(self).__name__} needs a corpus of at least one passage, got none.")
        self._check_size(len(passages))
        target = None if path is None else Path(path)
        plan = {"kind": self.kind, "embedder": self.embedder_name}
        folder = None if target is None else vector_folder.begun(target, plan, passages)

        vectors, counts = vector_folder.embedded(
            [str(p) for p in passages],
            lambda texts: self._read(_asked(embedder, texts), len(texts)),
            folder=folder,
            title=type(self).__name__,
            progress=progress,
        )
        self._hold(vectors, counts, passages)
        self._prepare(progress=progress)
        if target is not None and folder is not None:
            self._finish(folder, target)
            self._reopen(target)

    @classmethod
    def load(cls, path: str | Path, embedder: Embed, *, query_embedder: Embed | None = None) -> Self:
        """Open an index that was kept in a folder. Its vectors are read from there when they are needed.

        Args:
            path: the folder.
            embedder: the one that it was built with. A named model is known by its name; a function must give the
                first passage the same vectors again, and is asked for them here.
            query_embedder: see the class.

        Raises:
            StateError: there is no such index, it is damaged, or it was built with another embedder.
        """
        index = cls.__new__(cls)
        index._take(embedder, query_embedder)
        built_with = index._reopen(Path(path))["embedder"]
        if built_with != index.embedder_name or not (_is_named(embedder) or index._same_vectors(embedder)):
            also = " which gives other vectors now" if built_with == index.embedder_name else ""
            raise StateError(
                f"the index {str(path)!r} was built with the embedder `{built_with}`, and is loaded with "
                f"`{index.embedder_name}`{also}: their vectors do not compare. Pass the one that it was built with, or "
                "build it anew."
            )
        return index

    def save(self, path: str | Path) -> None:
        """Keep the index in a folder, written whole or not at all."""
        target = Path(path)
        folder = vector_folder.begun(target, {"saved": id(self)}, ())
        vector_folder.write_arrays(folder, self._vectors, self._counts)
        self._finish(folder, target)

    def __call__(self, query: str, k: int = 3) -> list[Passage]:
        """Return at most k passages, the best first.

        Raises:
            UsageError: the query is no text, k is below 1, or the embedder's vectors do not fit the index.
        """
        checked_query(query, k)
        vectors = self._read(_asked(self._query_embedder, [query]), 1)[0]
        if not vectors.any():  # nothing in the query that the embedder knows: every passage is as good as another
            return []
        if vectors.shape[1] != self._vectors.shape[1]:
            raise UsageError(
                f"the embedder gave a query vectors of {vectors.shape[1]} numbers, and the index has vectors of "
                f"{self._vectors.shape[1]}. Use the embedder that it was built with (`{self.embedder_name}`)."
            )
        return [self._passages[row].scored(score) for row, score in self._best(vectors, k)]

    def __len__(self) -> int:
        return len(self._passages)

    @cached_property
    def _content(self) -> str:
        passages = ((p.text, p.title, p.id) for p in self._passages)
        vectors = hashlib.sha256(self._vectors.data).hexdigest()
        asked = [self.embedder_name, _name_of(self._query_embedder)]
        return hash_of_corpus(passages, vectors, self._counts.tolist(), *asked)

    def content_hash(self) -> str:
        """Return a hash of passages, vectors and embedders' names: the identity of the index in journals."""
        return self._content

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # an index never changes, so the copies of a program share it

    def __getstate__(self) -> dict[str, Any]:
        if self._folder is not None:  # another process opens it where it lies
            held: Any = self._folder
        else:
            held = (self._vectors, self._counts, list(self._passages))
        own = {n: v for n, v in self.__dict__.items() if n in ("_query_embedder", "embedder_name", "_approximate")}
        return {"own": own, "held": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["own"])
        if isinstance(state["held"], Path):
            self._reopen(state["held"])
        else:
            self._hold(*state["held"])
            self._prepare(progress=False)

    # --- what a subclass says ---

    def _read(self, found: Any, count: int) -> list[Floats]:
        """Return what an embedder gave for `count` texts as one array of vectors for each. Raises UsageError."""
        raise NotImplementedError

    def _best(self, query: Floats, k: int) -> list[tuple[int, float]]:
        """Return row and score of the best passages for the vectors of a query."""
        raise NotImplementedError

    def _check_size(self, count: int) -> None:
        """Raise what can be known to fail before anything is embedded."""

    def _prepare(self, *, progress: bool) -> None:
        """Build what is kept besides the vectors."""

    def _write(self, folder: Path) -> dict[str, Any]:
        """Write what is kept besides the vectors, and return what the index says of it."""
        return {}

    def _restore(self, folder: Path, about: dict[str, Any]) -> None:
        """Open what `_write` wrote."""

    # --- keeping ---

    def _take(self, embedder: Embed, query_embedder: Embed | None) -> None:
        if importlib.util.find_spec("numpy") is None:
            raise MissingExtraError("numpy", "dense", f"tf.{type(self).__name__}")
        for given in (embedder, query_embedder or embedder):
            if not callable(given):
                raise UsageError(
                    f"tf.{type(self).__name__} takes an embedder, a function from texts to vectors such as "
                    f"tf.Embedder('local/wordllama'), got {given!r:.80}."
                )
        self._query_embedder = query_embedder or embedder
        self.embedder_name = _name_of(embedder)

    def _hold(self, vectors: Floats, counts: Counts, passages: Sequence[Passage]) -> None:
        self._vectors, self._counts, self._passages = vectors, counts, passages

    def _finish(self, folder: Path, path: Path) -> None:
        about = {
            "kind": self.kind,
            "embedder": self.embedder_name,
            "passages": len(self._passages),
            "width": self._vectors.shape[1],
            **self._write(folder),
        }
        vector_folder.finished(folder, path, about, self._passages)

    #: The folder that it is in, if it is in one.
    _folder: Path | None = None

    def _reopen(self, path: Path) -> dict[str, Any]:
        self._folder = path
        about, vectors, counts, passages = vector_folder.opened(path, self.kind)
        self._hold(vectors, counts, passages)
        self._restore(path, about)
        return about

    def _same_vectors(self, embedder: Embed) -> bool:
        import numpy as np  # an extra, looked for in `_take`

        (found,) = self._read(_asked(embedder, [str(self._passages[0])]), 1)
        kept = self._vectors[: self._counts[0]]
        return found.shape == kept.shape and bool(np.allclose(found, kept, atol=1e-2))


def _asked(embedder: Embed, texts: list[str]) -> Any:
    found = embedder(texts)
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        raise UsageError("an index takes a plain embedder. Wrap an asynchronous function: tf.Embedder(function).")
    return found


def _is_named(embedder: Embed) -> bool:
    return isinstance(getattr(embedder, "model", None), str)


def _name_of(embedder: Embed) -> str:
    for attribute in ("name", "__qualname__"):
        if isinstance(found := getattr(embedder, attribute, None), str):
            return found
    return type(embedder).__qualname__
