"""Training examples in tokens: what a model reads, and what it learns to write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tuneful.backends.transformers.chat import ChatTokens
from tuneful.errors import DataError
from tuneful.finetune.training_set import TrainingExample, TrainingSet


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example in tokens.

    Args:
        prompt: what the model reads.
        answer: what it learns to write, with the token that ends it.
        group: examples of one group have prompts that start alike.
    """

    prompt: list[int]
    answer: list[int]
    group: str = ""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """Examples in tokens, and how many were left out as too long."""

    examples: list[Encoded]
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(e) for e in self.examples]


def encode(dataset: TrainingSet, tokens: ChatTokens, *, max_tokens: int, name: str = "examples") -> EncodedSet:
    """Return a training set in tokens.

    An example is never cut: the end of a prompt is where its inputs are, and half an answer would teach to write half
    answers. Those that are too long are left out, and counted.

    Raises:
        DataError: there are examples, and none fits.
    """
    encoded = [_encoded(e, tokens) for e in dataset.examples]
    kept = [e for e in encoded if len(e) <= max_tokens]
    if encoded and not kept:
        raise DataError(
            f"every one of the {len(encoded):,} {name} is longer than `max_tokens={max_tokens}`: the shortest has "
            f"{min(map(len, encoded)):,} tokens. Raise `max_tokens`, or use shorter prompts."
        )
    dropped = len(encoded) - len(kept)
    return EncodedSet(kept, Counter({f"{name} that are too long": dropped}) if dropped else Counter())


def _encoded(example: TrainingExample, tokens: ChatTokens) -> Encoded:
    prompt = tokens.prompt(example.messages, example.tools)
    if example.calls:
        answer = tokens.calls(example.messages, example.tools, example.completion, example.calls)
    else:
        answer = tokens.answer(example.completion)
    return Encoded(prompt, answer, example.path)
