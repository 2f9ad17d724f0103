"""TrainingSet: what a model is to learn, as prompts and completions, with a count of what was left out and why."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuneful.errors import DataError, UsageError
from tuneful.finetune.jsonl import Layout, check_layout, from_line, to_line
from tuneful.wire.messages import Message, Tool, ToolCall

#: Reasons for which a whole run is left out; each of the others is a reason for one step.
OF_RUNS = ("metric below threshold", "program error", "parse error", "infra error", "metric error", "timeout")


@dataclass(frozen=True)
class TrainingExample:
    """A prompt, and what a model should answer to it.

    Args:
        path: the predictor that it is of; "" for a program that is one predictor.
        messages: the prompt, byte for byte as it will be sent.
        completion: the text that the model should write.
        tools: tools that the prompt offers.
        calls: calls that the model should make, beside the text or in its place.
    """

    path: str
    messages: tuple[Message, ...]
    completion: str
    tools: tuple[Tool, ...] = ()
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class TrainingSet:
    """Examples to learn from, none twice.

    >>> from tuneful.wire.messages import user
    >>> example = TrainingExample("", (user("2+2?"),), "4")
    >>> print(TrainingSet((example, example)).summary())
    1 example. Left out: 1 step (duplicate 1).

    `to_dataset` makes one of a program's runs, `from_steps` of recorded ones. Train one model for the whole program on
    all of it (multitask), or one for each predictor on `by_path()`.

    Args:
        examples: the examples; of equal ones the first is kept, and the others count as "duplicate".
        dropped: what was left out, by reason: runs for a reason in `OF_RUNS`, steps for any other.
        kept: runs that the examples are from, by why they were kept; empty where that is not known.
    """

    examples: tuple[TrainingExample, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        distinct = tuple(dict.fromkeys(self.examples))
        if twice := len(self.examples) - len(distinct):
            object.__setattr__(self, "dropped", dict(Counter(self.dropped) + Counter(duplicate=twice)))
        object.__setattr__(self, "examples", distinct)

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[TrainingExample]:
        return iter(self.examples)

    def __add__(self, other: TrainingSet) -> TrainingSet:
        return TrainingSet(
            (*self.examples, *other.examples),
            dict(Counter(self.dropped) + Counter(other.dropped)),
            dict(Counter(self.kept) + Counter(other.kept)),
        )

    # --- looking ---

    def summary(self) -> str:
        """Return in a few sentences how many examples there are, of what, and why the rest was left out."""
        paths = Counter(e.path for e in self.examples)
        of = "" if set(paths) <= {""} else f" ({', '.join(f'{n} of `{path}`' for path, n in paths.items())})"
        runs = f", from {_counted(self.kept, 'run')}" if self.kept else ""
        told = f"{_plural(len(self), 'example')}{of}{runs}."
        parts = [
            _counted({r: n for r, n in self.dropped.items() if (r in OF_RUNS) == whole}, name)
            for whole, name in ((True, "run"), (False, "step"))
        ]
        left_out = " and ".join(filter(None, parts))
        return f"{told} Left out: {left_out}." if left_out else told

    def checked(self) -> TrainingSet:
        """Return the set itself. Raises DataError where it is empty, with the counts of why."""
        if not self.examples:
            raise DataError(
                f"there is nothing to learn from: {self.summary()} A teacher that does better, a lower `threshold`, "
                "more rows or several `samples` of each give more."
            )
        return self

    def content_hash(self) -> str:
        """Return a hash of the examples, in their order; what was left out does not count."""
        lines = (json.dumps(to_line(e, "tool"), sort_keys=True, ensure_ascii=False) for e in self.examples)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:24]

    # --- parts ---

    def by_path(self) -> dict[str, TrainingSet]:
        """Return the examples of each predictor, by its path. The counts stay with the whole."""
        found: dict[str, list[TrainingExample]] = {}
        for example in self.examples:
            found.setdefault(example.path, []).append(example)
        return {path: TrainingSet(tuple(examples)) for path, examples in found.items()}

    def split(self, share: float, seed: int = 0) -> tuple[TrainingSet, TrainingSet]:
        """Return the examples to learn from, and a share of them to measure the loss on.

        Examples with the same prompt stay together. Which are held out depends on the seed and on the prompts, not on
        their order. The counts stay with the first set.

        Args:
            share: share of the prompts that is held out, from 0 up to 1; where it is not 0, at least one of two.
            seed: where the chance comes from.
        """
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise UsageError(f"`share` is {share!r}; expected a number from 0 up to 1, such as 0.1.")
        prompts = sorted({e.messages for e in self.examples}, key=lambda messages: _shuffled(messages, seed))
        most = max(0, len(prompts) - 1)
        out = set(prompts[: min(most, max(math.ceil(share), round(share * len(prompts))))])
        learned: list[TrainingExample] = []
        held_out: list[TrainingExample] = []
        for example in self.examples:
            (held_out if example.messages in out else learned).append(example)
        return replace(self, examples=tuple(learned)), TrainingSet(tuple(held_out))

    # --- files ---

    def save(self, path: str | Path, layout: Layout = "chat") -> None:
        """Write the examples as a JSONL file, whole or not at all; the counts are not written.

        Args:
            path: the file; its folder is made.
            layout: "chat" (messages), "tool" (messages, tools and calls) or "completion" (prompt and completion, for
                models without roles).

        Raises:
            DataError: the layout has no room for the tools or the media of an example.
        """
        check_layout(layout)
        content = jsonl(self, layout)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> TrainingSet:
        """Read what `save` wrote, in any layout, or a file of the same form from elsewhere.

        A prompt of the layout "completion" is read as one message of the user's.

        Raises:
            DataError: a line is no training example; it is named.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"the training set {str(path)!r} cannot be read: {error}.") from error
        return cls(tuple(_read(line, i, path) for i, line in enumerate(lines, 1) if line.strip()))


def jsonl(examples: TrainingSet, layout: Layout, *, paths: bool = True) -> bytes:
    """Return the lines of a JSONL file.

    Args:
        examples: the examples.
        layout: see `TrainingSet.save`.
        paths: whether each line says which predictor it is of; not all services take that.
    """
    lines = (to_line(e if paths else replace(e, path=""), layout) for e in examples)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode("utf-8", "backslashreplace")


def _read(line: str, number: int, path: str | Path) -> TrainingExample:
    try:
        return TrainingExample(**from_line(json.loads(line)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"line {number} of {str(path)!r} is no training example ({type(error).__name__}: {error}). Expected "
            '{"messages": [...]}, the last of them the assistant\'s, or {"prompt": ..., "completion": ...}.'
        ) from error


def _shuffled(messages: tuple[Message, ...], seed: int) -> str:
    body = json.dumps([seed, [m.to_json() for m in messages]], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()


def _plural(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _counted(counts: Mapping[str, int], name: str) -> str:
    """Return a sum and its parts, or "" where there are none."""
    if not counts:
        return ""
    parts = ", ".join(f"{reason} {n:,}" for reason, n in counts.items())
    return f"{_plural(sum(counts.values()), name)} ({parts})"
