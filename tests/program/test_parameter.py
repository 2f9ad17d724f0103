"""Everything that a teleprompter may set, as JSON values under paths."""

import json

import pytest

import tuneful as tf
from tuneful.adapters.chat import ChatAdapter
from tuneful.testing import DummyLM


class Program(tf.Module):
    def __init__(self):
        self.k = tf.Choice([1, 3, 5], default=3)
        self.hops = tf.Integer(1, 4)
        self.threshold = tf.Real(0.0, 1.0, default=0.5)
        self.ask = tf.ChainOfThought("question -> answer")
        self.checks = [tf.Predict("answer -> ok: bool")]

    def forward(self, question):
        return (self.k + self.hops, self.threshold)


OWN = ["instructions", "wording", "demos", "demo_pool", "adapter", "lm", "sampling"]


# --- Choice, Integer, Real ---


def test_numbers_read_as_plain_values_in_forward():
    assert Program()(question="x") == (4, 0.5)
    assert type(Program().k) is int


@pytest.mark.parametrize(
    ("space", "start"),
    [
        (tf.Choice(["a", "b"]), "a"),
        (tf.Choice([1, 3], default=3), 3),
        (tf.Choice([5, 0], default=0), 0),
        (tf.Choice([True, False], default=False), False),
        (tf.Choice([1, None], default=None), None),
        (tf.Integer(2, 8), 2),
        (tf.Integer(-3, 3, default=0), 0),
        (tf.Real(0.1, 10, default=1.0, log=True), 1.0),
        (tf.Real(-1.0, 1.0, default=0.0), 0.0),
    ],
)
def test_the_default_is_the_first_value_or_the_one_given(space, start):
    assert space.value == start
    assert type(space.value) is type(start)


@pytest.mark.parametrize("value", [1, 0, None, "x"])
def test_a_choice_can_take_each_of_its_values(value):
    space = tf.Choice(["x", 0, 1, None])
    assert space.with_value(value).value == value
    assert space.value == "x"


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (tf.Choice([1, 2]), 3),
        (tf.Choice([1, 2]), None),
        (tf.Integer(1, 4), 0),
        (tf.Integer(1, 4), 5),
        (tf.Integer(1, 4), 2.0),
        (tf.Integer(0, 4), True),
        (tf.Integer(1, 4), "2"),
        (tf.Integer(1, 4), None),
        (tf.Real(0, 1), 1.5),
        (tf.Real(0, 1), float("nan")),
        (tf.Real(0, 1), "0.5"),
    ],
)
def test_a_value_outside_the_space_is_a_usage_error(space, value):
    with pytest.raises(tf.UsageError):
        space.with_value(value)


@pytest.mark.parametrize(
    "declare",
    [
        lambda: tf.Choice([]),
        lambda: tf.Choice("abc"),
        lambda: tf.Choice(5),
        lambda: tf.Choice({1, 2}),
        lambda: tf.Choice([1, 1, 2]),
        lambda: tf.Choice([1, True]),
        lambda: tf.Choice([1, 2], default=True),
        lambda: tf.Choice([object()]),
        lambda: tf.Choice([(1, 2), (3, 4)]),
        lambda: tf.Choice([float("nan"), 1.0]),
        lambda: tf.Choice([1], default=2),
        lambda: tf.Integer(4, 1),
        lambda: tf.Integer(1, 4, default=0),
        lambda: tf.Integer(1, 4, default=2.0),
        lambda: tf.Integer(0, 4, log=True),
        lambda: tf.Integer(0.5, 2.5),
        lambda: tf.Integer("1", "5"),
        lambda: tf.Integer(None, 3),
        lambda: tf.Integer(False, True),
        lambda: tf.Integer(0, 10**400),
        lambda: tf.Real(0.0, 1.0, log=True),
        lambda: tf.Real(0, float("inf")),
        lambda: tf.Real(float("nan"), 1.0),
        lambda: tf.Real(-1e308, 1e308),
        lambda: tf.Real(1e-320, 1e300, log=True),
        lambda: tf.Real(0.0, 1.0, default=float("nan")),
    ],
)
def test_a_space_that_makes_no_sense_is_a_usage_error(declare):
    with pytest.raises(tf.UsageError, match=r"Choice|Integer|Real"):
        declare()


def test_values_may_come_from_any_iterable_in_order():
    assert tf.Choice(range(0, 6, 2)).values == (0, 2, 4)
    assert tf.Choice(n for n in "ab").values == ("a", "b")


def test_a_space_that_no_teleprompter_would_find_is_a_usage_error():
    class Listed(tf.Module):
        def __init__(self, numbers):
            self.ks = numbers

    for numbers in ([tf.Choice([1, 3])], (tf.Integer(1, 2),), {"t": tf.Real(0, 1)}):
        with pytest.raises(tf.UsageError, match="`ks` holds a"):
            Listed(numbers)
    with pytest.raises(tf.UsageError, match="share it"):
        type("Shared", (tf.Module,), {"k": tf.Choice([1, 3])})


@pytest.mark.parametrize("name", ["demos", "lm", "adapter", "signature"])
def test_what_is_a_parameter_already_takes_no_space(name):
    predict = tf.Predict("question -> answer")
    with pytest.raises(tf.UsageError, match="is a parameter already"):
        setattr(predict, name, tf.Choice([1, 2]))


def test_assigning_a_value_keeps_the_space():
    program = Program()
    program.k = 5
    assert program.parameters()["k"].value == 5
    assert program.parameters()["k"].space.values == (1, 3, 5)
    with pytest.raises(tf.UsageError):
        program.k = 4
    assert program.k == 5


