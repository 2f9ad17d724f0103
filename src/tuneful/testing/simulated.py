"""SimulatedLM: a model whose landscape is known, so that teleprompters can be tested without one."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist, fmean
from typing import Any

from tuneful.adapters.chat import ChatAdapter
from tuneful.errors import UsageError
from tuneful.program.module import Module
from tuneful.program.running.runtime import context
from tuneful.spec.example import Example
from tuneful.spec.fields import OutputField
from tuneful.spec.signature import Signature
from tuneful.testing.scripted import ScriptedLM
from tuneful.wire.messages import Message
from tuneful.wire.request import Request

_MARKER = re.compile(r"^\[\[ ## (\w+) ## \]\](?:\n|\Z)", re.MULTILINE)
#: A field in the layout that `ChatAdapter` asks for.
_LAYOUT = re.compile(r"^\[\[ ## (\w+) ## \]\]\n\{\1\}$", re.MULTILINE)
#: Ends the layout; what follows in the system message are partial demos.
_PARTIAL = "[[ ## completed ## ]]"
_MISTAKEN = "mistaken "
_CHAT = ChatAdapter()


@dataclass(frozen=True)
class Landscape:
    """What helps a simulated model, in probability of a right answer. By default nothing does.

    Args:
        base: probability without any help, as a mean over rows.
        any_demo: gain of showing at least one demo.
        demos: gains of single demos, by `Example.content_hash()` of their rows.
        demo_spread: standard deviation of the gains of demos that are not named, drawn once from the seed.
        instructions: gains of instructions, by a text that occurs in them.
        wording_spread: standard deviation of the gains of system messages, drawn once from the seed.
        most: no sum of gains makes an answer right more often than this.
        difficulty: share of the chance that is the row's own, from 0 to 1: at 1 a row that is right under one prompt
            is right under every better one; at 0 each prompt is a new throw of the dice.
        misled: loss for every input that an earlier step got wrong.
        seed: decides all that is drawn.
    """

    base: float = 0.5
    any_demo: float = 0.0
    demos: Mapping[str, float] = field(default_factory=dict)
    demo_spread: float = 0.0
    instructions: Mapping[str, float] = field(default_factory=dict)
    wording_spread: float = 0.0
    most: float = 1.0
    difficulty: float = 0.7
    misled: float = 0.0
    seed: int = 0

    def chance(self, system: str, demos: Sequence[str] = (), misled: int = 0) -> float:
        """Return the probability of a right answer.

        Args:
            system: the system message.
            demos: content hashes of the rows of the demos shown, right ones only.
            misled: inputs that an earlier step got wrong.
        """
        gain = self.any_demo if demos else 0.0
        gain += sum(self._of_demo(demo) for demo in demos)
        gain += sum(g for text, g in self.instructions.items() if text in system)
        gain += self._drawn(self.wording_spread, "wording", system)
        return min(self.most, max(0.0, self.base + gain - misled * self.misled))

    def right(self, chance: float, row: str, request: str) -> bool:
        """Say whether the answer to a request about a row is right."""
        own = _uniform(self.seed, "whose", row, request) < self.difficulty
        return _uniform(self.seed, "row", row) < chance if own else _uniform(self.seed, row, request) < chance

    def _of_demo(self, demo: str) -> float:
        return self.demos[demo] if demo in self.demos else self._drawn(self.demo_spread, "demo", demo)

    def _drawn(self, spread: float, *parts: object) -> float:
        return NormalDist(0, spread).inv_cdf(_uniform(self.seed, *parts)) if spread else 0.0


class SimulatedLM(ScriptedLM):
    """A model that knows the answers to some rows, and gives them as often as its landscape says.

    For testing teleprompters offline: with a planted gain, for regret (`quality` is what a program is truly worth,
    without noise), and for the null case, where nothing helps. Not for testing adapters or prompts: it reads and
    writes the form of `ChatAdapter` alone, and looks at nothing but the row asked about, the demos, the system
    message and what earlier steps wrote.

    A wrong answer is another row's label of the field, so that any type of label works. A field that has no labels
    (reasoning, say) gets a text that tells a later step whether it is right.

    >>> import tuneful as tf
    >>> rows = [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(100)]
    >>> lm = SimulatedLM(rows, Landscape(base=0.4, any_demo=0.3))
    >>> program = tf.Predict("question -> answer").using(lm=lm)
    >>> program(question="q7") == program(question="q7")
    True
    >>> program.demos = rows[:3]
    >>> round(lm.quality(program), 2)
    0.7

    Args:
        rows: every row that it may be asked about or shown, with labels.
        landscape: what helps, and by how much.
        seconds: time that an answer takes.
        jitter: share of that time by which it varies, by chance that depends on the request alone.
        options: see `ScriptedLM`.

    Raises:
        UsageError: at a request that is not in `ChatAdapter`'s form, or is about no row.
    """

    def __init__(
        self,
        rows: Sequence[Example],
        landscape: Landscape | None = None,
        *,
        seconds: float = 0.0,
        jitter: float = 0.0,
        **options: Any,
    ) -> None:
        self.landscape = landscape or Landscape()
        self.rows = list(rows)
        self._hashes = [row.content_hash() for row in self.rows]
        self._labels = [row.labels().to_dict() for row in self.rows]
        self._written = [_texts(labels) for labels in self._labels]
        self._read: dict[tuple[str, ...], tuple[str, list[str]]] = {}
        self._asked_about: dict[str, list[int]] = {}
        for i, row in enumerate(self.rows):
            for text in _texts(row.inputs().to_dict()).values():
                self._asked_about.setdefault(text, []).append(i)

        async def late(request: Request) -> Any:
            await asyncio.sleep(seconds * (1 + jitter * (2 * _uniform(request.key()) - 1)))
            return self._respond(request)

        super().__init__(late if seconds else self._respond, **{"model": "simulated", **options})

    def quality(self, program: Module) -> float:
        """Return what a program of one predictor is truly worth: its probability of a right answer, over all rows.

        No call is made, and there is no noise in it.
        """
        predictors = program.predictors()
        if len(predictors) != 1:
            raise UsageError(f"`quality` is of a program with one predictor, and this one has {len(predictors)}.")
        names = predictors[0].signature.input_fields
        with context(lm=self):
            prompts = [predictors[0].render(**{n: v for n, v in row.items() if n in names}) for row in self.rows]
        return fmean(self.landscape.chance(*self._shown(prompt.messages)) for prompt in prompts)

    def _respond(self, request: Request) -> list[str]:
        system, demos = self._shown(request.messages)
        asked = _LAYOUT.findall(system)
        if not asked:
            raise UsageError("SimulatedLM answers in the form of ChatAdapter only: set adapter='chat'.")
        turns = [_sections(m.text) for m in request.messages if m.role == "user"]
        turn = next((t for t in reversed(turns) if self._row(t) is not None), None)
        row = None if turn is None else self._row(turn)
        if turn is None or row is None:
            raise UsageError(f"SimulatedLM is asked about no row that it knows: {request.messages[-1].text:.200}")
        chance = self.landscape.chance(system, demos, self._mistakes(turn, row))
        keys = [f"{request.key()}/{i}" for i in range(request.sampling.n)]
        topic = f"{self._hashes[row]}/{asked}"
        return [self._answer(asked, row, key, right=self.landscape.right(chance, topic, key)) for key in keys]

    def _answer(self, asked: Sequence[str], row: int, key: str, *, right: bool) -> str:
        values = {name: self._value(name, row, key, right=right) for name in asked}
        return _CHAT.output_text(_signature(values, OutputField), values)

    def _value(self, name: str, row: int, key: str, *, right: bool) -> Any:
        if name not in self._labels[row]:
            return f"{'' if right else _MISTAKEN}{name} for {self._hashes[row]}"
        own = self._labels[row][name]
        others = [labels[name] for labels in self._labels if name in labels and labels[name] != own]
        return own if right or not others else others[int(_uniform(key, name) * len(others))]

    def _shown(self, messages: Sequence[Message]) -> tuple[str, list[str]]:
        """Return the system message without its demos, and the hashes of the rows shown, with right answers."""
        stable = tuple(m.text for m in messages[:-1])  # the same for many requests, so it is read once
        if stable not in self._read:
            self._read[stable] = self._read_shown(messages)
        return self._read[stable]

    def _read_shown(self, messages: Sequence[Message]) -> tuple[str, list[str]]:
        system, _, partial = messages[0].text.partition(_PARTIAL)
        shown = [self._asked_about[text][0] for _, text in _parts(partial) if text in self._asked_about]
        for asked, answered in pairwise(messages[1:]):
            turn = _sections(asked.text)
            row = self._row(turn) if (asked.role, answered.role) == ("user", "assistant") else None
            if row is not None and not self._mistakes({**turn, **_sections(answered.text)}, row):
                shown.append(row)
        return system, [self._hashes[row] for row in shown]

    def _row(self, turn: Mapping[str, str]) -> int | None:
        """Return the row that a turn is about: the one that most of its fields are of."""
        votes = Counter(row for text in turn.values() for row in self._asked_about.get(text, ()))
        return max(votes, key=lambda row: (votes[row], -row), default=None)

    def _mistakes(self, turn: Mapping[str, str], row: int) -> int:
        """Return how many fields of a turn are not as the row has them."""
        own = self._written[row]
        return sum(text.startswith(_MISTAKEN) or own.get(name, text) != text for name, text in turn.items())


def _uniform(*parts: object) -> float:
    """Return a number in (0, 1) that depends on the parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def _parts(text: str) -> list[tuple[str, str]]:
    """Return names and texts of the sections of a message."""
    pieces = _MARKER.split(text)
    return [(name, body.strip()) for name, body in zip(pieces[1::2], pieces[2::2], strict=True)]


def _sections(text: str) -> dict[str, str]:
    return {name: body for name, body in _parts(text) if name != "completed"}


def _signature(values: Mapping[str, Any], field_of: Callable[[], Any]) -> Signature:
    return Signature({name: (type(value), field_of()) for name, value in values.items()})


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as the adapter writes them."""
    return _sections(_CHAT.output_text(_signature(values, OutputField), values)) if values else {}
