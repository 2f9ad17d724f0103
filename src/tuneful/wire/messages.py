"""Messages of a chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MessageRole = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: MessageRole
    content: str

    def to_json(self) -> dict[str, str]:
        """Return the message in the layout that chat endpoints take."""
        return {"role": self.role, "content": self.content}


def system(content: str) -> Message:
    """Return a system message."""
    return Message("system", content)


def user(content: str) -> Message:
    """Return a user message."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """Return an assistant message."""
    return Message("assistant", content)
