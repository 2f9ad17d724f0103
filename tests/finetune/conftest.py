"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.wire.messages import system, user

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
THINGS = ("apples", "red pears", "big dogs", "cats")
OWNERS = ("Ann", "Bob", "Eve", "my aunt", "the king", "nobody", "us", "Dr Who", "a friend")


@pytest.fixture
def counting() -> TrainingSet:
    """A task that a tiny model learns from nothing: which number a text begins with, in words."""
    return counting_set(160)


@pytest.fixture
def all_counting() -> TrainingSet:
    """As much of it as there is: enough to learn it, not only these examples."""
    return counting_set(324)


def counting_set(count: int) -> TrainingSet:
    every = [(i, thing, owner) for thing in THINGS for owner in OWNERS for i in range(9)]
    return TrainingSet(
        tuple(
            TrainingExample("count", (system("Say the number."), user(f"{i + 1} {thing} of {owner}")), NUMBERS[i])
            for i, thing, owner in every[:count]
        )
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute in one thread: tiny models are slower in several, which wait for one another."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
