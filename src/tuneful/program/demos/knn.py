"""KNN: the examples that are most like some inputs."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from tuneful.backends.rebuilt import Rebuilt
from tuneful.errors import DataError, InputError, UsageError
from tuneful.program.parameter import checked_whole
from tuneful.program.running.portal import portal
from tuneful.program.vectors.embedder import Embedder
from tuneful.spec.example import Example

Vector = list[float]


class KNN(Rebuilt):
    """The k examples whose inputs are nearest to those of a call: `knn(question="...")`, the nearest first.

    >>> rows = [Example(word=w).with_inputs("word") for w in ("aaaa", "bb", "aab")]
    >>> knn = KNN(2, rows, vectorizer=lambda texts: [[t.count("a"), t.count("b")] for t in texts])
    >>> [e.word for e in knn(word="aaa")]
    ['aaaa', 'aab']

    Use it to choose demos for each input. For passages, use a retriever. It is no module: it asks no model for text,
    and nothing of it can be tuned.

    Args:
        k: examples to return, at most as many as there are.
        trainset: examples with inputs marked.
        vectorizer: a `tf.Embedder`, or a function, plain or async, from a list of texts to one vector for each.

    Raises:
        DataError: no examples, fewer than k, or one without marked inputs.
        UsageError: what is no vectorizer; or, when it is called, one that returns no vectors.

    Cost: no call of an LM. The trainset is embedded once, at the first call, and each call embeds one text. The search
    compares with every example: for some ten thousand use a vector index.

    Source: Liu et al. (2022), "What Makes Good In-Context Examples for GPT-3?", section 3: nearest by the cosine.
    """

    def __init__(self, k: int, trainset: Sequence[Example], vectorizer: Embedder | Callable[..., Any]) -> None:
        self.k = checked_whole("k", k)
        self.trainset = list(trainset)
        if len(self.trainset) < self.k:
            raise DataError(f"`k` is {self.k}, and the trainset has {len(self.trainset)} examples.")
        if not callable(vectorizer):
            raise UsageError(
                f"`vectorizer` must be a tf.Embedder, or a function from texts to vectors, got {vectorizer!r:.80}."
            )
        self.vectorizer = vectorizer
        self._texts = [_text(e.inputs()) for e in self.trainset]
        self._vectors: list[Vector] | None = None
        self._embedding = asyncio.Lock()

    def __call__(self, **inputs: Any) -> list[Example]:
        """Return the nearest examples, and block until they are found."""
        return portal.run(self.acall(**inputs))

    async def acall(self, **inputs: Any) -> list[Example]:
        """Return the nearest examples, in the current event loop."""
        if not inputs:
            raise InputError("KNN is called with the inputs of an example, by name, and got none.")
        return await portal.bring(self._nearest(_text(Example(inputs))))

    async def _nearest(self, text: str) -> list[Example]:
        if self._vectors is None:
            async with self._embedding:  # calls that come at once embed the trainset once
                if self._vectors is None:
                    self._vectors = await self._vectors_of(self._texts)
        (wanted,) = await self._vectors_of([text])
        if len(wanted) != len(self._vectors[0]):
            lengths = f"{len(self._vectors[0])} and {len(wanted)}"
            raise UsageError(f"the vectorizer `{self._name}` gave vectors of lengths {lengths}.")
        near = [sum(map(float.__mul__, wanted, vector)) for vector in self._vectors]
        order = sorted(range(len(near)), key=lambda i: (-near[i], i))
        return [self.trainset[i] for i in order[: self.k]]

    async def _vectors_of(self, texts: list[str]) -> list[Vector]:
        """Return a vector of length 1 for each text."""
        if isinstance(self.vectorizer, Embedder):
            found = await self.vectorizer.acall(texts)
        else:
            vectorizer = self.vectorizer
            found = await portal.in_thread(lambda: vectorizer(list(texts)))
            if inspect.isawaitable(found):
                found = await found
        expected = f"a vectorizer returns one vector for each text, finite numbers, all of one length; `{self._name}`"
        try:
            vectors = [_normed([float(x) for x in row]) for row in found]
        except (TypeError, ValueError) as error:
            raise UsageError(f"{expected} returned {found!r:.80}.") from error
        lengths = sorted({len(v) for v in vectors})
        if len(vectors) != len(texts) or len(lengths) != 1 or lengths == [0]:
            raise UsageError(f"{expected} returned {len(vectors)} of lengths {lengths} for {len(texts)} texts.")
        if not all(math.isfinite(x) for vector in vectors for x in vector):
            raise UsageError(f"{expected} returned NaN or infinity among them.")
        return vectors

    @property
    def _name(self) -> str:
        if isinstance(self.vectorizer, Embedder):
            return self.vectorizer.name
        return str(getattr(self.vectorizer, "__name__", type(self.vectorizer).__name__))

    def __deepcopy__(self, memo: dict[int, Any]) -> KNN:
        return self  # vectors and connections are shared by the copies of a program, as an index is


def _text(inputs: Example) -> str:
    return " | ".join(f"{name}: {value}" for name, value in inputs.to_dict().items())


def _normed(vector: Vector) -> Vector:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector] if length else vector
