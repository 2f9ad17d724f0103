"""Special tokens of a model, and how a text that spells one is kept from becoming one.

llama.cpp reads `<|im_end|>` in a user's text as the token that ends the user's turn: whoever writes it could go on as
the system. So each such place gets a cut: the text on both sides of it is made into tokens by itself, and the model
reads the same characters, as plain text.
"""

from __future__ import annotations

import mmap
import re
import secrets
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_TOKENS = "tokenizer.ggml.tokens"
_TYPES = "tokenizer.ggml.token_type"
_ENDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4

#: Markup, whatever its type: llama.cpp makes control tokens of some that a file calls ordinary. Tokens that a file
#: adds beside these (runs of blanks, say) are ordinary text and stay whole.
_MARKUP = re.compile(r"<[|｜].*[|｜]>|<(?:start|end)_of_\w+>|\[/?[A-Z_]+\]|<[A-Za-z]*EOT>|<eos>")
_TAG = re.compile(r"[<\[]\S*[>\]]")

#: Values of a GGUF file by their type: the format of one.
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class SpecialTokens:
    """The texts that a model would read as special tokens.

    Args:
        texts: how they are spelled.
        ends: numbers of those that end an answer.
    """

    def __init__(self, texts: Iterable[str], ends: Iterable[int] = ()) -> None:
        self.texts = frozenset(t for t in texts if len(t) > 1)
        self.ends = tuple(dict.fromkeys(ends))
        self._firsts = sorted({t[0] for t in self.texts})
        self._lengths = sorted({len(t) for t in self.texts})

    @classmethod
    def of_file(cls, path: Path) -> SpecialTokens:
        """Read them from the vocabulary of a GGUF file."""
        found = _read(path, (_TOKENS, _TYPES, *_ENDS))
        texts = found.get(_TOKENS, [])
        kinds = found.get(_TYPES) or [_NORMAL] * len(texts)
        special = (t for t, kind in zip(texts, kinds, strict=False) if _is_special(t, kind))
        return cls(special, (found[key] for key in _ENDS if key in found))

    def ended(self, grammar: str) -> str:
        """Return a grammar in Lark whose answer the model may end: llama.cpp offers it another token for that."""
        if not self.ends or not grammar.startswith("%llguidance"):
            return grammar
        listed = ",".join(map(str, self.ends))
        return grammar.replace("\nstart: answer\n", f"\nstart: answer <[{listed}]>\n", 1)

    def cut(self, node: Any, mark: str) -> Any:
        """Return JSON values with a mark inside of every special token; the same object where there is none."""
        if isinstance(node, str):
            return self._cut_text(node, mark)
        if isinstance(node, dict):
            changed = {k: self.cut(v, mark) for k, v in node.items()}
            return node if all(changed[k] is v for k, v in node.items()) else changed
        if isinstance(node, list):
            rows = [self.cut(v, mark) for v in node]
            return node if all(new is old for new, old in zip(rows, node, strict=True)) else rows
        return node

    def _cut_text(self, text: str, mark: str) -> str:
        places = sorted({i + 1 for first in self._firsts if first in text for i in self._starts(text, first)})
        if not places:
            return text
        return mark.join(text[i:j] for i, j in zip([0, *places], [*places, len(text)], strict=True))

    def _starts(self, text: str, first: str) -> Iterable[int]:
        at = text.find(first)
        while at >= 0:
            if any(text[at : at + length] in self.texts for length in self._lengths):
                yield at
            at = text.find(first, at + 1)


def new_mark() -> str:
    """Return a text that stands in no other text."""
    return f"\ue000{secrets.token_hex(8)}\ue001"


def _is_special(text: str, kind: int) -> bool:
    if kind in (_CONTROL, _UNKNOWN):
        return not text.isspace()
    return bool(_MARKUP.fullmatch(text)) or (kind == _USER_DEFINED and bool(_TAG.fullmatch(text)))


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return some values from the metadata of a GGUF file that llama.cpp has loaded, so it is sound."""
    found: dict[str, Any] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data, 16)
        for _ in range(reader.number("Q")):
            key = reader.text()
            value = reader.value(reader.number("I"), keep=key in keys)
            if key in keys:
                found[key] = value
                if len(found) == len(keys):
                    break
    return found


class _Reader:
    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data, self._at = data, at

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return value

    def text(self) -> str:
        length = self.number("Q")
        self._at += length
        return self._data[self._at - length : self._at].decode("utf-8", "replace")

    def value(self, kind: int, *, keep: bool) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_NUMBERS[kind])
        kind, count = self.number("I"), self.number("Q")
        if kind not in _NUMBERS:
            values = (self.value(kind, keep=keep) for _ in range(count))
            return list(values) if keep else sum(1 for _ in values)
        form = f"<{count}{_NUMBERS[kind]}"
        self._at += struct.calcsize(form)
        return list(struct.unpack_from(form, self._data, self._at - struct.calcsize(form))) if keep else None
