"""Lines of a JSONL file: a training example in the layouts that services and trainers read, and back.

    chat        {"messages": [..., {"role": "assistant", "content": COMPLETION}]}
    tool        the same, with {"tools": [...]} where there are any, and an answer that calls them as `tool_calls`
    completion  {"prompt": TEXT, "completion": COMPLETION}, for models without roles

Each line holds `path` besides, where the example has one: the predictor that it is of. Earlier turns of the assistant
(demos, a dialogue) have `"weight": 0`: services that would learn every turn learn the last one alone.

Source: OpenAI's API reference, "Fine-tuning", chat, tool and completion input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from tuneful.backends.http.chat_completions import message_body, tool_body
from tuneful.errors import DataError, UsageError, nearest
from tuneful.wire.messages import Content, Media, Message, Tool, ToolCall, user

if TYPE_CHECKING:
    from tuneful.finetune.training_set import TrainingExample

Layout = Literal["chat", "tool", "completion"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_AUDIO = {"mp3": "audio/mpeg"}


def check_layout(layout: str) -> None:
    """Raise UsageError for a layout that there is not."""
    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout `{layout}`.{nearest(layout, LAYOUTS)} Layouts: {', '.join(LAYOUTS)}.")


# --- writing ---


def to_line(example: TrainingExample, layout: Layout) -> dict[str, Any]:
    """Return an example as the JSON of a line. Raises DataError where the layout has no room for what it holds."""
    turns = (*example.messages, Message("assistant", example.completion, example.calls))
    path = {"path": example.path} if example.path else {}
    if layout != "tool" and (example.tools or any(m.tool_calls or m.call_id for m in turns)):
        raise _no_room(example, layout, "tools", "tool")
    if layout == "completion":
        if any(m.media for m in turns):
            raise _no_room(example, layout, "media", "chat")
        return {**path, "prompt": prompt_text(example.messages), "completion": example.completion}
    tools = {"tools": [tool_body(t) for t in example.tools]} if example.tools else {}
    *earlier, last = map(message_body, turns)
    unlearned = [{**m, "weight": 0} if m["role"] == "assistant" else m for m in earlier]
    return {**path, "messages": [*unlearned, last], **tools}


def prompt_text(messages: Sequence[Message]) -> str:
    """Return a prompt as one text, for models without roles."""
    return "\n\n".join(m.text for m in messages)


def _no_room(example: TrainingExample, layout: str, what: str, other: str) -> DataError:
    whose = f"predictor `{example.path}`" if example.path else "the program"
    return DataError(
        f"an example of {whose} holds {what}, for which the layout `{layout}` has no room. "
        f"Write layout={other!r}. Nothing was written."
    )


# --- reading ---


def from_line(line: Any) -> dict[str, Any]:
    """Return the parts of the example in a line of any layout. Raises KeyError, TypeError or ValueError otherwise."""
    if "prompt" in line:
        return {
            "path": line.get("path", ""),
            "messages": (user(_text(line["prompt"])),),
            "completion": _text(line["completion"]),
        }
    *messages, last = map(_message, line["messages"])
    if last.role != "assistant" or not isinstance(last.content, str):
        raise ValueError("its last message is no text of the assistant's")
    return {
        "path": line.get("path", ""),
        "messages": tuple(messages),
        "completion": last.content,
        "tools": tuple(map(_tool, line.get("tools") or ())),
        "calls": last.tool_calls,
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def _message(body: Mapping[str, Any]) -> Message:
    if body["role"] not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"no role `{body['role']}`")
    calls = tuple(
        ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in body.get("tool_calls") or ()
    )
    return Message(body["role"], _content(body.get("content") or ""), calls, body.get("tool_call_id", ""))


def _content(content: Any) -> Content:
    return content if isinstance(content, str) else tuple(map(_part, content))


def _part(part: Mapping[str, Any]) -> str | Media:
    match part["type"]:
        case "text":
            return _text(part["text"])
        case "image_url":
            return _addressed("image", part["image_url"]["url"])
        case "input_audio":
            form = part["input_audio"]["format"]
            return Media("audio", _AUDIO.get(form, f"audio/{form}"), part["input_audio"]["data"])
        case "file":
            return _addressed("file", part["file"]["file_data"], part["file"]["filename"])
    raise ValueError(f"no content of type `{part['type']}`")


def _addressed(kind: Literal["image", "file"], address: str, name: str = "") -> Media:
    head, _, data = address.partition(";base64,")
    if data and head.startswith("data:"):
        return Media(kind, head.removeprefix("data:"), data, name=name)
    return Media(kind, url=address, name=name)


def _tool(body: Mapping[str, Any]) -> Tool:
    function = body["function"]
    return Tool(function["name"], function.get("description", ""), json.dumps(function.get("parameters", {})))
