"""What is known of model families, as data: the first pattern that fits a model's name counts.

A name that fits nothing gets no facts: nothing is forbidden, nothing is promised, and its price is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache

from tuneful.wire.messages import MediaKind


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens.

    Args:
        input: prompt tokens.
        output: generated tokens, thoughts included.
        cached: prompt tokens that the provider's prompt cache served; None: as `input`.
    """

    input: float
    output: float
    cached: float | None = None

    def cost_usd(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """Return what a call costs. `cached_tokens` are part of `prompt_tokens`."""
        cached = self.input if self.cached is None else self.cached
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.input + cached_tokens * cached + completion_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a family of models.

    Args:
        price: list price.
        context_tokens: longest prompt and answer together.
        answer_tokens: longest answer; sent as the limit where a service demands one and the user gave none.
        reasoning: it thinks before it answers.
        refuses: sampling options that it does not take.
        renames: other names of request fields, such as `max_completion_tokens` for `max_tokens`.
        media: kinds of media that it takes; None where not known.
    """

    price: Price | None = None
    context_tokens: int | None = None
    answer_tokens: int | None = None
    reasoning: bool = False
    refuses: frozenset[str] = frozenset()
    renames: tuple[tuple[str, str], ...] = field(default=())
    media: frozenset[MediaKind] | None = None


_IMAGES: frozenset[MediaKind] = frozenset({"image", "file"})
_FIXED = frozenset({"temperature", "top_p", "logprobs"})
_LONG_NAME = (("max_tokens", "max_completion_tokens"),)

#: (pattern of "provider/model", facts). More special patterns stand first.
FAMILIES: tuple[tuple[str, ModelFacts], ...] = (
    ("openai/gpt-4o-mini*", ModelFacts(Price(0.15, 0.60, 0.075), 128_000, 16_384, media=_IMAGES)),
    ("openai/gpt-4o*", ModelFacts(Price(2.50, 10.00, 1.25), 128_000, 16_384, media=_IMAGES)),
)


@lru_cache(maxsize=1024)
def facts_of(model: str) -> ModelFacts:
    """Return the facts about a model, named "provider/model" as the user writes it."""
    name = model.casefold()
    return next((facts for pattern, facts in FAMILIES if fnmatchcase(name, pattern)), ModelFacts())
