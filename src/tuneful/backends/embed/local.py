"""Embeddings by a GGUF model in this process, through xllamacpp."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tuneful.backends.embed.embedding import EmbeddingBackend, Vectors, vectors_of
from tuneful.backends.http.refusal import error_of
from tuneful.backends.local.engine import LocalSettings, engine_of
from tuneful.backends.local.find import NAMED_MODELS, find_model
from tuneful.errors import ContextWindowExceededError, MissingExtraError

#: Bytes of a file in which its own settings stand.
_HEAD = 16_000_000


@dataclass(frozen=True, slots=True)
class EmbeddingSettings(LocalSettings):
    """How a model is loaded to embed; a model that writes as well is loaded a second time.

    Args:
        context_tokens: longest text; texts that are embedded together share it.
        pooled: whether the file says how the vectors of the tokens become the vector of the text. Embedding models
            do; of the others the mean is taken.
    """

    context_tokens: int = 2048
    pooled: bool = False

    def prepare(self, params: Any) -> None:
        """Set what embedding needs."""
        import xllamacpp  # an extra, loaded with the model

        params.embedding = True
        params.n_batch = params.n_ubatch = self.context_tokens  # a text is computed in one piece
        if not self.pooled:
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN


class LocalEmbeddings(EmbeddingBackend):
    """A GGUF model in this process, loaded at the first call. Its vectors have length 1.

    A model that was made for embedding serves best; any other serves too, as the mean of its last layer.

    Args:
        name: "smollm2" or the path of a .gguf file.
        options: settings of `LocalSettings` but the path.

    Raises:
        NotConfiguredError, MissingExtraError, UsageError: the file or the library is missing, or the file is no GGUF
            file. Raised here, before any call.
    """

    local = True
    options = tuple(f.name for f in fields(LocalSettings) if f.name != "path")

    def __init__(self, name: str, **options: Any) -> None:
        path = find_model(name)
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("xllamacpp", "local", "A local model")
        self._settings = EmbeddingSettings(path=str(path), pooled=_says_how_to_pool(path), **options)
        self.model = name if name in NAMED_MODELS else path.name
        self.endpoint = f"embedding local#{path.name}:{path.stat().st_size}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed some texts. Raises a branch of LMError, such as ContextWindowExceededError for a text too long."""
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(None, engine_of, self._settings)
        body = {"model": self.model, "input": list(texts)}
        answer = await loop.run_in_executor(engine.slots, engine.embeddings, body)
        if error := answer.get("error"):
            refusal = error_of(int(error.get("code") or 500), answer, self.model)
            if isinstance(refusal, ContextWindowExceededError):
                refusal.add_note("Or make room for longer texts: tf.Embedder(..., context_tokens=...).")
            raise refusal
        return vectors_of(answer, len(texts), self.model)


def _says_how_to_pool(path: Path) -> bool:
    """Whether the settings at the head of a file hold a way of pooling (a key such as `bert.pooling_type`)."""
    with path.open("rb") as model_file:
        return b".pooling_type" in model_file.read(_HEAD)
