"""A LoRA in a GGUF file: which one it is, and whether it fits the model that it is laid over."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary

from tuneful.backends.file_digest import digest_of
from tuneful.backends.local.gguf_file import read_metadata, read_shapes
from tuneful.errors import NotConfiguredError, UsageError

_TYPE, _ADAPTER, _ARCHITECTURE = "general.type", "adapter.type", "general.architecture"
_A, _B = ".lora_a", ".lora_b"


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA in a file. Two of the same file and content are one object, for as long as anybody holds it.

    Args:
        path: the file.
        digest: hash of its content.
    """

    path: Path
    digest: str

    def check_unchanged(self) -> None:
        """Raise NotConfiguredError or UsageError where the file is gone, or is another one by now."""
        if not self.path.is_file():
            raise NotConfiguredError(f"the LoRA {str(self.path)!r} is gone: its file was there when its LM was made.")
        if digest_of([self.path]) != self.digest:
            raise UsageError(
                f"the LoRA {str(self.path)!r} was written anew after its LM was made. Make the LM again: "
                "tf.LM(..., lora=...)."
            )


_known: WeakValueDictionary[tuple[Path, str], Lora] = WeakValueDictionary()
_lock = threading.Lock()


def find_lora(name: str | Path, base: Path) -> Lora:
    """Return the LoRA in a file, checked against the model that it is for.

    Raises:
        NotConfiguredError: no such file.
        UsageError: the file holds no LoRA, or one for another model.
    """
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise NotConfiguredError(f"there is no LoRA file {str(path)!r}. Give the path of a .gguf file that holds one.")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UsageError(
                f"the LoRA {str(path)!r} is no GGUF file (it does not start with the letters GGUF). Convert it: an "
                "adapter of PEFT is a folder, and llama.cpp takes a single file."
            )
    digest = digest_of([path])
    facts = base.stat()
    _check_fits(path, digest, base, (facts.st_size, facts.st_mtime_ns))
    with _lock:
        return _known.setdefault((path, digest), Lora(path, digest))


@lru_cache(maxsize=256)
def _check_fits(path: Path, _digest: str, base: Path, version: tuple[int, int]) -> None:
    mine = read_metadata(path, (_TYPE, _ADAPTER, _ARCHITECTURE))
    if (mine.get(_TYPE), mine.get(_ADAPTER)) != ("adapter", "lora"):
        raise UsageError(
            f"{str(path)!r} is a GGUF file, but holds no LoRA. A whole model is used as tf.LM('local/...')."
        )
    theirs = read_metadata(base, (_ARCHITECTURE,)).get(_ARCHITECTURE)
    if mine.get(_ARCHITECTURE) != theirs:
        raise UsageError(
            f"the LoRA {str(path)!r} is for models of the architecture `{mine.get(_ARCHITECTURE)}`; `{base.name}` is a "
            f"`{theirs}`."
        )
    shapes, weights = read_shapes(path), _shapes_of(base, version)
    for name in (n.removesuffix(_A) for n in shapes if n.endswith(_A)):
        down, up, weight = shapes[name + _A], shapes.get(name + _B), weights.get(name)
        if up is None or weight is None or not _fits(name, down, up, weight):
            has = "has no such weight" if weight is None else f"has it as {weight}"
            raise UsageError(
                f"the LoRA {str(path)!r} was made for another model than `{base.name}`: it changes `{name}` by "
                f"{down} and {up}, and the model {has}."
            )


def _fits(name: str, down: tuple[int, ...], up: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    if name == "token_embd.weight":  # looked up, not multiplied, so it lies the other way round
        return (up[1], down[1]) == weight
    return down[1] == up[0] and (down[0], up[1]) == weight


@lru_cache(maxsize=8)
def _shapes_of(base: Path, _version: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return read_shapes(base)  # past the vocabulary, which takes a tenth of a second
