"""A chat in the tokens of a checkpoint of `transformers`. Training and serving both use it, so they cannot differ."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from tuneful.backends.http.chat_completions import message_body, tool_body
from tuneful.backends.local.special_tokens import SpecialTokens, new_mark
from tuneful.errors import UsageError
from tuneful.wire.messages import Message, Tool, ToolCall, assistant

#: Added tokens that mark something, though the tokenizer does not call them special.
_MARKUP = re.compile(r"[<\[]\S*[>\]]")


class ChatTokens:
    """Makes tokens of prompts and of answers, by the checkpoint's own chat template.

    Nothing in a message becomes a special token, whatever it spells: `<|im_end|>` of a user is nine characters. A
    tokenizer without a template gets the turns' texts, a blank line between them. A template that refuses system
    messages gets them at the start of the next turn.

    Args:
        tokenizer: of `transformers`.
        encoder_decoder: whether the prompt goes to an encoder, as the tokenizer frames a text by itself.
    """

    def __init__(self, tokenizer: Any, *, encoder_decoder: bool = False) -> None:
        self.tokenizer = tokenizer
        self._encoder_decoder = encoder_decoder
        added = tokenizer.added_tokens_decoder.values()
        self.special = SpecialTokens(t.content for t in added if t.special or _MARKUP.fullmatch(t.content))

    @property
    def templated(self) -> bool:
        """Whether the chat template renders prompts."""
        return bool(self.tokenizer.chat_template)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[int]:
        """Return the tokens of a prompt, up to where the answer begins.

        Raises:
            UsageError: the template cannot render it.
        """
        mark = new_mark()
        if self.templated:
            return self._cut_tokens(self._rendered(messages, tools, mark), mark)
        text = "\n\n".join(self.special.cut(m.text, mark) for m in messages)
        before, after = self._frame
        if self._encoder_decoder:
            return [*before, *self._cut_tokens(text, mark), *after]
        return [*before, *self._cut_tokens(text + "\n\n", mark)]

    def answer(self, text: str) -> list[int]:
        """Return the tokens of an answer, the one that ends it included."""
        mark = new_mark()
        return [*self._cut_tokens(self.special.cut(text, mark), mark), self.end]

    def calls(
        self, messages: Sequence[Message], tools: Sequence[Tool], text: str, calls: Sequence[ToolCall]
    ) -> list[int]:
        """Return the tokens of an answer that calls tools, as the template writes it.

        Raises:
            UsageError: the template has no words for calls.
        """
        mark = new_mark()
        before = self._rendered(messages, tools, mark) if self.templated else ""
        turn = Message("assistant", text, tuple(calls))
        whole = self._rendered((*messages, turn), tools, mark, open_turn=False) if self.templated else ""
        answer = whole.removeprefix(before)
        if len(answer) == len(whole) or not all(c.name in answer for c in calls):
            raise UsageError(
                "the chat template of this model writes no calls of tools. Use a model that was made for them, or an "
                "adapter that asks for calls in text."
            )
        found = self._cut_tokens(answer, mark)
        return [*found[: found.index(self.end)], self.end] if self.end in found else [*found, self.end]

    @cached_property
    def end(self) -> int:
        """The token that ends an answer: what the template writes after one, else the tokenizer's own."""
        own = self.tokenizer.eos_token_id
        if self.templated:
            mark = new_mark()
            told = self._rendered((Message("user", "?"), assistant(mark)), (), mark, open_turn=False)
            after = self._ids(told.rpartition(mark)[2])
            named = {self.tokenizer.convert_tokens_to_ids(t) for t in self.special.texts}
            own = next((t for t in after if t in named), own)
        if own is None:
            raise UsageError("the tokenizer of this model knows no token that ends an answer (`eos_token`).")
        return int(own)

    def _rendered(
        self, messages: Sequence[Message], tools: Sequence[Tool], mark: str, *, open_turn: bool = True
    ) -> str:
        from jinja2 import TemplateError  # comes with the extra

        turns = [_turn(m, self.special, mark) for m in messages]
        options = {
            "tools": [self.special.cut(tool_body(t), mark) for t in tools] or None,
            "add_generation_prompt": open_turn,
            "tokenize": False,
        }
        try:
            return str(self.tokenizer.apply_chat_template(turns, **options))
        except TemplateError:
            pass  # most of all: "System role not supported"
        try:
            return str(self.tokenizer.apply_chat_template(_without_system(turns), **options))
        except TemplateError as error:
            raise UsageError(f"the chat template of this model cannot render the messages: {error}.") from error

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text by itself."""
        frame = self.tokenizer("").input_ids
        ends = frame[-1:] == [self.tokenizer.eos_token_id]
        return (frame[:-1], frame[-1:]) if ends else (frame, [])

    def _cut_tokens(self, text: str, mark: str) -> list[int]:
        return [token for piece in text.split(mark) for token in self._ids(piece)]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids if text else []
        return found


def _turn(message: Message, special: SpecialTokens, mark: str) -> dict[str, Any]:
    """Return a message as templates know it."""
    if message.media:
        raise UsageError("this model reads text alone, and a message has media. Describe them in words.")
    body = special.cut({**message_body(message), "content": message.text}, mark)
    for call in body.get("tool_calls", ()):
        try:  # templates write an object by themselves; a model may have written none
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        except ValueError:
            continue
    return dict(body)


def _without_system(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    held = ""
    for turn in turns:
        if turn["role"] == "system":
            held += turn["content"] + "\n"
        else:
            found.append({**turn, "content": held + turn["content"]} if held else turn)
            held = ""
    return [*found, {"role": "user", "content": held.rstrip("\n")}] if held else found
