"""Whether a model whose answers are held to a form could write an answer at all.

A large teacher writes texts of several lines; a small student that is asked in the compact form may write one line. It
would be trained on what it is never allowed to write.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any

from tuneful.wire.request import Request


def can_say(request: Request, answer: str) -> bool:
    """Say whether an answer to a request is one that its grammar and its stop texts let through.

    Grammars in Lark are tried out where llguidance is installed (it comes with the extra `finetune`). Those of
    llama.cpp's server (GBNF) are not: no trainer's base is asked there. JSON schemas hold no more than the types, which
    are checked when a step is written.
    """
    if any(stop and stop in answer.removesuffix(stop) for stop in request.sampling.stop):
        return False  # cut off before its end
    grammar = request.grammar or ""
    if not grammar.startswith("%llguidance") or importlib.util.find_spec("llguidance") is None:
        return True
    matcher = _matcher(grammar).deep_copy()
    letters = _bytes().tokenize_str(answer)
    return bool(matcher.try_consume_tokens(letters) == len(letters) and matcher.is_accepting())


@lru_cache(maxsize=1)
def _bytes() -> Any:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


@lru_cache(maxsize=64)
def _matcher(grammar: str) -> Any:
    from llguidance import LLMatcher

    return LLMatcher(_bytes(), grammar, log_level=0)
