"""Dense: retrieval by one vector a passage, exact or approximate."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tuneful.errors import MissingExtraError, StateError, UsageError
from tuneful.progress import progress_bar
from tuneful.retrieval.vector_index import Embed, VectorIndex

if TYPE_CHECKING:
    from tuneful.retrieval.vector_index import Counts, Floats
    from tuneful.spec.passage import Passage

_GRAPH = "graph.usearch"

#: Vectors that enter the graph together.
_ADDED = 10_000


class Dense(VectorIndex):
    """A retriever by meaning: the passages whose vectors point the way that the query's does.

    >>> kinds = {"cat": [1.0, 0.0], "dog": [0.9, 0.1], "bus": [0.0, 1.0], "kitten": [1.0, 0.02]}
    >>> find = Dense(["cat", "dog", "bus"], lambda texts: [kinds[text] for text in texts])
    >>> [(p.text, round(p.score, 2)) for p in find("kitten", k=2)]
    [('cat', 1.0), ('dog', 1.0)]

    Use it where a query and the passage that answers it share few words; beside a `BM25`, with `Hybrid`, since names
    and numbers are better found by words. What is embedded of a passage is its title and its text.

    Args:
        corpus: texts, mappings with `text` and perhaps `title` and `id`, or `Passage`s; also a generator.
        embedder: a `tf.Embedder`, or any function from a list of texts to an array of shape (n, d).
        path: a folder to keep the index in; one that is there is replaced. A build that was killed goes on where it was
            when it is run again with the same corpus and an embedder of the same name. By default the index is in
            memory. `Dense.load` opens it.
        query_embedder: for models that embed queries in another way than passages.
        approximate: search a graph of neighbours (HNSW) in place of every vector; the hundred best that it finds, or
            ten times k, are compared exactly. By default above 200,000 passages.
        progress: whether bars show, where a person can see them.

    Raises:
        MissingExtraError: numpy is missing, or usearch for approximate search: `pip install 'tuneful[ann]'`.
        DataError: the corpus is empty, or two passages have one id. Nothing was embedded.
        UsageError: the embedder gave something else than one vector for each text.

    Cost: every passage is embedded once, every query once.

    Source: Karpukhin et al. (2020), "Dense Passage Retrieval for Open-Domain Question Answering"; the graph: Malkov and
    Yashunin (2016), "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small World
    Graphs". Deviation: vectors are scaled to length 1, so that the inner product is the cosine.
    """

    kind: ClassVar[str] = "dense"

    #: Passages above which the search is approximate, where nobody says.
    EXACT_UP_TO = 200_000

    def __init__(
        self,
        corpus: Iterable[Any],
        embedder: Embed,
        path: str | Path | None = None,
        *,
        query_embedder: Embed | None = None,
        approximate: bool | None = None,
        progress: bool = True,
    ) -> None:
        self._approximate = approximate
        super().__init__(corpus, embedder, path, query_embedder, progress=progress)

    def _check_size(self, count: int) -> None:
        if self._approximate is None:
            self._approximate = count > self.EXACT_UP_TO
        if self._approximate and importlib.util.find_spec("usearch") is None:
            raise MissingExtraError(
                "usearch", "ann", f"Approximate search (over {count:,} passages; approximate=False does without)"
            )

    def _read(self, found: Any, count: int) -> list[Floats]:
        rows = as_floats(found, f"one vector for each text, an array of shape ({count}, d)")
        if rows.ndim != 2 or len(rows) != count or rows.shape[1] == 0:
            raise UsageError(f"an embedder gives an array of shape ({count}, d) for {count} texts, not {rows.shape}.")
        return list(unit(rows)[:, None, :])

    def _hold(self, vectors: Floats, counts: Counts, passages: Sequence[Passage]) -> None:
        super()._hold(vectors, counts, passages)
        self._graph: Any = None
        self._searching = threading.Lock()  # the graph's searches share their memory

    def _best(self, query: Floats, k: int) -> list[tuple[int, float]]:
        import numpy as np  # as above

        if self._graph is None:
            rows, scores = np.arange(len(self)), self._vectors @ query[0]
        else:
            with self._searching:
                rows = np.sort(self._graph.search(query[0], min(len(self), max(100, 10 * k))).keys.astype(np.int64))
            scores = self._vectors[rows] @ query[0]
        return [(int(rows[i]), float(scores[i])) for i in best_of(scores, k)]

    # --- the graph ---

    def _prepare(self, *, progress: bool) -> None:
        if not self._approximate:
            return
        import numpy as np  # as above

        graph = _new_graph(self._vectors.shape[1])
        with progress_bar(len(self), "Dense: graph", display=progress) as bar:
            for start in range(0, len(self), _ADDED):
                part = np.ascontiguousarray(self._vectors[start : start + _ADDED])
                graph.add(np.arange(start, start + len(part)), part)
                bar.advance(items=len(part))
        self._graph = graph

    def _write(self, folder: Path) -> dict[str, Any]:
        if self._graph is not None:
            self._graph.save(str(folder / _GRAPH))
        return {"approximate": self._graph is not None}

    def _restore(self, folder: Path, about: dict[str, Any]) -> None:
        if not about.get("approximate"):
            return
        if importlib.util.find_spec("usearch") is None:
            raise MissingExtraError("usearch", "ann", f"The index {str(folder)!r}, which is approximate,")
        graph = _new_graph(self._vectors.shape[1])
        try:
            graph.view(str(folder / _GRAPH))
        except (RuntimeError, OSError, ValueError) as error:
            raise StateError(f"the index {str(folder)!r} is damaged: {error}. Build it anew.") from error
        if len(graph) != len(self):
            raise StateError(f"the index {str(folder)!r} is damaged: its graph has {len(graph)} vectors.")
        self._graph = graph


def _new_graph(width: int) -> Any:
    from usearch.index import Index  # an extra, looked for before anything was embedded

    return Index(ndim=width, metric="ip", dtype="f16")


def as_floats(found: Any, expected: str) -> Floats:
    """Return what an embedder gave as an array. Raises UsageError where it is no array of finite numbers."""
    import numpy as np  # as above

    try:
        rows = np.asarray(found, np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"an embedder gives {expected}; this one gave {found!r:.120}: {error}") from error
    if not np.isfinite(rows).all():
        raise UsageError(f"an embedder gives {expected}; this one gave values that are no finite numbers.")
    return rows


def unit(rows: Floats) -> Floats:
    """Return the rows scaled to length 1; zeros stay."""
    import numpy as np  # as above

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def best_of(scores: Floats, k: int) -> list[int]:
    """Return the indices of the k highest scores, the best first, among equals the first."""
    import numpy as np  # as above

    top = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
    return [int(i) for i in top[np.lexsort((top, -scores[top]))]]
