"""Example: one row, as attributes and as a mapping."""

import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pydantic
import pytest

from tuneful.errors import DataError
from tuneful.spec.example import Example


class City(pydantic.BaseModel):
    name: str


@pytest.fixture
def row():
    return Example(question="1+1?", hint="add", answer="2").with_inputs("question", "hint")


def test_fields_are_attributes_and_items(row):
    row.answer = "3"
    row["extra"] = 1
    assert (row.answer, row["answer"], row.get("extra"), row.get("none", 5)) == ("3", "3", 1, 5)
    del row.extra
    del row["hint"]
    assert list(row) == row.keys() == ["question", "answer"]
    assert row.values() == ["1+1?", "3"]
    assert row.items() == [("question", "1+1?"), ("answer", "3")]
    assert len(row) == 2
    assert "hint" not in row
    assert dict(**row) == {"question": "1+1?", "answer": "3"}


def test_missing_field_is_an_attribute_error_with_the_nearest(row):
    with pytest.raises(AttributeError, match=r"no field `anser`. Did you mean `answer`\?"):
        _ = row.anser
    assert not hasattr(row, "anser")
    with pytest.raises(KeyError):
        _ = row["anser"]


def test_inputs_and_labels_split_the_row(row):
    assert row.inputs() == Example(question="1+1?", hint="add")
    assert row.labels() == Example(answer="2")
    assert row.inputs().inputs() == row.inputs()


def test_no_marks_is_an_error_that_says_what_to_call():
    with pytest.raises(DataError, match=r"example.with_inputs\(...\)` with some of: a"):
        Example(a=1).inputs()
    with pytest.raises(DataError):
        Example(a=1).labels()
    assert not Example(a=1).has_inputs
    assert Example(a=1).with_inputs().has_inputs


def test_marking_an_unknown_field_is_an_error(row):
    with pytest.raises(DataError, match=r"Did you mean `question`\?"):
        row.with_inputs("questions")


def test_with_inputs_leaves_the_first_alone():
    row = Example(a=1)
    row.with_inputs("a")
    assert not row.has_inputs


def test_copy_and_without_keep_the_input_marks(row):
    changed = row.copy(answer="4", note="n")
    assert (changed.answer, row.answer, "note" in row) == ("4", "2", False)
    assert changed.inputs() == row.inputs()
    assert row.without("hint").inputs() == Example(question="1+1?")
    assert "hint" in row
    assert Example(row, answer="5").inputs() == row.inputs()
    with pytest.raises(KeyError):
        row.without("none")


def test_building_from_a_mapping_or_an_example_copies_it(row):
    base = {"a": 1}
    Example(base).a = 2
    Example(row).answer = "9"
    assert base == {"a": 1}
    assert row.answer == "2"


def test_equal_rows_have_equal_hashes_whatever_their_values(row):
    one = Example(a=[1, {"b": 2}], b=City(name="Rome"), c={"x"}, d=1)
    other = Example(d=1.0, c={"x"}, b=City(name="Rome"), a=[1, {"b": 2}])
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other, row}) == 2
    assert Example(a=1) != Example(a=2)
    assert Example(a=1) != {"a": 1}


def test_content_hash_is_the_same_for_the_same_row_in_any_order():
    assert Example(a=1, b={"x": 1, "y": 2}).content_hash() == Example(b={"y": 2, "x": 1}, a=1).content_hash()
    assert Example(a=1).content_hash() != Example(a="1").content_hash()
    assert Example(a=set("hash")).content_hash() == Example(a=["a", "h", "s"]).content_hash()
    assert Example(a="\ud800").content_hash() != Example(a="?").content_hash()


class Label:
    def __init__(self, number):
        self.number = number


def long_array(number):
    array = np.zeros(5000)
    array[2000] = number
    return array


@pytest.mark.parametrize(
    "value",
    [long_array, Label, lambda i: bytes([i, 255]), lambda i: [Label({i, "x"})], complex, np.int64, range],
)
def test_the_hash_tells_values_apart_that_json_has_no_form_for(value):
    one, same, other = (Example(x=value(i)).content_hash() for i in (1, 1, 2))
    assert one == same != other


def test_the_hash_is_the_same_in_every_process():
    code = (
        "from tuneful import Example\n"
        "class Label:\n    def __init__(self, words): self.words = words\n"
        "print(Example(x=Label({'a', 'b', 'c'}), y=b'\\xff', z={'q', 'r', 's'}).content_hash())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(said) == 1


def test_a_value_that_nothing_tells_from_another_is_refused_by_its_field():
    with pytest.raises(DataError, match="the field `guard` holds a lock that nothing tells from another one"):
        Example(guard=threading.Lock()).content_hash()


def test_to_dict_gives_json_values_of_nested_things():
    row = Example(a=[City(name="Rome")], b=Example(c=(1, 2)), d={"e": City(name="Oslo")})
    assert row.to_dict() == row.toDict() == {"a": [{"name": "Rome"}], "b": {"c": [1, 2]}, "d": {"e": {"name": "Oslo"}}}


def test_deep_copies_and_pickles_are_equal_and_marked(row):
    for again in (copy.deepcopy(row), copy.copy(row), pickle.loads(pickle.dumps(row))):
        assert again == row
        assert again.inputs() == row.inputs()


def test_repr_names_fields_and_inputs(row):
    assert repr(row) == "Example(question='1+1?', hint='add', answer='2') (inputs: hint, question)"
