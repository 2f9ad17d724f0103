"""Request: everything that decides a model's answer, as a frozen value. Equal requests have equal keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

from tuneful.errors import UsageError, nearest
from tuneful.wire.messages import Message, Tool


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. None leaves a setting to the model's own default.

    Args:
        temperature: 0 is greedy. None: 0 for one sample, 0.7 for several (see `resolved`).
        max_tokens: most tokens of an answer, for each sample.
        top_p: nucleus mass, in (0, 1].
        seed: seed of the sampler, where the backend has one.
        n: samples for one request.
        stop: texts that end an answer; they are not part of it.
        logprobs: whether the answer carries the log probability of each token.
        rollout_id: number of an independent repetition: part of the key, not sent to the model.
        sample: number of the first of the n samples: the later samples of a request are requests of their own to a
            cache.
        reasoning_effort: how long a reasoning model may think: "minimal", "low", "medium" or "high".
        cache: whether the response cache may answer and keep the answer. Not part of the key, not sent.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    rollout_id: int = 0
    sample: int = 0
    reasoning_effort: str | None = None
    cache: bool = field(default=True, compare=False)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Sampling:
        """Build from keyword options. Raises UsageError for an option that does not exist or makes no sense."""
        return cls().updated(options)

    def updated(self, options: Mapping[str, Any]) -> Sampling:
        """Return a copy with some settings changed. Raises UsageError as `from_options` does."""
        known = SAMPLING_OPTIONS
        for name in options:
            if name not in known:
                raise UsageError(
                    f"there is no sampling option `{name}`.{nearest(name, known)} Options: {', '.join(known)}."
                )
        changes = dict(options)
        if "stop" in changes:
            stop = changes["stop"]
            changes["stop"] = (stop,) if isinstance(stop, str) else tuple(stop or ())
        return replace(self, **changes).checked()

    def checked(self) -> Sampling:
        """Return self if the settings make sense together, else raise UsageError. No call was made."""
        for name, kinds in _NUMBERS.items():
            value = getattr(self, name)
            unset = value is None and name not in ("n", "rollout_id", "sample")
            if not unset and (isinstance(value, bool) or not isinstance(value, kinds)):
                raise UsageError(f"`{name}` is {value!r}; expected {'an integer' if kinds is int else 'a number'}.")
        if self.n < 1:
            raise UsageError(f"`n` is {self.n!r}; it is the number of samples and at least 1.")
        if self.n > 1 and self.temperature == 0:
            raise UsageError(
                f"`temperature=0` with `n={self.n}` asks for {self.n} identical answers. "
                "Set a temperature above 0, or n=1."
            )
        if self.temperature is not None and not 0 <= self.temperature <= 5:
            raise UsageError(f"`temperature` is {self.temperature!r}; expected a number from 0 to 5.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(f"`max_tokens` is {self.max_tokens!r}; expected at least 1.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"`top_p` is {self.top_p!r}; expected a number in (0, 1].")
        if self.reasoning_effort not in (None, *EFFORTS):
            raise UsageError(f"`reasoning_effort` is {self.reasoning_effort!r}; expected one of: {', '.join(EFFORTS)}.")
        if not isinstance(self.cache, bool):
            raise UsageError(f"`cache` is {self.cache!r}; expected True or False. A cache is set by tf.configure.")
        return self

    def resolved(self) -> Sampling:
        """Return a copy whose temperature is a number: 0 for one sample, 0.7 for several or for a repetition."""
        if self.temperature is not None:
            return self
        greedy = self.n == 1 and self.rollout_id == 0 and self.sample == 0
        return replace(self, temperature=0.0 if greedy else 0.7)

    def to_json(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults. Equal settings have one form: 1 is 1.0."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        given |= {k: float(given[k]) for k in ("temperature", "top_p") if k in given}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}


_NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("n", "max_tokens", "seed", "rollout_id", "sample"), int),
    **dict.fromkeys(("temperature", "top_p"), (int, float)),
}
EFFORTS = ("minimal", "low", "medium", "high")
SAMPLING_OPTIONS: tuple[str, ...] = tuple(f.name for f in fields(Sampling) if f.name != "sample")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to a model.

    Args:
        messages: the chat, ending with the turn to answer.
        sampling: how to sample.
        grammar: a grammar that the answer must match, in the notation of the backend (`Capabilities.grammar`).
        json_schema: a JSON schema (as JSON text) the answer must match, for backends that can.
        extra: further provider settings, as sorted (name, JSON text) pairs.
        tools: tools that the model may call.
        tool_choice: "auto", "none", "required" or the name of a tool; None leaves it to the model.
        stable: how many of the first messages stay the same from call to call: where a provider's prompt cache is
            marked. Not part of the key: it changes the price of an answer, not the answer.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    grammar: str | None = None
    json_schema: str | None = None
    extra: tuple[tuple[str, str], ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    stable: int = field(default=0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON values, without unset parts."""
        body: dict[str, Any] = {"messages": [m.to_json() for m in self.messages], "sampling": self.sampling.to_json()}
        if self.grammar is not None:
            body["grammar"] = self.grammar
        if self.json_schema is not None:
            body["json_schema"] = json.loads(self.json_schema)
        if self.extra:
            body["extra"] = {k: json.loads(v) for k, v in self.extra}
        if self.tools:
            body["tools"] = [t.to_json() for t in self.tools]
        if self.tool_choice is not None:
            body["tool_choice"] = self.tool_choice
        return body

    def key(self, endpoint: str = "") -> str:
        """Return a hash of the request and of the endpoint that answers it. Equal requests have equal keys.

        Every text goes in with its length before it, so that no text can pretend to be two.
        """
        digest = hashlib.sha256(_constant_text(endpoint, self).encode("utf-8", "surrogatepass"))
        for message in self.messages:
            if isinstance(message.content, str) and not message.tool_calls and not message.call_id:
                text = f"\n{message.role} {len(message.content)}\n{message.content}"
            else:
                body = json.dumps(message.to_json(), sort_keys=True, ensure_ascii=False)
                text = f"\njson {len(body)}\n{body}"
            digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def _constant_text(endpoint: str, request: Request) -> str:
    """Return everything of a request but its messages. It is the same from call to call, so it is made once."""
    return _constants(
        endpoint,
        request.sampling,
        request.grammar,
        request.json_schema,
        request.extra,
        request.tools,
        request.tool_choice,
    )


@lru_cache(maxsize=1024)
def _constants(endpoint: str, sampling: Sampling, *rest: Any) -> str:
    shown = {k: v for k, v in sampling.to_json().items() if k != "cache"}
    grammar, json_schema, extra, tools, tool_choice = rest
    schema = None if json_schema is None else json.loads(json_schema)
    parts = [endpoint, shown, grammar, schema, extra, [t.to_json() for t in tools], tool_choice]
    return json.dumps(parts, sort_keys=True, ensure_ascii=False)