def test_a_space_takes_the_place_of_a_plain_value():
    class Later(tf.Module):
        def __init__(self):
            self.k = 3
            self.k = tf.Choice([1, 5], default=5)

    assert Later().k == 5
    assert Later().with_parameters({"k": 1}).k == 1


def test_the_number_of_passages_can_be_a_parameter():
    program = tf.Retrieve(k=tf.Choice([1, 2]), rm=lambda query, k: ["a", "b", "c"][:k])
    assert program.parameters()["k"].value == 1
    assert program.with_parameters({"k": 2})("x").passages == ["a", "b"]


# --- parameters, with_parameters ---


def test_parameters_are_named_by_their_path():
    found = Program().parameters()
    assert list(found) == [
        "k", "hops", "threshold", *(f"ask.predict.{n}" for n in OWN), *(f"checks[0].{n}" for n in OWN),
    ]  # fmt: skip
    assert {p.path for p in found.values()} == set(found)
    assert [found[n].kind for n in ("k", "hops", "threshold")] == ["choice", "integer", "real"]
    assert [found[f"checks[0].{n}"].kind for n in OWN] == OWN
    assert Program().named_parameters() == list(found.items())


def test_parameters_are_json_values():
    program = Program()
    program.ask.predict.demos = [tf.Example(question="a", answer="b")]
    program.set_lm(DummyLM([]))
    values = {path: p.value for path, p in program.parameters().items()}
    assert json.loads(json.dumps(values)) == values


def test_with_parameters_returns_a_changed_copy():
    program = Program()
    demos = [{"question": "a", "reasoning": "r", "answer": "b"}]
    values = {
        "k": 1,
        "threshold": 0.25,
        "ask.predict.instructions": "Answer in one word.",
        "ask.predict.demos": demos,
        "ask.predict.wording": {"answer": {"label": "Short answer", "desc": "one word"}},
        "ask.predict.sampling": {"temperature": 0.5},
        "checks[0].adapter": "json",
    }
    changed = program.with_parameters(values)
    found = changed.parameters()
    for path in set(values) - {"ask.predict.wording"}:
        assert found[path].value == values[path]
    field = changed.ask.predict.signature.output_fields["answer"]
    assert (field.label, field.desc) == ("Short answer", "one word")
    assert program.k == 3
    assert program.ask.predict.demos == []
    assert program.parameters() == Program().parameters()
    demos[0]["answer"] = "changed afterwards"
    assert changed.ask.predict.demos[0].answer == "b"


def test_with_all_its_own_parameters_a_program_stays_the_same():
    program = Program()
    program.ask.predict.demos = [{"question": "a", "answer": "b"}]
    values = {path: p.value for path, p in program.parameters().items()}
    assert program.with_parameters(values).parameters() == program.parameters()


def test_an_adapter_and_an_lm_of_the_users_own_survive_their_own_values():
    class Own(ChatAdapter):
        name = "own"

    adapter, lm = Own(), DummyLM([], model="mine")
    predictor = tf.Predict("a -> b")
    predictor.adapter, predictor.lm = adapter, lm
    values = {path: p.value for path, p in predictor.parameters().items()}
    again = predictor.with_parameters(values)
    assert type(again.adapter) is Own
    assert again.lm is lm
    assert predictor.with_parameters({"adapter": "json", "lm": None}).adapter == "json"
    assert predictor.with_parameters({"adapter": "json", "lm": None}).lm is None


def test_an_unknown_path_is_told_the_nearest_and_changes_nothing():
    program = Program()
    with pytest.raises(tf.UsageError, match=r"Did you mean `ask\.predict\.demos`"):
        program.with_parameters({"k": 1, "ask.predict.demo": []})
    assert program.k == 3


def test_a_value_outside_its_space_is_refused_by_with_parameters():
    with pytest.raises(tf.UsageError, match="99"):
        Program().with_parameters({"k": 99})


def test_a_shared_predictor_is_set_for_all_its_users():
    program = tf.Module()
    program.one = program.two = tf.Predict("a -> b")
    assert [p for p in program.parameters() if p.startswith("two")] == []
    changed = program.with_parameters({"one.instructions": "Changed."})
    assert changed.two.signature.instructions == "Changed."


# --- freeze ---


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ((), lambda p: True),
        (("k",), lambda p: p == "k"),
        (("ask.*",), lambda p: p.startswith("ask.")),
        (("*.instructions",), lambda p: p.endswith(".instructions")),
        (("checks[0].*", "hops"), lambda p: p.startswith("checks") or p == "hops"),
        (("c*.demos",), lambda p: p == "checks[0].demos"),
    ],
)
def test_freeze_marks_what_its_patterns_match(patterns, frozen):
    program = Program()
    assert program.freeze(*patterns) is program
    for path, parameter in program.parameters().items():
        assert parameter.frozen == frozen(path), path


def test_a_part_is_frozen_by_its_own_paths_wherever_it_is():
    program = Program()
    program.ask.freeze("predict.demos")
    program.checks[0].freeze()
    frozen = [path for path, p in program.parameters().items() if p.frozen]
    assert frozen == ["ask.predict.demos", *(f"checks[0].{n}" for n in OWN)]
    assert [n for n, p in program.ask.parameters().items() if p.frozen] == ["predict.demos"]


def test_freezing_one_of_two_alike_names_leaves_the_other():
    program = tf.Module()
    program.a, program.ab = tf.Predict("x -> y"), tf.Predict("x -> y")
    program.a.freeze()
    assert {path.split(".")[0] for path, p in program.parameters().items() if p.frozen} == {"a"}


def test_unfreeze_undoes_it_and_copies_keep_it():
    program = Program().freeze("k")
    assert program.deepcopy().parameters()["k"].frozen
    assert program.with_parameters({"hops": 2}).parameters()["k"].frozen
    assert not program.unfreeze().parameters()["k"].frozen
