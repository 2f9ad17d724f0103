"""Capabilities: what a backend can do, as data. Adapters plan with it; nobody asks for a provider by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tuneful.wire.messages import MediaKind


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about a model behind a backend.

    Args:
        grammar: the notation of grammars to which it can constrain an answer: "gbnf" (llama.cpp), "lark" as
            llguidance reads it, or "" for none.
        json_schema: it can constrain an answer to a JSON schema.
        tools: it can call tools by itself.
        small: the model is small enough that short prompts serve it better (up to about 4 billion parameters).
        reasoning: it thinks before it answers, at a cost in tokens that `reasoning_effort` steers.
        reasons_if_asked: it does so only where `reasoning_effort` is set.
        context_tokens: longest prompt and answer together, where known.
        answer_tokens: longest answer, where known.
        media: kinds of media that it takes; None where that is not known.
        refuses: sampling options that it does not take; to set one is an error before any call.
        untempered: sampling options beside which it takes no temperature.
        unforced: sampling options beside which no tool can be forced on it: what is "required" is left to it then.
        in_flight: requests that it wants at once, where it is far more than a person would think of (batches).
    """

    grammar: Literal["", "gbnf", "lark"] = ""
    json_schema: bool = False
    tools: bool = False
    small: bool = False
    reasoning: bool = False
    reasons_if_asked: bool = False
    context_tokens: int | None = None
    answer_tokens: int | None = None
    media: frozenset[MediaKind] | None = None
    refuses: frozenset[str] = frozenset()
    untempered: frozenset[str] = frozenset()
    unforced: frozenset[str] = frozenset()
    in_flight: int | None = None
