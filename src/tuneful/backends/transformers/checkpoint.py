"""What a name after `transformers/` means: a folder, an adapter over another checkpoint, or a name on the hub."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tuneful.backends.file_digest import digest_of
from tuneful.errors import MissingExtraError, NotConfiguredError, UsageError

#: Files whose content decides what a checkpoint answers.
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")
_BESIDE = ("config.json", "adapter_config.json", "generation_config.json", "tokenizer*", "chat_template*", "*.model")

#: Weights that a small model has at most, as short prompts serve it better.
_SMALL = 4_000_000_000
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_BILLIONS = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)b\b", re.IGNORECASE)

#: How a tokenizer writes its bytes: of these llguidance knows which characters a token stands for.
_BYTEWISE = re.compile(rb'"decoder":\s*\{.{0,600}?"Byte(?:Level|Fallback)"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of transformers, found but not loaded.

    Args:
        name: as it was given.
        source: what transformers takes: a folder, or a name on the hub.
        folder: the folder on this machine; None for a name on the hub that was not fetched yet.
        adapter: the folder of an adapter of PEFT that is laid over it, or None.
    """

    name: str
    source: str
    folder: Path | None
    adapter: Path | None = None

    @property
    def base_identity(self) -> str:
        """What tells its base from every other one: a hash of its content, or its name and version on the hub."""
        if self.folder is not None and Path(self.source).is_dir():
            return digest_of(_files(self.folder))
        return f"{self.source}@{self.folder.name if self.folder else 'main'}"

    @property
    def identity(self) -> str:
        """What tells it from every other checkpoint, as part of an endpoint."""
        over = "" if self.adapter is None else f"+{digest_of(_files(self.adapter))}"
        return f"{self.base_identity}{over}"

    @property
    def digest(self) -> str:
        """The identity where files of the user's own are part of it, else ""."""
        return self.identity if self.adapter or Path(self.source).is_dir() else ""

    @property
    def tokenizer_source(self) -> str:
        """The folder or name of its tokenizer: an adapter may bring its own."""
        own = self.adapter is not None and (self.adapter / "tokenizer_config.json").is_file()
        return str(self.adapter) if own else self.source

    @property
    def context_tokens(self) -> int | None:
        """The longest prompt and answer together, where its settings say so."""
        config = self._config()
        config = config.get("text_config") or config
        found = config.get("max_position_embeddings") or (
            None if "t5" in str(config.get("model_type")) else config.get("n_positions")
        )
        return found if isinstance(found, int) else None

    @property
    def small(self) -> bool:
        """Whether short prompts serve it better: by the size of its files, or by its name on the hub."""
        named = _BILLIONS.search(self.source.rpartition("/")[2])
        if self.folder is None or not Path(self.source).is_dir():
            return named is None or float(named[1]) <= _SMALL / 1e9
        config = self._config()
        each = _BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4)
        return sum(f.stat().st_size for f in _files(self.folder, _WEIGHTS)) / each < _SMALL

    @property
    def constrains(self) -> bool:
        """Whether answers can be held to a grammar: llguidance is there, and can read its tokens."""
        folder = Path(self.tokenizer_source) if Path(self.tokenizer_source).is_dir() else self.folder
        file = folder / "tokenizer.json" if folder else None
        if importlib.util.find_spec("llguidance") is None or file is None or not file.is_file():
            return False
        return bool(_BYTEWISE.search(file.read_bytes()))

    def _config(self) -> Mapping[str, Any]:
        return {} if self.folder is None else _json(self.folder / "config.json")


def find_checkpoint(name: str) -> Checkpoint:
    """Return what a name means. Nothing is loaded, and nothing fetched.

    Raises:
        MissingExtraError: a library is not installed.
        NotConfiguredError: there is no such folder, or it holds no checkpoint.
        UsageError: an adapter over a model that transformers does not serve.
    """
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "finetune", "A checkpoint of transformers")
    folder = Path(name).expanduser()
    if folder.is_dir():
        folder = folder.absolute()
        if (folder / "adapter_config.json").is_file():
            return _over_its_base(name, folder)
        if (folder / "config.json").is_file():
            return Checkpoint(name, str(folder), folder)
        raise NotConfiguredError(f"{str(folder)!r} holds no checkpoint of transformers: it has no config.json.")
    if folder.suffix == ".gguf":
        raise UsageError(f"{name!r} is a file of llama.cpp: use tf.LM('local/{name}').")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise NotConfiguredError(
            f"there is no folder {str(folder)!r}, and it is no name on the hub. Give a folder with config.json, "
            "weights and tokenizer, or a name such as `HuggingFaceTB/SmolLM2-135M-Instruct`."
        )
    return Checkpoint(name, name, _fetched(name))


def _over_its_base(name: str, adapter: Path) -> Checkpoint:
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError("peft", "finetune", "An adapter over a checkpoint")
    base = _json(adapter / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UsageError(
            f"the adapter {str(adapter)!r} does not say over which model it goes (base_model_name_or_path)."
        )
    if base.endswith(".gguf"):
        raise UsageError(
            f"the adapter {str(adapter)!r} goes over the file of llama.cpp {base!r}. Use it as a LoRA there: "
            "tf.LM('local/...', lora='....gguf')."
        )
    beside = adapter / base
    found = find_checkpoint(str(beside) if not Path(base).is_dir() and beside.is_dir() else base)
    if found.adapter is not None:
        raise UsageError(f"the adapter {str(adapter)!r} goes over another adapter. Merge that one into its base first.")
    return Checkpoint(name, found.source, found.folder, adapter)


def _fetched(name: str) -> Path | None:
    """Return where the files of a name on the hub are kept on this machine, or None. Nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache  # comes with transformers

    file = try_to_load_from_cache(name, "config.json")
    return Path(file).parent if isinstance(file, str) else None


def _files(folder: Path, patterns: tuple[str, ...] = (*_WEIGHTS, *_BESIDE)) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def _json(path: Path) -> Mapping[str, Any]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return {}
    return _read(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, _size: int, _mtime_ns: int) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is no JSON file: {error}") from error
    return found if isinstance(found, dict) else {}
