"""Embedder: texts -> vectors, by a model's name or by a function of the user's."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuneful.backends.base import Backend
from tuneful.backends.cache import Cache
from tuneful.backends.embed.embedding import EmbeddingBackend, Vectors, create, request_for, rows_of
from tuneful.backends.limited import Limited
from tuneful.backends.metered import Metered, note_hit
from tuneful.backends.models import Price, facts_of
from tuneful.backends.rebuilt import Rebuilt
from tuneful.backends.retried import Retried
from tuneful.errors import CacheMissError, InputError, LMServerError, MissingExtraError, UsageError
from tuneful.program.running import runtime
from tuneful.program.running.concurrency import gather_bounded
from tuneful.program.running.portal import portal
from tuneful.wire.response import Choice, Response, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

#: Characters of a batch: below what any service takes at once, in any language.
_BATCH_CHARS = 250_000

#: Texts that are looked up before other work of the loop gets its turn.
_LOOKED_UP_AT_ONCE = 500


class Embedder(Rebuilt):
    """Turns texts into vectors.

    >>> embedder = Embedder(lambda texts: [[len(text), text.count("a")] for text in texts])
    >>> embedder("banana").tolist()
    [6.0, 3.0]
    >>> embedder(["a", "bb"]).shape
    (2, 2)

    A call with one text gives a vector of shape (d,), with n texts an array of shape (n, d); 32-bit floats. A text that
    was embedded before is not asked for again: the vectors of a named model are in the response cache, those of a
    function in memory, since two functions that look the same may not be.

    Args:
        model: `provider/name` ("openai/text-embedding-3-small", any server with `/embeddings`), "local/PATH.gguf" or
            "local/smollm2" (in this process), "local/wordllama" (static, very fast), or a function, plain or async,
            from a list of texts to one vector for each.
        batch_size: most texts of one request.
        caching: whether vectors are kept and taken from where they are kept.
        api_base, api_key: address and key in place of the provider's. The key is never saved, logged or shown.
        dimensions: length of the vectors, where the model can give several.
        price_per_million: US dollars for a million tokens; by default the built-in table's, which
            `tf.configure(prices=...)` overrides. Local models cost 0.
        num_retries: further attempts when a request fails for a passing reason: 3, or 0 with a function.
        retry_deadline_s: seconds for all attempts of a request together.
        max_concurrency: requests in flight; by default 8, and 1 with a plain function.
        requests_per_minute, tokens_per_minute: bounds for any 60 seconds.
        extra_body: further fields of a server's request.
        options: settings of the backend (timeout_s, connect_timeout_s, ca_bundle, headers; for local models
            context_tokens, threads, slots, gpu_layers); with a function, further arguments of it.

    Raises:
        MissingExtraError: numpy is not installed.
        UsageError: an unknown provider or option.
        NotConfiguredError: a local model that is not installed.

    Cost: 1 request for each `batch_size` of the texts that are not cached. Budgets and `track_usage` see the requests
    of named models; a function is charged for what it asks of models itself.
    """

    def __init__(
        self,
        model: str | Callable[..., Any],
        *,
        batch_size: int = 200,
        caching: bool = True,
        api_base: str | None = None,
        api_key: str | None = None,
        dimensions: int | None = None,
        price_per_million: float | tuple[float, ...] | Price | None = None,
        num_retries: int | None = None,
        retry_deadline_s: float = 600.0,
        max_concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if importlib.util.find_spec("numpy") is None:
            raise MissingExtraError("numpy", "dense", "tf.Embedder")
        self.model = model
        self.batch_size = _size(batch_size)
        self.caching = caching
        self.dimensions = _size(dimensions, "dimensions") if dimensions is not None else None
        self._width = self.dimensions or 0
        self._price = None if price_per_million is None else _price(str(model), price_per_million)
        self._own_cache: Cache | None = None
        asked: Backend
        if isinstance(model, str):
            source = create(
                model,
                api_base=api_base,
                api_key=api_key,
                dimensions=dimensions,
                extra_body=extra_body or {},
                options=options,
            )
            asked, plain = Metered(source, model, lambda: self.price), False
        elif callable(model):
            _refuse(api_base=api_base, api_key=api_key, dimensions=dimensions)
            _refuse(price_per_million=price_per_million, extra_body=extra_body)
            asked = source = _Function(model, options)
            self._own_cache, plain = Cache(None), source.plain
        else:
            raise UsageError(
                "tf.Embedder takes a model's name such as 'openai/text-embedding-3-small', or a function, "
                f"got {model!r:.80}."
            )
        self._local = source.local
        self._in_flight = max_concurrency or (1 if plain else 8)
        retries = num_retries if num_retries is not None else 3 * isinstance(model, str)
        limited = Limited(
            asked,
            max_concurrency=self._in_flight,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        self.backend = Retried(limited, retries=retries, deadline_s=retry_deadline_s)

    @property
    def price(self) -> Price | None:
        """Price in force, or None where it is not known."""
        if self._price is not None:
            return self._price
        configured: Price | None = runtime.settings.prices.get(self.model)
        if configured is not None:
            return configured
        return Price(0.0, 0.0) if self._local else facts_of(str(self.model)).price

    # --- calling ---

    def __call__(
        self, inputs: str | Iterable[str], batch_size: int | None = None, caching: bool | None = None
    ) -> Array:
        """Embed a text, or texts, and block until the vectors are there.

        Args:
            inputs: a text, or texts.
            batch_size, caching: in place of this embedder's own, for this call.

        Raises:
            InputError: something among the inputs is no text. Nothing was asked.
            LMError, BudgetExceeded: from the model.
            CacheMissError: the cache replays, and lacks a vector.
            UsageError: a function returned something else than a vector for each text.
        """
        texts = _texts(inputs)
        return self._array(inputs, portal.run(self._rows(texts, batch_size, caching)))

    async def acall(
        self, inputs: str | Iterable[str], batch_size: int | None = None, caching: bool | None = None
    ) -> Array:
        """Embed a text, or texts, in the current event loop; otherwise as a call."""
        texts = _texts(inputs)
        return self._array(inputs, await portal.bring(self._rows(texts, batch_size, caching)))

    def _array(self, inputs: Any, rows: Sequence[bytes]) -> Array:
        import numpy as np  # an extra, looked for when the embedder was made

        widths = sorted({len(row) // 4 for row in rows})
        if len(widths) > 1:
            lengths = f"`{self._name}` gave vectors of different lengths: {', '.join(map(str, widths))}."
            if not isinstance(self.model, str):
                raise UsageError(lengths)
            raise LMServerError(
                f"{lengths} If the model behind the name has changed, clear the cache, or call with caching=False."
            )
        if not widths:
            return np.zeros((0, self._width), np.float32)
        self._width = widths[0]
        found = np.frombuffer(b"".join(rows), "<f4").astype(np.float32).reshape(len(rows), self._width)
        return found[0] if isinstance(inputs, str) else found

    @property
    def name(self) -> str:
        """What made the vectors, as a saved index names it: the model, with the length of vectors where it was chosen.

        A function has its own name, which says less: it may have changed since.
        """
        return self._name if self.dimensions is None else f"{self._name} ({self.dimensions} dimensions)"

    @property
    def _name(self) -> str:
        return self.model if isinstance(self.model, str) else getattr(self.model, "__name__", repr(self.model))

    # --- asking for what is not kept ---

    async def _rows(self, texts: Sequence[str], batch_size: int | None, caching: bool | None) -> list[bytes]:
        size = self.batch_size if batch_size is None else _size(batch_size)
        cache = self._cache(self.caching if caching is None else caching)
        unique = list(dict.fromkeys(texts))
        found = await self._kept(cache, unique) if cache is not None else {}

        async def ask(batch: list[str]) -> None:
            response = await self.backend.complete(request_for(batch))
            found.update(zip(batch, rows_of(response), strict=True))
            if cache is not None and cache.keeps:
                answers = zip(batch, response.choices, strict=True)
                await cache.keep([(self._key(text), _kept_alone(choice, response)) for text, choice in answers])

        await gather_bounded(list(_batches([t for t in unique if t not in found], size)), ask, self._in_flight)
        return [found[text] for text in texts]

    def _cache(self, caching: bool) -> Cache | None:
        ambient = runtime.current_cache()
        if not caching or ambient is None or ambient.mode == "off":
            return None
        return ambient if self._own_cache is None else self._own_cache

    def _key(self, text: str) -> str:
        return request_for([text]).key(self.backend.endpoint)

    async def _kept(self, cache: Cache, texts: Sequence[str]) -> dict[str, bytes]:
        """Return the vectors that are kept, by text."""
        if not cache.answers:
            return {}
        found: dict[str, bytes] = {}
        for start in range(0, len(texts), _LOOKED_UP_AT_ONCE):
            part = texts[start : start + _LOOKED_UP_AT_ONCE]
            for text, response in zip(part, cache.find([self._key(text) for text in part]), strict=True):
                if response is not None:
                    found[text] = rows_of(response)[0]
                elif cache.mode == "replay":
                    raise CacheMissError(
                        f"the cache replays and has no vector of `{self._name}` for {text[:300]!r}. "
                        "Record it: run once with tf.Cache(..., mode='readwrite')."
                    )
            await asyncio.sleep(0)
        if found and isinstance(self.model, str):
            note_hit(self.model, len(found))
        return found

    # --- the rest ---

    async def aclose(self) -> None:
        """Close connections. The embedder may be used again and reopens them then."""
        await portal.bring(self.backend.aclose())

    def __repr__(self) -> str:
        return (
            f"Embedder({self.model!r})" if self.dimensions is None else f"Embedder({self.model!r}, {self.dimensions})"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Embedder:
        return self  # connections, loaded models and what is kept are shared by the copies of a program


class _Function(EmbeddingBackend):
    """A function of the user's as a backend."""

    local = True

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self._function = function
        self._options = dict(options)
        self.plain = not any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
        self.endpoint = "embedding function"  # its vectors are kept with its embedder alone

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Call the function; a plain one in a worker thread. Raises UsageError for anything but a vector each."""
        if self.plain:
            found = await portal.in_thread(lambda: self._function(list(texts), **self._options))
        else:
            found = self._function(list(texts), **self._options)
        if inspect.isawaitable(found):
            found = await found
        return Vectors(tuple(row.tobytes() for row in _checked_array(found, len(texts))), Usage())


def _checked_array(found: Any, count: int) -> Array:
    import numpy as np  # an extra, looked for when the embedder was made

    expected = f"a function for tf.Embedder returns one vector for each of its texts, an array of shape ({count}, d)"
    try:
        array = np.asarray(found, dtype="<f4")
    except (TypeError, ValueError) as error:
        raise UsageError(f"{expected}; this one returned {found!r:.120}, which is no such array: {error}") from error
    if array.ndim != 2 or array.shape[0] != count or array.shape[1] == 0:
        raise UsageError(f"{expected}; this one returned one of shape {array.shape}.")
    if not np.isfinite(array).all():
        raise UsageError(f"{expected}; this one returned values that are no finite numbers (NaN, or infinity).")
    return array


def _kept_alone(choice: Choice, response: Response) -> Response:
    return Response((choice,), Usage(), response.model)


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Cut texts into batches of at most `size` texts and `_BATCH_CHARS` characters."""
    batch: list[str] = []
    chars = 0
    for text in texts:
        if batch and (len(batch) == size or chars + len(text) > _BATCH_CHARS):
            yield batch
            batch, chars = [], 0
        batch.append(text)
        chars += len(text)
    if batch:
        yield batch


def _texts(inputs: Any) -> list[str]:
    """Return the texts of a call. Raises InputError for anything else."""
    if isinstance(inputs, str):
        return [inputs]
    if not isinstance(inputs, Iterable) or isinstance(inputs, (bytes, bytearray, Mapping)):
        raise InputError(f"an embedder takes a text or a list of texts, got {inputs!r:.80}. Nothing was asked.")
    texts = list(inputs)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"an embedder takes a text or a list of texts; number {index} is {text!r:.80}, of type "
                f"{type(text).__name__}. Nothing was asked."
            )
    return texts


def _size(value: Any, name: str = "batch_size") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"`{name}` is {value!r}; expected a whole number of at least 1.")
    return value


def _price(model: str, value: Any) -> Price:
    alone = isinstance(value, (int, float))
    return runtime.price_of(model, (value, 0.0) if alone else value)


def _refuse(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"tf.Embedder with a function takes no `{name}`: the function itself decides on it.")
