"""In which order examples are learned: a pure function of seed and step, so that nothing of it needs to be kept."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache

#: Batches whose examples are sorted by length together: more of them save padding, fewer leave more to chance.
_SORTED_TOGETHER = 32


class LearningOrder:
    """Which examples each step learns from. Every epoch sees every example once, in another order.

    The examples of a batch have about the same length, since short ones would be padded to the longest.

    Args:
        lengths: tokens of each example.
        batch_size: examples of a step; the last step of an epoch may have fewer.
        epochs: how often each example is seen; may have a fraction.
        seed: where the chance comes from.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, epochs: float, seed: int) -> None:
        self._lengths = tuple(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self.steps_per_epoch = math.ceil(len(lengths) / batch_size)
        self.steps = math.ceil(epochs * self.steps_per_epoch - 1e-9)
        self._epoch = lru_cache(maxsize=1)(self._ordered)

    def batch(self, step: int) -> list[int]:
        """Return which examples step `step` (from 0) learns from."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[place]

    def _ordered(self, epoch: int) -> list[list[int]]:
        rng = random.Random(f"{self._seed}/{epoch}")
        left = list(range(len(self._lengths)))
        rng.shuffle(left)
        size, together = self._batch_size, self._batch_size * _SORTED_TOGETHER
        batches = []
        for start in range(0, len(left), together):
            alike = sorted(left[start : start + together], key=lambda i: self._lengths[i])
            batches += [alike[i : i + size] for i in range(0, len(alike), size)]
        rng.shuffle(batches)
        return batches


def in_parts(examples: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return examples in parts that are computed at once: none has more tokens than that, padding included.

    The sum over the parts is what all of them together would give. An example that is longer is a part of its own.
    """
    parts: list[list[int]] = []
    longest = 0
    for example in sorted(examples, key=lambda i: -lengths[i]):
        if parts and (len(parts[-1]) + 1) * longest <= tokens:
            parts[-1].append(example)
        else:
            parts.append([example])
            longest = lengths[example]
    return parts
