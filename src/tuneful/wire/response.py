"""Response: the answers to one request, and what they used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from tuneful.wire.messages import ToolCall

FinishReason = Literal["stop", "length", "filter", "tools"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls have used. Adds up.

    Args:
        calls: requests that a model answered.
        prompt_tokens: tokens sent, the cached ones included.
        cached_tokens: those of them that a prefix cache served.
        completion_tokens: tokens generated, those of thoughts included.
        cost_usd: US dollars, or None where a price is not known.
        retries: attempts that failed before a request was answered.
        hits: requests that the response cache answered: they are no calls, and cost nothing.
        reasoning_tokens: tokens of thoughts, where the provider counts them.
        seconds: time spent waiting for the model, added up over calls that may have run side by side; of the embedded
            model, the time from when a call had its turn.
    """

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    retries: int = 0
    hits: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0

    @property
    def total_tokens(self) -> int:
        """Tokens sent and generated."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def recomputed_tokens(self) -> int:
        """Tokens sent that no prefix cache served: what a model had to read."""
        return self.prompt_tokens - self.cached_tokens

    def __add__(self, other: Usage) -> Usage:
        unknown = self.cost_usd is None or other.cost_usd is None
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
            self.retries + other.retries,
            self.hits + other.hits,
            self.reasoning_tokens + other.reasoning_tokens,
            self.seconds + other.seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Choice:
    """One sample of an answer.

    Args:
        text: what the model wrote.
        finish_reason: "stop" (it ended by itself), "length" (cut at the token limit), "filter" (the provider held it
            back) or "tools" (it waits for the results of tool calls).
        logprobs: pairs (token, log probability), where they were asked for.
        tool_calls: tools that it wants called.
        reasoning: its thoughts, where the provider gives them apart from the text.
        left_out: what the request asks for and the provider could not be asked for, such as "thinking".
    """

    text: str
    finish_reason: FinishReason = "stop"
    logprobs: tuple[tuple[str, float], ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut at the token limit."""
        return self.finish_reason == "length"

    def to_json(self) -> dict[str, Any]:
        """Return the choice as JSON values, without what is at its default."""
        body: dict[str, Any] = {"text": self.text}
        if self.finish_reason != "stop":
            body["finish_reason"] = self.finish_reason
        if self.logprobs is not None:
            body["logprobs"] = [list(pair) for pair in self.logprobs]
        if self.tool_calls:
            body["tool_calls"] = [c.to_json() for c in self.tool_calls]
        if self.reasoning:
            body["reasoning"] = self.reasoning
        if self.left_out:
            body["left_out"] = list(self.left_out)
        return body

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        logprobs = body.get("logprobs")
        return cls(
            body["text"],
            body.get("finish_reason", "stop"),
            None if logprobs is None else tuple((token, value) for token, value in logprobs),
            tuple(ToolCall(**c) for c in body.get("tool_calls", ())),
            body.get("reasoning", ""),
            tuple(body.get("left_out", ())),
        )


def written(choice: Choice) -> str:
    """Return what the model wrote, for people: the text, or where it has none, the arguments of its tool calls."""
    return choice.text or "\n".join(f"{c.name}({c.arguments})" for c in choice.tool_calls)


@dataclass(frozen=True, slots=True)
class Response:
    """The answers to one request: `sampling.n` choices.

    Args:
        choices: the samples.
        usage: what making the answer took, also where a cache gave it back; see `charged`.
        model: the model that answered, as the provider names it.
        hit: whether the response cache gave it.
    """

    choices: tuple[Choice, ...]
    usage: Usage = Usage(calls=1)
    model: str = ""
    hit: bool = False

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].text

    @property
    def charged(self) -> Usage:
        """What this answer costs now: nothing where the cache gave it."""
        return _HIT if self.hit else self.usage

    def to_json(self) -> dict[str, Any]:
        """Return the response as JSON values, without what is at its default."""
        usage = {k: v for k, v in self.usage.to_json().items() if v or k == "cost_usd"}
        return {"choices": [c.to_json() for c in self.choices], "usage": usage, "model": self.model}

    @classmethod
    def from_json(cls, body: dict[str, Any], *, hit: bool = False) -> Self:
        """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        choices = tuple(Choice.from_json(c) for c in body["choices"])
        if not choices:
            raise ValueError("a response without choices")
        return cls(choices, Usage(**body["usage"]), body["model"], hit)


_HIT = Usage(hits=1)


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer that is still being written.

    Args:
        text: further text of the sample.
        reasoning: further thoughts.
        index: which sample.
    """

    text: str
    reasoning: str = ""
    index: int = 0
