"""A LoRA of PEFT as a GGUF file, which llama.cpp lays over a base model at each request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneful.errors import UsageError

#: Architectures whose layers llama.cpp keeps as transformers has them, by their name in GGUF; in the others it orders
#: the rows of queries and keys otherwise.
_AS_THEY_ARE = frozenset({"qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"})
_REORDERED = frozenset({"llama"})


def check_architecture(architecture: str) -> None:
    """Raise UsageError for an architecture of which a LoRA cannot be written."""
    if architecture not in _AS_THEY_ARE | _REORDERED:
        known = ", ".join(sorted(_AS_THEY_ARE | _REORDERED))
        raise UsageError(
            f"a LoRA over a GGUF file of the architecture `{architecture}` cannot be written for llama.cpp: known are "
            f"{known}. Train from its checkpoint, `transformers/FOLDER_OR_NAME`, instead."
        )


def write_lora_gguf(
    path: Path, weights: Mapping[str, Any], *, architecture: str, alpha: float, layers: int, heads: int, kv_heads: int
) -> None:
    """Write a LoRA for llama.cpp, in 32 bits.

    Args:
        path: the file; it is written whole or not at all.
        weights: matrices by name, "model.layers.0.mlp.up_proj.lora_A.weight" and so on (numpy, float32).
        architecture: of the base, in the words of GGUF.
        alpha: what LoRA's update is multiplied by, after it was divided by the rank.
        layers, heads, kv_heads: of the base.

    Raises:
        UsageError: the base's architecture is not known, or a layer has no name in it.
    """
    import gguf

    check_architecture(architecture)
    names = gguf.get_tensor_name_map(_known(gguf, architecture), layers)
    partial = path.with_name(f".{path.name}.partial")
    writer = gguf.GGUFWriter(partial, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
    for name in sorted(weights):
        layer, _, part = name.removesuffix(".weight").rpartition(".")
        target = names.get_name(f"{layer}.weight", try_suffixes=(".weight",))
        if target is None or part not in ("lora_A", "lora_B"):
            raise UsageError(
                f"llama.cpp's `{architecture}` has no layer for the LoRA's {name!r}. Leave it out of `targets`."
            )
        matrix = weights[name]
        if part == "lora_B" and architecture in _REORDERED and target.endswith(("attn_q.weight", "attn_k.weight")):
            matrix = _reordered(matrix, heads if target.endswith("attn_q.weight") else kv_heads)
        writer.add_tensor(f"{target}.{part.lower()}", matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _known(gguf: Any, architecture: str) -> Any:
    return next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)


def _reordered(matrix: Any, heads: int) -> Any:
    """Return rows in llama.cpp's order: of each head the two halves of a rotation lie beside one another."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
