"""The room for a prompt: where it is too small, demos are left out, the least useful first, never a part of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuneful.errors import ContextWindowExceededError
from tuneful.program.lm import LM
from tuneful.program.running.portal import portal
from tuneful.wire.messages import Message
from tuneful.wire.request import Request

#: Bytes of a text in a token, for models whose tokenizer is not at hand, and what is added to be safe.
_BYTES_PER_TOKEN = 3.5
_MARGIN = 1.1
#: What a chat template writes around a turn, at the most.
_TOKENS_AROUND = 16
#: Room that is left for an answer without a limit.
_ANSWER_TOKENS = 256

#: Lengths of what stays the same from call to call, by endpoint and messages.
_KEPT = 256
_counts: dict[tuple[str, tuple[Message, ...]], int | None] = {}


@dataclass(frozen=True, slots=True)
class Room:
    """How long the prompts of a request may be.

    Args:
        lm: the model.
        tokens: longest prompt that leaves room for the answer, or None where nothing bounds it.
        most: the bound that the predictor's `max_prompt_tokens` sets, or None.
    """

    lm: LM
    tokens: int | None
    most: int | None

    @classmethod
    def of(cls, lm: LM, request: Request, most: int | None) -> Room:
        """Return the room beside the answer: its `max_tokens`, but at most half of the context."""
        context = lm.capabilities.context_tokens
        if context is None:
            return cls(lm, most, most)
        left = context - min(request.sampling.max_tokens or _ANSWER_TOKENS, context // 2)
        return cls(lm, left if most is None else min(left, most), most)

    def surely_holds(self, request: Request) -> bool:
        """Say whether a prompt fits however it is made into tokens. This alone is done for ordinary prompts."""
        return self.tokens is None or _most_tokens(request.messages) + _of_tools(request) <= self.tokens

    async def fitted(
        self, request: Request, demos: Sequence[Any], render: Callable[[Sequence[Any]], Request]
    ) -> tuple[Request, int]:
        """Return the request with as many of the last demos as fit, and how many of the first were left out.

        Args:
            request: the request with all demos.
            demos: they, most useful last.
            render: makes the messages for some of them.

        Raises:
            ContextWindowExceededError: it does not fit without any demo either. No call was made.
        """
        if await self.holds(request):
            return request, 0

        def without(count: int) -> Request:
            fewer = render(demos[count:])
            return replace(request, messages=fewer.messages, stable=fewer.stable)

        low, high = 0, len(demos)
        if not await self.holds(without(high)):
            await self._refuse(without(high))
            return without(high), high
        while high - low > 1:  # all but the first `high` fit, all but the first `low` do not
            middle = (low + high) // 2
            if await self.holds(without(middle)):
                high = middle
            else:
                low = middle
        return without(high), high

    async def holds(self, request: Request) -> bool:
        """Say whether a prompt fits."""
        if self.tokens is None or self.surely_holds(request):
            return True
        stable, rest = request.messages[: request.stable], request.messages[request.stable :]
        if stable and not request.tools and (counted := await self._stable_count(stable)) is not None:
            if counted + _most_tokens(rest) + _TOKENS_AROUND <= self.tokens:
                return True
            if counted - _TOKENS_AROUND > self.tokens:
                return False
        tokens, _ = await self._count(request)
        return tokens <= self.tokens

    async def _stable_count(self, messages: tuple[Message, ...]) -> int | None:
        """Return the exact length of what stays the same from call to call; it is counted once."""
        key = (self.lm.endpoint, messages)
        if key in _counts:
            return _counts.get(key)
        counted = await portal.bring(self.lm.backend.count_tokens(messages))
        if len(_counts) >= _KEPT:
            _counts.clear()
        _counts[key] = counted
        return counted

    async def _count(self, request: Request) -> tuple[int, bool]:
        """Return the length of a prompt, and whether it is exact."""
        messages = request.messages
        beside = _of_tools(request)  # how a template writes tools and calls, only the model knows
        counted = None if beside else await portal.bring(self.lm.backend.count_tokens(messages))
        if counted is not None:
            return counted, True
        size = beside + sum(len(m.text.encode("utf-8", "surrogatepass")) for m in messages)
        return math.ceil(_MARGIN * size / _BYTES_PER_TOKEN) + 8 * len(messages), False

    async def _refuse(self, request: Request) -> None:
        """Raise for a prompt without demos that is too long: for a model's context only where that is certain."""
        tokens, exact = await self._count(request)
        context = self.lm.capabilities.context_tokens
        if self.most is not None and tokens > self.most:
            limit, whose = self.most, "`max_prompt_tokens` of its predictor is"
        elif context is not None and exact and tokens >= context:
            limit, whose = context, f"the context of `{self.lm.model}` is"
        else:
            return
        raise ContextWindowExceededError(
            f"the prompt has {'' if exact else 'about '}{tokens:,} tokens without any demo, and {whose} {limit:,}. "
            "Give shorter inputs or instructions, or use a longer context. No call was made.",
            model=self.lm.model,
            prompt_tokens=tokens,
            context_tokens=limit,
        )


def _of_tools(request: Request) -> int:
    """Return the length of what stands beside the texts, in bytes: the tools, and the calls of earlier turns."""
    if not request.tools:
        return 0
    told = sum(len(t.name) + len(t.description.encode()) + len(t.parameters) for t in request.tools)
    return told + sum(len(c.name) + len(c.arguments.encode()) for m in request.messages for c in m.tool_calls)


def _most_tokens(messages: Sequence[Message]) -> int:
    """Return what no tokenizer exceeds: a token is a byte at least. Media are not counted."""
    size = _TOKENS_AROUND * len(messages)
    for message in messages:
        text = message.content if type(message.content) is str else message.text
        size += len(text) if text.isascii() else 4 * len(text)
    return size
