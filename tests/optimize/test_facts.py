"""What tells one value from another, the same in every process."""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import operator
import re
import subprocess
import sys
import threading
import types
from collections import Counter, OrderedDict, deque
from pathlib import Path

import numpy as np
import pydantic
import pytest

import tuneful as tf
from tuneful.optimize.facts import Facts
from tuneful.optimize.identity import fingerprint, metric_fingerprint
from tuneful.retrieval import bm25
from tuneful.testing import DummyLM, ScriptedLM


@pytest.fixture(autouse=True)
def lm():
    with tf.context(lm=ScriptedLM([])):
        yield


def of(value):
    return Facts().of(value)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Point(pydantic.BaseModel):
    x: int


@dataclasses.dataclass
class Limits:
    most: int


class Slotted:
    __slots__ = ("_kept",)

    def __init__(self, kept):
        self._kept = kept


class Locked:
    """Pickle refuses what it holds; its own attributes count all the same."""

    def __init__(self, most):
        self._lock, self._most = threading.Lock(), most


class Counting:
    """Says itself what it is: not what it counts."""

    def __init__(self, most):
        self.most, self.seen = most, 0

    def __getstate__(self):
        return {"most": self.most}


def passages(*texts):
    return tf.BM25(list(texts), progress=False)


PAIRS = {
    "numbers": (1, 2),
    "an int and a float": (1, 1.0),
    "an int and a bool": (1, True),
    "very long numbers": (10**6000, 10**6000 + 1),
    "a list and a tuple": ([1], (1,)),
    "keys": ({1: "a"}, {"1": "a"}),
    "bytes": (b"a", b"b"),
    "sets": ({"a"}, {"b"}),
    "sets in a tuple": ((frozenset("ab"),), (frozenset("ac"),)),
    "enums": (Colour.RED, Colour.BLUE),
    "decimals": (decimal.Decimal(1), decimal.Decimal("1.0")),
    "dates": (dt.date(2020, 1, 1), dt.date(2020, 1, 2)),
    "paths": (Path("a"), Path("b")),
    "patterns": (re.compile("a"), re.compile("b")),
    "arrays": (np.array([1, 2]), np.array([1, 3])),
    "types of arrays": (np.array([1, 2]), np.array([1.0, 2.0])),
    "shapes of arrays": (np.zeros((2, 3)), np.zeros((3, 2))),
    "queues": (deque([1]), deque([2])),
    "counts": (Counter("a"), Counter("aa")),
    "models of pydantic": (Point(x=1), Point(x=2)),
    "dataclasses": (Limits(1), Limits(2)),
    "slots": (Slotted(1), Slotted(2)),
    "private attributes beside a lock": (Locked(1), Locked(2)),
    "what says itself what it is": (Counting(1), Counting(2)),
    "partial functions": (functools.partial(int, base=2), functools.partial(int, base=8)),
    "functions of C": (len, sum),
    "methods of a list": ([1].count, [2].count),
    "getters": (operator.itemgetter(1), operator.itemgetter(2)),
    "lambdas of one line": (lambda x: x + 1, lambda x: x + 2),
    "defaults": (lambda x=1: x, lambda x=2: x),
    "defaults by name": (lambda *, x=1: x, lambda *, x=2: x),
    "LMs": (tf.LM("openai/a", api_key="k"), tf.LM("openai/b", api_key="k")),
    "sampling": (tf.LM("openai/a", api_key="k"), tf.LM("openai/a", api_key="k", temperature=0.5)),
    "further fields": (tf.LM("openai/a", api_key="k"), tf.LM("openai/a", api_key="k", extra_body={"x": 1})),
    "passages": (passages("a", "b"), passages("a", "c")),
    "titles": (passages("a"), tf.BM25(["a"], title_weight=3, progress=False)),
    "examples": (tf.Example(a=1), tf.Example(a=2)),
    "types of fields": (tf.Predict("question -> answer: int"), tf.Predict("question -> answer: float")),
    "options of adapters": (tf.ToolCallingAdapter(), tf.ToolCallingAdapter(forced=False)),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_what_differs_is_told_apart(one, other):
    assert of(one) != of(other)
    assert of([one]) != of([other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (set("abcdef"), set("fedcba")),
        (OrderedDict(a=1), OrderedDict(a=1)),
        (Counting(1), Counting(1)),
        (Locked(1), Locked(1)),
        (threading.Lock(), threading.Lock()),
        (np.arange(6).reshape(2, 3).T, np.arange(6).reshape(2, 3).T),
        (passages("a", "b"), passages("a", "b")),
        (tf.LM("openai/a", api_key="one"), tf.LM("openai/a", api_key="another")),
        (tf.Predict("question -> answer"), tf.Predict("question -> answer")),
    ],
)
def test_what_is_made_alike_is_told_alike(one, other):
    assert of(one) == of(other)


def test_one_thing_in_two_places_is_as_good_as_two_alike():
    shared = ["x"]

    assert of([shared, shared]) == of([["x"], ["x"]])
    assert of([shared, {1: shared}]) != of([shared, {1: ["y"]}])


def test_sets_and_keys_of_any_kind_are_told_apart():
    values = [
        {(1, "a")},
        {(1, "b")},
        {int},
        {str},
        {len},
        {Colour.RED},
        {b"a"},
        {1: 0},
        {"1": 0},
        {(1,): 0},
        {"int 1": 0},
    ]

    assert len(set(map(of, values))) == len(values)
    assert of({(1, "a"), (2, "b"), Colour.RED}) == of({Colour.RED, (2, "b"), (1, "a")})


def test_what_differs_deep_down_is_told_apart():
    def nested(value):
        for _ in range(1000):
            value = [value]
        return value

    assert of(nested(1)) == of(nested(1)) != of(nested(2))


def test_copies_of_an_agent_are_the_agent_and_so_it_is_once_it_has_run():
    def size(city: str) -> int:
        return len(city)

    agent = tf.ReAct("question -> answer", tools=[size], max_iters=1)
    before = fingerprint(agent)
    lm = DummyLM([{"next_thought": "done", "next_tool_name": "submit", "next_tool_args": {"answer": "3"}}])
    agent(question="q", lm=lm)

    assert fingerprint(agent) == fingerprint(agent.deepcopy()) == fingerprint(agent.deepcopy().deepcopy()) == before


def test_what_an_object_leaves_out_of_its_state_does_not_count():
    used = Counting(1)
    used.seen = 5

    assert of(used) == of(Counting(1))


def test_what_holds_itself_comes_to_an_end():
    holding = [1]
    holding.append(holding)
    member = Locked(1)
    member.all = {member}
    one, other = Locked(1), Locked(2)
    one.next, other.next = other, one
    chain = []
    for _ in range(50_000):
        chain = [chain]

    assert len({of(holding), of(member), of(one), of(other), of(chain)}) == 5


def test_objects_that_all_know_one_another_take_no_time():
    known = [Locked(i) for i in range(300)]
    for one in known:
        one.others = known
    assert of(known) == of(known)


def test_passages_are_read_once_however_many_programs_hold_them(monkeypatch):
    read = []
    monkeypatch.setattr(bm25, "hash_of_corpus", lambda rows, *more: read.append(list(rows)) or "hash")
    program = tf.Retrieve(rm=passages("a", "b"))
    prints = {fingerprint(program), fingerprint(program.deepcopy()), of([program.rm])}

    assert len(prints) == 2
    assert len(read) == 1


# --- code ---


def ending(text):
    def metric(example, prediction, trace=None):
        return prediction.answer.endswith(text)

    return metric


class Ending:
    def __init__(self, text):
        self._text = text

    def __call__(self, example, prediction, trace=None):
        return self.judge(example, prediction)

    def judge(self, example, prediction, trace=None):
        return prediction.answer.endswith(self._text)


def given(example, prediction, trace=None, text=""):
    return prediction.answer.endswith(text)


def strictly(function):
    @functools.wraps(function)
    def stricter(*args):
        return function(*args) is True

    return stricter


def leniently(function):
    @functools.wraps(function)
    def laxer(*args):
        return bool(function(*args))

    return laxer


METRICS = {
    "closures": (ending("a"), ending("b")),
    "objects": (Ending("a"), Ending("b")),
    "bound methods": (Ending("a").judge, Ending("b").judge),
    "partial functions": (functools.partial(given, text="a"), functools.partial(given, text="b")),
    "decorators": (strictly(given), leniently(given)),
    "kept results": (functools.cache(ending("a")), functools.cache(ending("b"))),
}


@pytest.mark.parametrize(("one", "other"), METRICS.values(), ids=METRICS)
def test_metrics_are_told_apart_by_what_they_hold(one, other):
    assert metric_fingerprint(one) != metric_fingerprint(other)
    assert metric_fingerprint(one) == metric_fingerprint(one)


def module_of(code, name="written", **more):
    module = types.ModuleType(name)
    module.__dict__.update(more)
    exec(compile(code, name, "exec"), module.__dict__)
    return module


SOURCE = """
import tuneful as tf
LEAST = 3
KNOWN = {"a": 1}
judge = tf.Predict("answer -> score: float")
calls = 0

def clean(text):
    return text.strip()

def metric(example, prediction, trace=None):
    global calls
    calls += 1
    return clean(prediction.answer) in KNOWN and len(prediction.answer) > LEAST and judge is not None

class Base(tf.Module):
    limit = 5
    def __init__(self):
        self.answer = tf.Predict("question -> answer")
    def helper(self, question):
        return clean(question)
    def forward(self, question):
        return self.answer(question=self.helper(question))

class Program(Base):
    pass
"""


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("text.strip()", "text.lower()", "both"),
        ("LEAST = 3", "LEAST = 4", "metric"),
        ('{"a": 1}', '{"a": 1, "b": 2}', "metric"),
        ("score: float", "score: int", "metric"),
        ("limit = 5", "limit = 6", "program"),
        ("self.answer(question=self.helper(question))", "self.answer(question=question)", "program"),
        ("calls = 0", "calls = 7", "nothing"),
        ("def clean(text):", "# A comment.\n\ndef clean(text):\n", "nothing"),
    ],
)
def test_code_that_is_called_counts_wherever_it_stands(before, after, changes):
    assert before in SOURCE
    old, new = module_of(SOURCE), module_of(SOURCE.replace(before, after))
    metrics = {metric_fingerprint(old.metric), metric_fingerprint(new.metric)}
    programs = {fingerprint(old.Program()), fingerprint(new.Program())}

    assert (len(metrics), len(programs)) == {"both": (2, 2), "metric": (2, 1), "program": (1, 2), "nothing": (1, 1)}[
        changes
    ]


