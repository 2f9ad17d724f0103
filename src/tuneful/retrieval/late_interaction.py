"""LateInteraction: retrieval by one vector a token, compared at the last moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tuneful.errors import UsageError
from tuneful.retrieval.dense import as_floats, best_of, unit
from tuneful.retrieval.vector_index import Embed, VectorIndex

if TYPE_CHECKING:
    from tuneful.retrieval.vector_index import Counts, Floats
    from tuneful.spec.passage import Passage

#: Token vectors that are compared with a query at once: 64 MB of products with one of 32 tokens.
_BLOCK = 500_000


class LateInteraction(VectorIndex):
    """A retriever by tokens: each token of the query looks for its nearest token in a passage, and these add up.

    >>> axes = {"red": [1.0, 0.0, 0.0], "blue": [0.0, 1.0, 0.0], "car": [0.0, 0.0, 1.0]}
    >>> def tokens(texts):
    ...     return [[axes[word] for word in text.split()] for text in texts]
    >>> find = LateInteraction(["red car", "blue car", "blue"], tokens)
    >>> [(p.text, p.score) for p in find("blue car", k=2)]
    [('blue car', 2.0), ('red car', 1.0)]

    Use it over a ColBERT model, where single words decide and one vector a passage blurs them. Every token of the
    corpus is compared with every token of the query, exactly: right for some ten thousand passages. Above that use an
    index that prunes, such as that of a ColBERTv2 server (`ColBERTv2`). It brings no model: any library that gives the
    vectors of tokens will do.

    Args:
        corpus: texts, mappings with `text` and perhaps `title` and `id`, or `Passage`s; also a generator.
        token_embedder: any function from a list of texts to one array of shape (tokens, d) for each.
        path: a folder to keep the index in, as for `Dense`.
        query_embedder: for models that embed queries in another way than passages.
        progress: whether a bar shows, where a person can see it.

    Raises:
        MissingExtraError: numpy is missing.
        DataError: the corpus is empty, or two passages have one id. Nothing was embedded.
        UsageError: the embedder gave something else.

    Cost: every passage is embedded once, every query once. Memory: 4 bytes a number, so 50 KB for a passage of 100
    tokens with vectors of 128.

    Source: Khattab and Zaharia (2020), "ColBERT: Efficient and Effective Passage Search via Contextualized Late
    Interaction over BERT", section 3.3 (MaxSim). Deviation: no first stage that picks candidates.
    """

    kind: ClassVar[str] = "late interaction"

    def __init__(
        self,
        corpus: Iterable[Any],
        token_embedder: Embed,
        path: str | Path | None = None,
        *,
        query_embedder: Embed | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(corpus, token_embedder, path, query_embedder, progress=progress)

    def _read(self, found: Any, count: int) -> list[Floats]:
        expected = f"one array of shape (tokens, d) for each of its {count} texts"
        if isinstance(found, (str, bytes)) or not hasattr(found, "__len__") or len(found) != count:
            raise UsageError(f"a token embedder gives {expected}; this one gave {found!r:.120}.")
        arrays = [as_floats(one, expected) for one in found]
        width = next((a.shape[1] for a in arrays if a.ndim == 2 and a.size), 0)
        arrays = [a.reshape(0, width) if a.size == 0 else a for a in arrays]  # a text without tokens
        if any(a.ndim != 2 or a.shape[1] != width for a in arrays):
            raise UsageError(f"a token embedder gives {expected}; this one gave {[a.shape for a in arrays[:5]]}.")
        return [unit(a) for a in arrays]

    def _hold(self, vectors: Floats, counts: Counts, passages: Sequence[Passage]) -> None:
        import numpy as np  # an extra, looked for when the index is made

        super()._hold(vectors, counts, passages)
        self._rows = np.flatnonzero(counts)  # a passage without tokens is never found
        self._ends = np.cumsum(counts[self._rows], dtype=np.int64)

    def _best(self, query: Floats, k: int) -> list[tuple[int, float]]:
        import numpy as np  # as above

        scores = np.concatenate([self._max_sim(query, *block) for block in self._blocks()])
        return [(int(self._rows[i]), float(scores[i])) for i in best_of(scores, k)]

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of passages that together have about `_BLOCK` vectors."""
        first = 0
        while first < len(self._ends):
            begin = self._ends[first - 1] if first else 0
            last = max(first + 1, int(self._ends.searchsorted(begin + _BLOCK, "right")))
            yield first, last
            first = last

    def _max_sim(self, query: Floats, first: int, last: int) -> Floats:
        """Return, for each of some passages, the sum over the query's tokens of the highest product with its tokens."""
        import numpy as np  # as above

        ends = self._ends[first:last]
        begin = int(self._ends[first - 1]) if first else 0
        products = self._vectors[begin : ends[-1]] @ query.T
        starts = np.concatenate(([begin], ends[:-1])) - begin
        sums: Floats = np.maximum.reduceat(products, starts, axis=0).sum(axis=1)
        return sums
