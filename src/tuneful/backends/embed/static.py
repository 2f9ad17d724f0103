"""Static embeddings: the mean of token vectors, read straight from the weights in the package `wordllama`."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneful.backends.embed.embedding import EmbeddingBackend, Vectors
from tuneful.errors import MissingExtraError, NotConfiguredError, UsageError
from tuneful.wire.response import Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PACKAGE = "wordllama"


class StaticEmbeddings(EmbeddingBackend):
    """The 16 MB model of the package `wordllama`: no network, some ten thousand short texts a second on one core.

    A text's vector is the mean of its tokens' vectors, scaled to length 1; that of a text without tokens is zero.
    Good at finding texts on the same subject; word order and negation are nothing to it.

    Args:
        dimensions: the first so many numbers of each vector, scaled anew. The model was trained for it.

    Raises:
        NotConfiguredError, MissingExtraError, UsageError: something is not installed, or there are fewer dimensions.
            Raised here, before any call.
    """

    local = True
    options = ()

    def __init__(self, dimensions: int | None = None) -> None:
        self._weights, self._tokenizer = _files()
        for package in ("numpy", "tokenizers", "safetensors"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, "dense", "local/wordllama")
        self._dimensions = dimensions
        cut = f":{dimensions}" if dimensions else ""
        self.endpoint = f"embedding {_PACKAGE}#{self._weights.name}:{self._weights.stat().st_size}{cut}"
        if dimensions is not None:
            self._check(dimensions)

    def _check(self, dimensions: int) -> None:
        from safetensors import safe_open  # an extra

        with safe_open(self._weights, "np") as weights:
            most = weights.get_slice("embedding.weight").get_shape()[1]
        if not 1 <= dimensions <= most:
            raise UsageError(f"`local/wordllama` has vectors of up to {most} numbers, not {dimensions}.")

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed some texts."""
        return await asyncio.get_running_loop().run_in_executor(None, self._embedded, list(texts))

    def _embedded(self, texts: list[str]) -> Vectors:
        import numpy as np  # an extra

        model = _loaded(self._weights, self._tokenizer)
        encoded = model.tokenizer.encode_batch(texts, add_special_tokens=False)
        rows = np.zeros((len(texts), self._dimensions or model.weights.shape[1]), "<f4")
        for row, text in zip(rows, encoded, strict=True):
            if text.ids:
                row[:] = model.weights[text.ids, : len(row)].mean(axis=0, dtype=np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(lengths > 0, lengths, 1)
        usage = Usage(calls=1, prompt_tokens=sum(len(text.ids) for text in encoded))
        return Vectors(tuple(row.tobytes() for row in rows), usage, "local/wordllama")


@dataclass(frozen=True)
class _Model:
    weights: NDArray[np.float16]
    tokenizer: Any


_loading = threading.Lock()


def _loaded(weights: Path, tokenizer: Path) -> _Model:
    with _loading:
        return _load(weights, tokenizer)


@lru_cache(maxsize=4)
def _load(weights: Path, tokenizer: Path) -> _Model:
    from safetensors.numpy import load_file  # extras: looked for when the backend is made
    from tokenizers import Tokenizer

    reader = Tokenizer.from_file(str(tokenizer))
    reader.no_padding()
    reader.no_truncation()
    return _Model(load_file(weights)["embedding.weight"], reader)


def _files() -> tuple[Path, Path]:
    """Return the files of the package: weights and tokenizer. It is located, not imported: it needs much more.

    Raises:
        NotConfiguredError: the package is not installed, or does not hold them.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in map(Path, spec.submodule_search_locations or () if spec else ()):
        weights = sorted(folder.glob("weights/*.safetensors"))
        tokenizers = sorted(folder.glob("tokenizers/*.json"))
        if weights and tokenizers:
            return weights[0], tokenizers[0]
    raise NotConfiguredError(
        "the model `local/wordllama` is not installed. Install its files (16 MB) with:\n"
        f"    pip install --no-deps {_PACKAGE}"
    )
