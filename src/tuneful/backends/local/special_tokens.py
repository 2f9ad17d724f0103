"""Special tokens of a model, and how a text that spells one is kept from becoming one.

llama.cpp reads `<|im_end|>` in a user's text as the token that ends the user's turn: whoever writes it could go on as
the system. So each such place gets a cut: the text on both sides of it is made into tokens by itself, and the model
reads the same characters, as plain text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tuneful.backends.local.gguf_file import read_metadata

_TOKENS = "tokenizer.ggml.tokens"
_TYPES = "tokenizer.ggml.token_type"
_ENDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4

#: Markup, whatever its type: llama.cpp makes control tokens of some that a file calls ordinary. Tokens that a file
#: adds beside these (runs of blanks, say) are ordinary text and stay whole.
_MARKUP = re.compile(r"<[|｜].*[|｜]>|<(?:start|end)_of_\w+>|\[/?[A-Z_]+\]|<[A-Za-z]*EOT>|<eos>")
_TAG = re.compile(r"[<\[]\S*[>\]]")


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
        found = read_metadata(path, (_TOKENS, _TYPES, *_ENDS))
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
