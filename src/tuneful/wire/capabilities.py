"""Capabilities: what a backend can do, as data. Adapters plan with it; nobody asks for a provider by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about a model behind a backend.

    Args:
        grammar: it can constrain an answer to a GBNF grammar.
        json_schema: it can constrain an answer to a JSON schema.
        small: the model is small enough that short prompts serve it better (up to about 4 billion parameters).
        context_tokens: longest prompt and answer together, where known.
    """

    grammar: bool = False
    json_schema: bool = False
    small: bool = False
    context_tokens: int | None = None
