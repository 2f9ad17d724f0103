"""Where a training computes, in which numbers, and with how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tuneful.backends.cores import usable_cores
from tuneful.errors import UsageError


def device_of(name: str) -> str:
    """Return which device a name means. Raises UsageError for one that is not there."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun gives each process a GPU of its own
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"`device` is {name!r}, which cannot be used: {str(error).splitlines()[0]} Expected 'auto', 'cpu', or a "
            "GPU of this machine such as 'cuda' (with a torch that was built for it)."
        ) from error
    return name


def dtype_of(name: str, device: str) -> Any:
    """Return the type of numbers that a name means on a device."""
    import torch

    if name == "auto":
        return torch.bfloat16 if device.startswith("cuda") and torch.cuda.is_bf16_supported() else torch.float32
    return getattr(torch, name)


@contextmanager
def left_as_found(device: str, threads: int | None) -> Iterator[None]:
    """Compute with so many threads (None: cores less one), and leave threads and everybody's chance as they were."""
    import torch

    before = torch.get_num_threads()
    with torch.random.fork_rng([device] if device.startswith("cuda") else []):
        torch.set_num_threads(threads or max(1, usable_cores() - 1))
        try:
            yield
        finally:
            torch.set_num_threads(before)
