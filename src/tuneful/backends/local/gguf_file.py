"""What stands at the head of a GGUF file: its metadata, and the shapes of its tensors."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tuneful.errors import UsageError

T = TypeVar("T")

#: Values of a GGUF file by their type: the format of one.
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def read_metadata(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return some values from the metadata of a GGUF file. Raises UsageError where the file is no sound one."""
    found: dict[str, Any] = {}

    def read(reader: _Reader) -> None:
        reader.number("Q")  # tensors
        for _ in range(reader.number("Q")):
            key = reader.text()
            value = reader.value(reader.number("I"), keep=key in keys)
            if key in keys:
                found[key] = value
                if len(found) == len(keys):
                    break

    _read(path, read)
    return found


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a GGUF file, by their names, the fastest dimension first.

    Raises:
        UsageError: the file is no sound one.
    """

    def read(reader: _Reader) -> dict[str, tuple[int, ...]]:
        tensors, values = reader.number("Q"), reader.number("Q")
        for _ in range(values):
            reader.text()
            reader.value(reader.number("I"), keep=False)
        return dict(reader.shape() for _ in range(tensors))

    return _read(path, read)


def _read(path: Path, read: Callable[[_Reader], T]) -> T:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read(_Reader(data, 8))
    except (struct.error, KeyError, ValueError) as error:
        raise UsageError(f"the GGUF file {str(path)!r} is damaged or cut off: its head cannot be read.") from error


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
        if self._at > len(self._data):
            raise ValueError("a text that ends beyond the file")
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

    def shape(self) -> tuple[str, tuple[int, ...]]:
        name = self.text()
        shape = tuple(self.number("Q") for _ in range(self.number("I")))
        self.number("I")  # type of its numbers
        self.number("Q")  # where they are
        return name, shape
