"""Answers held to a grammar, token by token, through llguidance."""

from __future__ import annotations

from typing import Any

from tuneful.errors import LMInvalidRequestError


class Grammars:
    """Grammars over the tokens of one model. Made at the first constrained request, which takes about a second.

    Args:
        tokenizer: of `transformers`.
        vocabulary: how many tokens there are.
        ends: tokens that end an answer.
        model: the model's name.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: set[int], model: str) -> None:
        from llguidance.hf import from_tokenizer

        self._model = model
        try:
            self._tokens = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=sorted(ends))
        except ValueError as error:
            raise LMInvalidRequestError(
                f"answers of `{model}` cannot be held to a grammar: llguidance does not read its tokenizer ({error}). "
                "Use an adapter without a grammar, such as adapter='chat'.",
                model=model,
            ) from error

    def matcher(self, grammar: str | None, json_schema: str | None) -> Matcher:
        """Return what holds one answer to a grammar in Lark, or to a JSON schema (as text)."""
        from llguidance import LLMatcher

        text = grammar
        if text is None:
            text = LLMatcher.grammar_from_json_schema(json_schema or "{}", {"whitespace_flexible": False})
        found = LLMatcher(self._tokens, text, log_level=0)
        if found.is_error():
            raise LMInvalidRequestError(
                f"`{self._model}` cannot be held to the grammar: {found.get_error()} It takes grammars in Lark, as "
                "llguidance reads it, and JSON schemas.",
                model=self._model,
            )
        return Matcher(found)


class Matcher:
    """One answer, on its way through a grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def restrict(self, scores: Any) -> Any:
        """Return the scores of the next token (on the CPU) without the tokens that the grammar rules out."""
        import numpy as np
        import torch

        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        allowed = torch.zeros(len(scores), dtype=torch.bool)
        known = min(len(bits), len(scores))
        allowed[:known] = torch.from_numpy(bits[:known]).bool()
        return scores.masked_fill(~allowed, float("-inf"))

    def advance(self, token: int) -> bool:
        """Take a token. Returns whether the grammar allows nothing after it."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())
