"""Response: the answers to one request, and what they used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FinishReason = Literal["stop", "length", "filter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls have used. Adds up.

    Args:
        calls: requests that a model answered.
        prompt_tokens: tokens sent, the cached ones included.
        cached_tokens: those of them that a prefix cache served.
        completion_tokens: tokens generated.
        cost_usd: US dollars, or None where a price is not known.
        retries: attempts that failed before a request was answered.
    """

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    retries: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens sent and generated."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        unknown = self.cost_usd is None or other.cost_usd is None
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
            self.retries + other.retries,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Choice:
    """One sample of an answer.

    Args:
        text: what the model wrote.
        finish_reason: "stop" (it ended by itself), "length" (cut at the token limit) or "filter".
        logprobs: pairs (token, log probability), where they were asked for.
    """

    text: str
    finish_reason: FinishReason = "stop"
    logprobs: tuple[tuple[str, float], ...] | None = None

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut at the token limit."""
        return self.finish_reason == "length"


@dataclass(frozen=True, slots=True)
class Response:
    """The answers to one request: `sampling.n` choices."""

    choices: tuple[Choice, ...]
    usage: Usage = Usage(calls=1)
    model: str = ""

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].text
