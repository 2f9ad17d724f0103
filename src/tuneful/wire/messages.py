"""Messages of a chat, and what they are made of: text, media, tool calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

MessageRole = Literal["system", "user", "assistant", "tool"]
MediaKind = Literal["image", "audio", "file"]


@dataclass(frozen=True, slots=True)
class Media:
    """A picture, a sound or a document, as bytes or by address.

    Args:
        kind: what it is.
        media_type: such as "image/png". May be empty where only an address is known.
        data: the bytes in base64, or empty.
        url: the address, or empty.
        name: name of the file, or empty.
    """

    kind: MediaKind
    media_type: str = ""
    data: str = ""
    url: str = ""
    name: str = ""

    def to_json(self) -> dict[str, str]:
        """Return what is set."""
        return {n: getattr(self, n) for n in self.__slots__ if getattr(self, n)}

    def __str__(self) -> str:
        return f"[{self.kind}: {self.name or self.url or self.media_type}]"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool.

    Args:
        id: the provider's identity of the call; the answer to it names it.
        name: name of the tool.
        arguments: a JSON object, as text; it may not be well-formed, since a model wrote it.
        signature: what the provider wants back with the call, so that a model that thinks can go on from its thoughts:
            opaque, and of use to that provider alone.
    """

    id: str
    name: str
    arguments: str
    signature: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the call as JSON values."""
        body = {"id": self.id, "name": self.name, "arguments": self.arguments}
        return {**body, "signature": self.signature} if self.signature else body


Content = str | tuple[str | Media, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat.

    Args:
        role: who speaks; "tool" gives the result of a call.
        content: text, or texts and media in order.
        tool_calls: calls that an assistant's turn asked for.
        call_id: for "tool": the call whose result this is.
    """

    role: MessageRole
    content: Content
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""

    @property
    def text(self) -> str:
        """The content for people: its text, with media named in brackets."""
        return self.content if isinstance(self.content, str) else "\n".join(map(str, self.content))

    @property
    def media(self) -> tuple[Media, ...]:
        """The media of the content."""
        return () if isinstance(self.content, str) else tuple(c for c in self.content if isinstance(c, Media))

    def to_json(self) -> dict[str, Any]:
        """Return the message as JSON values. A plain text turn is `{"role": ..., "content": ...}`."""
        content = self.content
        shown = content if isinstance(content, str) else [c if isinstance(c, str) else c.to_json() for c in content]
        body: dict[str, Any] = {"role": self.role, "content": shown}
        if self.tool_calls:
            body["tool_calls"] = [c.to_json() for c in self.tool_calls]
        if self.call_id:
            body["call_id"] = self.call_id
        return body


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as a model sees it.

    Args:
        name: its name.
        description: what it does, in words.
        parameters: JSON schema of its arguments (an object), as JSON text.
    """

    name: str
    description: str
    parameters: str

    def to_json(self) -> dict[str, str]:
        """Return the tool as JSON values."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


def system(content: Content) -> Message:
    """Return a system message."""
    return Message("system", content)


def user(content: Content) -> Message:
    """Return a user message."""
    return Message("user", content)


def assistant(content: Content) -> Message:
    """Return an assistant message."""
    return Message("assistant", content)
