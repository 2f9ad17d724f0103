"""Memory that a training needs: told before it fails where that can be known, and in plain words where it does fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneful.errors import TrainingError

_REMEDY = (
    "Lower `tokens_at_once` (a step is then computed in more parts, to the same result) or `max_tokens`, set "
    "`gradient_checkpointing=True`, train a LoRA (`lora=True`) in place of all weights, or take a smaller base model."
)

#: Bytes for each trained weight beside itself: its gradient and AdamW's two averages, in 32 bits.
_PER_TRAINED_WEIGHT = 12


def check_room(model: Any, device: str, *, folder: Path) -> None:
    """Raise TrainingError where the optimizer alone needs more memory than there is.

    On a CPU nothing would be raised later: the system would end the process.
    """
    needed = _PER_TRAINED_WEIGHT * sum(p.numel() for p in model.parameters() if p.requires_grad)
    free = _free(device)
    if free is not None and needed > free:
        raise TrainingError(
            f"training these weights needs at least {needed / 1e9:.1f} GB more memory, and {free / 1e9:.1f} GB are "
            f"free. {_REMEDY}",
            folder=str(folder),
        )


@contextmanager
def out_of_memory_explained(folder: Path) -> Iterator[None]:
    """Turn a failed allocation into a TrainingError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_about_memory(error):
            raise
        raise TrainingError(
            f"the training is out of memory: {str(error).partition(chr(10))[0] or 'no more could be had'}. {_REMEDY} "
            "The same call then goes on from the last checkpoint.",
            folder=str(folder),
        ) from error


def _is_about_memory(error: BaseException) -> bool:
    text = str(error).lower()
    known = ("out of memory", "allocate memory", "not enough memory", "alloc_failed", "alloc failed")
    return isinstance(error, MemoryError) or any(words in text for words in known)


def _free(device: str) -> int | None:
    """Return free bytes, or None where nobody knows."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    bounds = [_of_machine(), _of_container()]
    return min((b for b in bounds if b is not None), default=None) if device == "cpu" else None


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # no Linux
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _of_container() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        return None  # no container, or of another kind
    cached = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))  # given up as soon as it is needed
    return None if limit == "max" else int(limit) - used + cached
