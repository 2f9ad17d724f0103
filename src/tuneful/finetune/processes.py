"""Several processes that train one model together, each on its own device and with its share of every batch.

`torchrun --nproc-per-node 4 train.py` starts them. Each holds all weights; after its share of a batch the gradients are
added up, so every process takes the same step, and the result is that of one process, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Processes:
    """The processes of a training as one of them sees them.

    Args:
        rank: number of this one; 0 is the first, which writes files and reports progress.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    def share(self, batch: Sequence[T]) -> list[T]:
        """Return this process's part of a batch, whose examples are in the order of their lengths."""
        return list(batch[self.rank :: self.count])

    def sum(self, value: float) -> float:
        """Return the sum of everybody's value."""
        if self.count == 1:
            return value
        import torch
        from torch import distributed

        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        total = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        return float(total)

    def sum_gradients(self, weights: Iterable[Any]) -> None:
        """Give every weight the sum of everybody's gradient."""
        if self.count == 1:
            return
        import torch
        from torch import distributed

        trained = list(weights)
        own = [torch.zeros_like(w) if w.grad is None else w.grad for w in trained]  # None: no example in its share
        together = torch.cat([gradient.flatten() for gradient in own])
        distributed.all_reduce(together)
        for weight, gradient in zip(trained, together.split([w.numel() for w in trained]), strict=True):
            weight.grad = gradient.view_as(weight)

    def agree(self, flag: bool) -> bool:
        """Return what the first process says."""
        return self.sum(float(flag and self.first)) > 0

    def wait(self) -> None:
        """Wait until everybody is here."""
        self.sum(0.0)


@contextmanager
def joined(*, on_gpu: bool) -> Iterator[Processes]:
    """Join the processes that were started together with this one, as torchrun tells; or be alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    from torch import distributed

    mine = not distributed.is_initialized()
    if mine:
        distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        if mine:
            distributed.destroy_process_group()
