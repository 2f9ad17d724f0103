"""History: the turns of a dialogue so far, as the value of an input field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tuneful.spec.types import members


class History(BaseModel):
    """Earlier turns of a dialogue: `class Chat(tf.Signature): history: tf.History = tf.InputField()`.

    >>> history = History(messages=[{"question": "Where is Lyon?", "answer": "In France."}])
    >>> history.messages[0]["answer"]
    'In France.'

    Each turn holds values of the signature's own fields, inputs and outputs; what is no field of it is not shown. Every
    adapter renders them as earlier turns of the chat, in the form of the live exchange, in front of the current inputs
    and after the demos. So it is an input like any other: the caller keeps it, and adds to `messages` what was said:
    `history.messages.append({**inputs, **prediction})`.

    Use it for a dialogue. Not for knowledge that every call needs: that belongs into the instructions.

    Args:
        messages: the turns, the oldest first: values by field name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", revalidate_instances="always")  # a run keeps its own list

    messages: list[dict[str, Any]] = Field(default_factory=list)


def is_history(annotation: Any) -> bool:
    """Whether a field of this type holds earlier turns."""
    return any(isinstance(m, type) and issubclass(m, History) for m in members(annotation))
