"""What is known of model families, as data: the first pattern that fits a model's name counts.

A name that fits nothing gets no facts: nothing is forbidden, nothing is promised, and its price is not known. A family
whose price is not sure, or changes with the hour of the day, has none here.

Prices are list prices for text at the standard tier, as known when this was written (November 2026). Providers change
them, and contracts differ: `tf.configure(prices={"openai/gpt-4o-mini": (0.15, 0.60)})` goes over the table.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
        beyond: (prompt tokens, price of every token of a call whose prompt is longer), where long prompts cost more.
    """

    input: float
    output: float
    cached: float | None = None
    beyond: tuple[int, Price] | None = field(default=None, kw_only=True)

    def cost_usd(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """Return what a call costs. `cached_tokens` are part of `prompt_tokens`."""
        if self.beyond is not None and prompt_tokens > self.beyond[0]:
            return self.beyond[1].cost_usd(prompt_tokens, cached_tokens, completion_tokens)
        cached = self.input if self.cached is None else self.cached
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.input + cached_tokens * cached + completion_tokens * self.output) / 1e6

    def times(self, share: float) -> Price:
        """Return so many times this price: a discount."""
        beyond = None if self.beyond is None else (self.beyond[0], self.beyond[1].times(share))
        cached = None if self.cached is None else share * self.cached
        return Price(share * self.input, share * self.output, cached, beyond=beyond)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a family of models.

    Args:
        price: list price.
        context_tokens: longest prompt and answer together.
        answer_tokens: longest answer; sent as the limit where a service demands one and the user gave none.
        reasoning: it thinks before it answers.
        reasons_if_asked: it does so only where `reasoning_effort` is set.
        refuses: sampling options that it does not take.
        renames: other names of request fields, such as `max_completion_tokens` for `max_tokens`.
        media: kinds of media that it takes; None where not known.
        json_schema: whether it can be held to a JSON schema; None: as its provider says.
        efforts: what its provider calls each `reasoning_effort`: a number of tokens, or a level. Empty: the same word.
    """

    price: Price | None = None
    context_tokens: int | None = None
    answer_tokens: int | None = None
    reasoning: bool = False
    refuses: frozenset[str] = frozenset()
    renames: tuple[tuple[str, str], ...] = field(default=())
    media: frozenset[MediaKind] | None = None
    json_schema: bool | None = None
    efforts: tuple[tuple[str, int | str], ...] = ()
    reasons_if_asked: bool = False


_TEXT: frozenset[MediaKind] = frozenset()
_PICTURES: frozenset[MediaKind] = frozenset({"image"})
_IMAGES: frozenset[MediaKind] = frozenset({"image", "file"})
_ALL: frozenset[MediaKind] = frozenset({"image", "audio", "file"})
_LONG_NAME = (("max_tokens", "max_completion_tokens"),)
#: What models that think refuse.
_FIXED = frozenset({"temperature", "top_p", "logprobs", "stop"})
_NO_EFFORT = frozenset({"reasoning_effort"})
_NO_SAMPLING = frozenset({"temperature", "top_p"})

#: Tokens to think with, for Claude up to 4.5: at least 1024.
_CLAUDE_BUDGETS = (("minimal", 1024), ("low", 2048), ("medium", 8192), ("high", 24_576))
#: Levels of effort, for later ones.
_CLAUDE_LEVELS = (("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"))
#: Gemini 2.5: the smallest budgets that each model allows, and no more than 24576.
_FLASH_BUDGETS = (("minimal", 0), ("low", 1024), ("medium", 8192), ("high", 24_576))
_BUDGETS = (("minimal", 512), ("low", 1024), ("medium", 8192), ("high", 24_576))
#: Gemini 3 and later.
_FLASH_LEVELS = (("minimal", "minimal"), ("low", "low"), ("medium", "medium"), ("high", "high"))
_PRO_LEVELS = (("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"))


def _gpt(price: Price | None, context: int | None, answer: int | None) -> ModelFacts:
    return ModelFacts(price, context, answer, renames=_LONG_NAME, media=_IMAGES)


def _gpt_5(price: Price | None, context: int | None = 400_000) -> ModelFacts:
    return ModelFacts(price, context, 128_000, reasoning=True, refuses=_FIXED, renames=_LONG_NAME, media=_IMAGES)


def _gpt_5_1(price: Price | None, context: int | None = 400_000) -> ModelFacts:
    """Facts of 5.1 and later, whose effort is none where none is set."""
    return replace(_gpt_5(price, context), reasons_if_asked=True)


def _o(price: Price | None, media: frozenset[MediaKind] = _IMAGES) -> ModelFacts:
    return ModelFacts(price, 200_000, 100_000, reasoning=True, refuses=_FIXED, renames=_LONG_NAME, media=media)


def _o1_small(answer: int) -> ModelFacts:
    refuses = _FIXED | _NO_EFFORT
    return ModelFacts(None, 128_000, answer, reasoning=True, refuses=refuses, renames=_LONG_NAME, media=_TEXT)


def _claude_3(price: Price, answer: int) -> ModelFacts:
    return ModelFacts(price, 200_000, answer, refuses=_NO_EFFORT, media=_IMAGES, json_schema=False)


def _claude_4(price: Price, answer: int, *, json_schema: bool) -> ModelFacts:
    facts = ModelFacts(price, 200_000, answer, reasoning=True, media=_IMAGES, efforts=_CLAUDE_BUDGETS)
    return replace(facts, json_schema=json_schema, reasons_if_asked=True)


def _claude(price: Price | None, *, sampling: bool = False) -> ModelFacts:
    refuses = frozenset[str]() if sampling else _NO_SAMPLING
    facts = ModelFacts(price, 1_000_000, 128_000, reasoning=True, refuses=refuses, media=_IMAGES)
    return replace(facts, efforts=_CLAUDE_LEVELS, reasons_if_asked=True)


def _gemini(price: Price | None, efforts: tuple[tuple[str, int | str], ...]) -> ModelFacts:
    return ModelFacts(price, 1_048_576, 65_536, reasoning=True, media=_ALL, efforts=efforts)


#: (pattern of "provider/model", facts). More special patterns stand first.
FAMILIES: tuple[tuple[str, ModelFacts], ...] = (
    # OpenAI. Tuned models, of which the name of the base alone is looked at.
    ("openai/ft:gpt-4o-mini*", _gpt(Price(0.30, 1.20, 0.15), 128_000, 16_384)),
    ("openai/ft:gpt-4o*", _gpt(Price(3.75, 15.00, 1.875), 128_000, 16_384)),
    ("openai/ft:gpt-4.1-mini*", _gpt(Price(0.80, 3.20, 0.20), 1_047_576, 32_768)),
    ("openai/ft:gpt-4.1-nano*", _gpt(Price(0.20, 0.80, 0.05), 1_047_576, 32_768)),
    ("openai/ft:gpt-4.1*", _gpt(Price(3.00, 12.00, 0.75), 1_047_576, 32_768)),
    # Sounds, searches and the like have prices of their own, which are not those of text.
    ("openai/o*-deep-research*", _o(None)),
    ("openai/*audio*", ModelFacts(renames=_LONG_NAME)),
    ("openai/*search*", ModelFacts(renames=_LONG_NAME)),
    ("openai/*realtime*", ModelFacts()),
    ("openai/*transcribe*", ModelFacts()),
    ("openai/*tts*", ModelFacts()),
    ("openai/text-embedding-3-small*", ModelFacts(Price(0.02, 0.0), 8_191, media=_TEXT)),
    ("openai/text-embedding-3-large*", ModelFacts(Price(0.13, 0.0), 8_191, media=_TEXT)),
    ("openai/text-embedding-ada-002*", ModelFacts(Price(0.10, 0.0), 8_191, media=_TEXT)),
    ("openai/gpt-4o-mini*", _gpt(Price(0.15, 0.60, 0.075), 128_000, 16_384)),
    ("openai/gpt-4o-2024-05-13", _gpt(Price(5.00, 15.00), 128_000, 4_096)),
    ("openai/gpt-4o*", _gpt(Price(2.50, 10.00, 1.25), 128_000, 16_384)),
    ("openai/gpt-4.1-mini*", _gpt(Price(0.40, 1.60, 0.10), 1_047_576, 32_768)),
    ("openai/gpt-4.1-nano*", _gpt(Price(0.10, 0.40, 0.025), 1_047_576, 32_768)),
    ("openai/gpt-4.1*", _gpt(Price(2.00, 8.00, 0.50), 1_047_576, 32_768)),
    ("openai/gpt-5-chat*", _gpt(Price(1.25, 10.00, 0.125), 128_000, 16_384)),
    ("openai/gpt-5*-pro*", _gpt_5(None, None)),
    ("openai/gpt-5*-codex*", _gpt_5(None, None)),
    ("openai/gpt-5*-chat*", _gpt_5(None, None)),
    ("openai/gpt-5-mini*", _gpt_5(Price(0.25, 2.00, 0.025))),
    ("openai/gpt-5-nano*", _gpt_5(Price(0.05, 0.40, 0.005))),
    ("openai/gpt-5", _gpt_5(Price(1.25, 10.00, 0.125))),
    ("openai/gpt-5-2025*", _gpt_5(Price(1.25, 10.00, 0.125))),
    ("openai/gpt-5.1*", _gpt_5_1(Price(1.25, 10.00, 0.125))),
    ("openai/gpt-5.2*", _gpt_5_1(Price(1.75, 14.00, 0.175))),
    ("openai/gpt-5.4-mini*", _gpt_5_1(Price(0.75, 4.50, 0.075))),
    ("openai/gpt-5.4-nano*", _gpt_5_1(Price(0.20, 1.25, 0.02))),
    ("openai/gpt-5.4*", _gpt_5_1(Price(2.50, 15.00, 0.25, beyond=(272_000, Price(5.00, 22.50, 0.50))), 1_050_000)),
    ("openai/gpt-5.5*", _gpt_5_1(Price(5.00, 30.00, 0.50, beyond=(272_000, Price(10.00, 45.00, 1.00))), 1_050_000)),
    ("openai/gpt-[5-9]*", _gpt_5_1(None, None)),
    ("openai/o*-pro*", _o(None)),
    ("openai/o1-mini*", _o1_small(65_536)),
    ("openai/o1-preview*", _o1_small(32_768)),
    ("openai/o1*", _o(Price(15.00, 60.00, 7.50))),
    ("openai/o3-mini*", _o(Price(1.10, 4.40, 0.55), _TEXT)),
    ("openai/o3*", _o(Price(2.00, 8.00, 0.50))),
    ("openai/o4-mini*", _o(Price(1.10, 4.40, 0.275))),
    # Anthropic. From 4.7 on it takes no temperature and no top_p.
    ("anthropic/claude-3-haiku*", _claude_3(Price(0.25, 1.25, 0.03), 4_096)),
    ("anthropic/claude-3-opus*", _claude_3(Price(15.00, 75.00, 1.50), 4_096)),
    ("anthropic/claude-3-5-haiku*", _claude_3(Price(0.80, 4.00, 0.08), 8_192)),
    ("anthropic/claude-3-5-sonnet*", _claude_3(Price(3.00, 15.00, 0.30), 8_192)),
    ("anthropic/claude-3-7-sonnet*", _claude_4(Price(3.00, 15.00, 0.30), 64_000, json_schema=False)),
    ("anthropic/claude-sonnet-4-[02]*", _claude_4(Price(3.00, 15.00, 0.30), 64_000, json_schema=False)),
    ("anthropic/claude-opus-4-[012]*", _claude_4(Price(15.00, 75.00, 1.50), 32_000, json_schema=False)),
    ("anthropic/claude-haiku-4-5*", _claude_4(Price(1.00, 5.00, 0.10), 64_000, json_schema=True)),
    ("anthropic/claude-sonnet-4-5*", _claude_4(Price(3.00, 15.00, 0.30), 64_000, json_schema=True)),
    ("anthropic/claude-opus-4-5*", _claude_4(Price(5.00, 25.00, 0.50), 64_000, json_schema=True)),
    ("anthropic/claude-sonnet-4-6*", _claude(Price(3.00, 15.00, 0.30), sampling=True)),
    ("anthropic/claude-opus-4-6*", _claude(Price(5.00, 25.00, 0.50), sampling=True)),
    ("anthropic/claude-opus-4-[78]*", _claude(Price(5.00, 25.00, 0.50))),
    ("anthropic/claude-haiku-5-5*", _claude(Price(0.10, 0.50, 0.01, beyond=(100_000, Price(0.50, 2.50, 0.05))))),
    ("anthropic/claude-sonnet-5-5*", _claude(Price(2.00, 10.00, 0.10))),
    ("anthropic/claude-sonnet-5", _claude(Price(2.00, 10.00, 0.20))),
    ("anthropic/claude-opus-5-5*", _claude(Price(4.00, 20.00, 0.20))),
    ("anthropic/claude-opus-5", _claude(Price(5.00, 25.00, 0.50))),
    ("anthropic/claude-fable-5-1", _claude(Price(10.00, 50.00, 0.25))),
    ("anthropic/claude-fable-5", _claude(Price(10.00, 50.00, 1.00))),
    ("anthropic/claude-*", _claude(None)),
    # Gemini. What a sound costs is more than what a text costs, with the Flash models: their price is that of text.
    ("gemini/*image*", ModelFacts()),
    ("gemini/*live*", ModelFacts()),
    ("gemini/*audio*", ModelFacts()),
    ("gemini/*tts*", ModelFacts()),
    ("gemini/*omni*", ModelFacts()),
    ("gemini/gemini-1.5-*", ModelFacts(None, 1_048_576, 8_192, refuses=_NO_EFFORT, media=_ALL, json_schema=False)),
    ("gemini/gemini-2.0-*", ModelFacts(None, 1_048_576, 8_192, refuses=_NO_EFFORT, media=_ALL)),
    ("gemini/gemini-2.5-flash-lite*", _gemini(Price(0.10, 0.40, 0.01), (("minimal", 0), *_BUDGETS[1:]))),
    ("gemini/gemini-2.5-flash*", _gemini(Price(0.30, 2.50, 0.03), _FLASH_BUDGETS)),
    (
        "gemini/gemini-2.5-pro*",
        _gemini(Price(1.25, 10.00, 0.125, beyond=(200_000, Price(2.50, 15.00, 0.25))), _BUDGETS),
    ),
    ("gemini/gemini-3-flash*", _gemini(Price(0.50, 3.00, 0.05), _FLASH_LEVELS)),
    ("gemini/gemini-3.1-flash-lite*", _gemini(Price(0.25, 1.50, 0.025), _FLASH_LEVELS)),
    (
        "gemini/gemini-3.1-pro*",
        _gemini(Price(2.00, 12.00, 0.20, beyond=(200_000, Price(4.00, 18.00, 0.40))), _PRO_LEVELS),
    ),
    ("gemini/gemini-*flash*", _gemini(None, _FLASH_LEVELS)),
    ("gemini/gemini-*", _gemini(None, _PRO_LEVELS)),
    # The rest. DeepSeek's prices change with the hour of the day.
    ("deepseek/deepseek-flash*", ModelFacts(None, 1_000_000, 384_000, reasoning=True, media=_PICTURES)),
    ("deepseek/deepseek-v4-pro*", ModelFacts(None, 1_000_000, 384_000, reasoning=True, media=_TEXT)),
    ("mistral/mistral-large-2512", ModelFacts(Price(0.50, 1.50), 262_144, media=_PICTURES)),
    ("mistral/ministral-3b-2512", ModelFacts(Price(0.10, 0.10), 131_072, media=_PICTURES)),
    ("mistral/ministral-8b-2512", ModelFacts(Price(0.15, 0.15), 262_144, media=_PICTURES)),
    ("mistral/ministral-14b-2512", ModelFacts(Price(0.20, 0.20), 262_144, media=_PICTURES)),
    ("mistral/codestral-2508", ModelFacts(Price(0.30, 0.90), 128_000, media=_TEXT)),
    ("groq/openai/gpt-oss-120b", ModelFacts(Price(0.15, 0.60, 0.075), 131_072, 65_536, reasoning=True, media=_TEXT)),
    ("groq/openai/gpt-oss-20b", ModelFacts(Price(0.075, 0.30, 0.0375), 131_072, 65_536, reasoning=True, media=_TEXT)),
    ("together/openai/gpt-oss-120b", ModelFacts(Price(0.15, 0.60), 131_072, None, reasoning=True, media=_TEXT)),
)


#: Providers that serve another's models under the same names and at the same list prices.
_SERVES = {"azure": "openai"}


@lru_cache(maxsize=1024)
def facts_of(model: str) -> ModelFacts:
    """Return the facts about a model, named "provider/model" as the user writes it."""
    provider, _, rest = model.casefold().removeprefix("litellm/").partition("/")
    tuned = rest.startswith("ft:")
    rest = ":".join(rest.split(":")[:2]) if tuned else rest  # ft:BASE:OWNER:SUFFIX:ID
    name = f"{_SERVES.get(provider, provider)}/{rest}"
    found = next((facts for pattern, facts in FAMILIES if fnmatchcase(name, pattern)), None)
    if found is None and tuned:
        return replace(facts_of(f"{provider}/{rest.removeprefix('ft:')}"), price=None)  # its price is another
    return found or ModelFacts()
