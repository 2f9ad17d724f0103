"""A training's state in a file: written whole or not at all, and without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneful.errors import StateError


def write(path: Path, tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts into one file. Whoever is killed meanwhile leaves the earlier file as it was."""
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.partial")
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, str(partial), metadata={"facts": json.dumps(facts)})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return tensors (on the CPU) and facts. Raises StateError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        raise StateError(f"the checkpoint {str(path)!r} is damaged: {error}. Delete it to train anew.") from error
