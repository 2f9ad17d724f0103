"""The fingerprint of a program: the same for the same program, another one for whatever decides its answers."""

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import tuneful as tf
from tuneful.optimize.identity import fingerprint, metric_fingerprint
from tuneful.testing import ScriptedLM


class Hops(tf.Module):
    def __init__(self, hops=2, key=len, names=("a",)):
        self.hops = hops
        self.key = key
        self.names = list(names)
        self.answer = tf.Predict("question -> answer")

    def forward(self, question):
        return self.answer(question=question)


@pytest.fixture(autouse=True)
def lm():
    with tf.context(lm=ScriptedLM([])):
        yield


def test_it_is_the_same_for_copies_and_for_the_same_program_made_again():
    assert fingerprint(Hops()) == fingerprint(Hops()) == fingerprint(Hops().deepcopy())


def longer(text):
    return len(text) + 1


def test_it_changes_with_whatever_decides_an_answer():
    def required(message):
        program = Hops()
        program.answer.require(longer, message)
        return program

    def bounded():
        program = Hops()
        program.answer.max_prompt_tokens = 100
        return program

    def frozen_wording():
        return Hops().with_parameters({"answer.instructions": "Answer."})

    different = [
        Hops(),
        Hops(hops=3),
        Hops(key=longer),
        Hops(names=("b",)),
        required("x"),
        required("y"),
        bounded(),
        frozen_wording(),
    ]
    with tf.context(max_backtracks=1):
        prints = [fingerprint(Hops())]
    assert len({*prints, *map(fingerprint, different)}) == 9


def test_a_compile_leaves_no_trace_in_it():
    program = Hops()
    before = fingerprint(program)
    program.__dict__["_report"] = object()
    assert fingerprint(program) == before


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Asking(tf.Module):
    """A program whose answers depend on whatever it holds."""

    def __init__(self, held):
        self.held = held
        self.answer = tf.Predict("question -> answer")

    def forward(self, question):
        return self.answer(question=question)


@dataclasses.dataclass
class Limits:
    most: int


class Rule:
    def __init__(self, word):
        self.word = word

    def __call__(self, row, said, trace=None):
        return said.answer == self.word

    def judge(self, row, said, trace=None):
        return said.answer == self.word


def wanted(word):
    def metric(row, said, trace=None):
        return said.answer == word

    return metric


def judged(row, said, trace=None, word="a"):
    return said.answer == word


def defaulting(default):
    def metric(row, said, trace=None, word=default):
        return said.answer == word

    return metric


def based_on(word):
    class Base(tf.Module):
        def forward(self, question):
            return tf.Prediction(answer=word)

    class Child(Base):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

    return Child()


HELD = [
    lambda one: {"a", "b"} if one else {"a", "c"},
    lambda one: frozenset({1, 2}) if one else frozenset({1, 3}),
    lambda one: decimal.Decimal(int(one)),
    lambda one: re.compile("a" if one else "b"),
    lambda one: Colour.RED if one else Colour.BLUE,
    lambda one: b"a" if one else b"b",
    lambda one: np.array([1, 2] if one else [1, 3]),
    lambda one: functools.partial(judged, word="a" if one else "b"),
    lambda one: Limits(int(one)),
    lambda one: Rule(str(one)),
    lambda one: dt.date(2026, 11, 1 + one),
    lambda one: {"demos": int(one)},
    lambda one: ScriptedLM([], model="one" if one else "other"),
    lambda one: tf.BM25(["a passage", "one" if one else "other"]),
    lambda one: tf.Retrieve(rm=tf.BM25(["a passage", "one" if one else "other"])),
    lambda one: tf.Dense(["a passage", "one" if one else "other"], lengths),
]


def lengths(texts):
    return [[float(len(text)), 1.0] for text in texts]


@pytest.mark.parametrize("held", HELD)
def test_whatever_a_program_holds_tells_it_from_another_and_the_same_is_the_same(held):
    assert fingerprint(Asking(held(True))) == fingerprint(Asking(held(True)))
    assert fingerprint(Asking(held(True))) != fingerprint(Asking(held(False)))


