"""Rendered: what would be sent, to look at before anything is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tuneful.adapters.base import Adapter
from tuneful.program.running.portal import portal
from tuneful.wire.messages import Message
from tuneful.wire.request import Request

if TYPE_CHECKING:
    from tuneful.program.lm import LM

#: Characters of English text in a token, for models whose tokenizer is not at hand.
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Rendered:
    """A request as it would be sent, byte for byte.

    Args:
        request: the request: messages, constraint, sampling.
        adapter: name of the adapter that made it.
        model: the model it would go to.
        dropped_demos: demos that do not fit into the prompt; the request is without them, as a call's is.
    """

    request: Request
    adapter: str
    model: str
    _lm: LM
    dropped_demos: int = 0

    @classmethod
    def of(cls, request: Request, lm: LM, adapter: Adapter, dropped_demos: int = 0) -> Rendered:
        """Return the rendering of a request."""
        return cls(request, adapter.name, lm.model, lm, dropped_demos)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages."""
        return self.request.messages

    @cached_property
    def _counted(self) -> int | None:
        return portal.run(self._lm.backend.count_tokens(self.messages))

    @property
    def exact(self) -> bool:
        """Whether the model's own tokenizer counted; otherwise `tokens` is an estimate from the characters."""
        return self._counted is not None

    @property
    def tokens(self) -> int:
        """Length of the prompt in tokens. With the embedded model this loads it, the first time."""
        return self.estimated_tokens if self._counted is None else self._counted

    @property
    def estimated_tokens(self) -> int:
        """Length of the prompt in tokens, estimated from its characters: no model is loaded."""
        return sum(len(m.text) for m in self.messages) // _CHARS_PER_TOKEN

    def __str__(self) -> str:
        turns = "\n\n".join(f"[{m.role}]\n{_shown(m)}" for m in self.messages)
        about = "" if self.exact else "about "
        parts = [turns, f"({about}{self.tokens} tokens, adapter {self.adapter}, model {self.model})"]
        if self.dropped_demos:
            parts.insert(1, f"[the first {self.dropped_demos} demos are left out: they do not fit]")
        if self.request.tools and self.request.tool_choice:
            parts.insert(1, f"[the choice of a tool: {self.request.tool_choice}]")
        for tool in self.request.tools:
            parts.insert(1, f"[a tool: {tool.name}. {tool.description}]\n{tool.parameters}")
        if self.request.grammar:
            parts.insert(1, f"[the answer must match this grammar]\n{self.request.grammar}")
        if self.request.json_schema:
            parts.insert(1, f"[the answer must match this JSON schema]\n{self.request.json_schema}")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return str(self)


def _shown(message: Message) -> str:
    calls = [f"[calls {c.name}]\n{c.arguments}" for c in message.tool_calls]
    return "\n".join([message.text, *calls] if message.text or not calls else calls)