def test_functions_of_the_users_own_modules_count_and_those_that_call_one_another_come_to_an_end():
    def made(step):
        helper = module_of(f"def even(n): return n == 0 or odd(n - {step})\ndef odd(n): return n != 0 and even(n - 1)")
        return module_of("def metric(e, p, trace=None): return helper.even(len(p.answer))", helper=helper).metric

    assert metric_fingerprint(made(1)) == metric_fingerprint(made(1)) != metric_fingerprint(made(2))


def test_what_a_run_leaves_around_a_function_does_not_change_what_it_is():
    noted = []
    facts = Facts()

    def metric(example, prediction, trace=None):
        noted.append(prediction)
        return True

    before = facts.of([metric])
    noted.append("x")

    assert facts.of([metric]) == before


# --- processes ---

SCRIPT = """
import dataclasses, datetime, enum, functools, threading
import pydantic
import tuneful as tf
from tuneful.optimize.identity import fingerprint, metric_fingerprint
from tuneful.testing import ScriptedLM

class Kind(enum.Flag):
    A = 1
    B = 2

LABELS = {"one", "two", "three", "four", "five"}

def tool(city: str) -> int:
    "How many live there."
    return len(city) in {"x", "y", "z", 3}

class Item(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1)
    tags: set[str] = {"u", "v", "w"}
    @pydantic.field_validator("name")
    @classmethod
    def check(cls, value):
        return value

@dataclasses.dataclass
class Limits:
    most: int = 3
    of: dict = dataclasses.field(default_factory=dict)

class Held:
    def __init__(self):
        self.limits, self.item = Limits(), Item(name="x")
        self.lock, self.labels, self.kind = threading.Lock(), frozenset(LABELS), {Kind.A, Kind.B}
    def __call__(self, example, prediction, trace=None):
        return prediction.answer in LABELS and self.labels

class Program(tf.Module):
    def __init__(self):
        self.held, self.when, self.by_name = Held(), datetime.date(2020, 1, 1), {label: {label} for label in LABELS}
        self.agent = tf.ReAct("question, kind: Kind -> answer, items: list[Item]", tools=[tool])
        self.search = tf.Retrieve(rm=tf.BM25(["a b", "c d"], progress=False))
        self.answer = tf.Predict("question -> answer").require(lambda p: p.answer in {"a", "b", "c"}, "No.")
        self.adapter = tf.JSONAdapter()
    def forward(self, question):
        return self.answer(question=question)

tf.configure(lm=ScriptedLM([]), adapter=tf.JSONAdapter(), rm=tf.Hybrid([lambda q, k: [q], tf.BM25(["a"], progress=False)]))
print(fingerprint(Program()), metric_fingerprint(Held()), metric_fingerprint(functools.partial(Held().__call__, trace=1)))
"""


def test_it_is_the_same_in_every_process(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)

    def told(seed):
        made = subprocess.run(
            [sys.executable, file],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        return made.stdout.split()

    first = told("1")
    assert len(set(first)) == 3
    assert first == told("2") == told("3")