def test_the_code_of_a_base_class_and_what_it_closes_over_tell_a_program():
    assert fingerprint(based_on("a")) == fingerprint(based_on("a"))
    assert fingerprint(based_on("a")) != fingerprint(based_on("b"))


@pytest.mark.parametrize(
    "make",
    [
        wanted,
        defaulting,
        Rule,
        lambda word: Rule(word).judge,
        lambda word: functools.partial(judged, word=word),
        Asking,
        lambda word: wanted(Asking(word)),
    ],
)
def test_whatever_decides_a_score_tells_a_metric_from_another(make):
    assert metric_fingerprint(make("a")) == metric_fingerprint(make("a"))
    assert metric_fingerprint(make("a")) != metric_fingerprint(make("b"))


def test_two_lambdas_of_one_line_are_two_metrics():
    one, other = (lambda row, said: row.answer == said.answer), (lambda row, said: row.answer != said.answer)
    assert metric_fingerprint(one) != metric_fingerprint(other)


def test_what_holds_itself_has_a_fingerprint():
    rule = Rule("a")
    rule.word = [rule]
    program = Asking(rule)
    assert fingerprint(program) == fingerprint(program.deepcopy())


def test_it_is_the_same_in_another_process():
    script = (
        "import tuneful as tf\n"
        "from tuneful.optimize.identity import fingerprint, metric_fingerprint\n"
        "from tuneful.testing import ScriptedLM\n"
        "words = {str(n) for n in range(50)}\n"
        "def metric(row, said, trace=None):\n"
        "    return said.answer in words\n"
        "def judged(): \n"
        "    own = set(words)\n"
        "    return lambda row, said, trace=None: said.answer in own\n"
        "class Asking(tf.Module):\n"
        "    def __init__(self):\n"
        "        self.words, self.find = words, tf.BM25(['a', 'b'])\n"
        "        self.answer = tf.Predict('question -> answer')\n"
        "    def forward(self, question):\n"
        "        return self.answer(question=question)\n"
        "with tf.context(lm=ScriptedLM([])):\n"
        "    print(fingerprint(Asking()), metric_fingerprint(metric), metric_fingerprint(judged()))\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_a_program_that_was_saved_and_loaded_is_the_same(tmp_path):
    program = Hops()
    program.save(tmp_path / "program.json")
    loaded = Hops()
    loaded.load(tmp_path / "program.json")
    loaded.__dict__["_provenance"] = {"teleprompter": "Tune"}
    assert fingerprint(loaded) == fingerprint(program)


def look(word: str) -> str:
    """Look a word up."""
    return word


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.ChainOfThought("question -> answer"),
        lambda: tf.ReAct("question -> answer", tools=[look]),
        lambda: tf.ProgramOfThought("question -> answer"),
        lambda: tf.Retrieve(rm=tf.BM25(["a", "b"])),
    ],
)
def test_a_run_changes_nothing_of_it(make):
    program = make()
    before = fingerprint(program)
    with contextlib.suppress(tf.TunefulError), tf.context(lm=ScriptedLM(lambda request: "[[ ## answer ## ]]\na")):
        program(**{"query" if isinstance(program, tf.Retrieve) else "question": "a"})
    assert fingerprint(program) == fingerprint(program.deepcopy()) == fingerprint(make()) == before


def test_a_saved_and_loaded_program_is_the_same_one(tmp_path):
    program = Hops().with_parameters({"answer.demos": [{"question": "q", "answer": "a"}], "answer.adapter": "json"})
    program.freeze("answer.instructions")
    program.__dict__["_provenance"] = {"teleprompter": "none"}
    program.save(tmp_path / "p.json")

    assert fingerprint(Hops().load(tmp_path / "p.json")) == fingerprint(program)
    assert fingerprint(program) != fingerprint(Hops())


def test_an_adapter_is_the_same_by_its_name_and_as_an_object():
    def with_adapter(adapter):
        program = Hops()
        program.answer.adapter = adapter
        return fingerprint(program)

    assert with_adapter("json") == with_adapter(tf.JSONAdapter())
    assert with_adapter("json>chat") == with_adapter(tf.FallbackAdapter(["json", tf.ChatAdapter()]))
    assert with_adapter("json") != with_adapter("chat")
