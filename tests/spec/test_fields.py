"""Fields: wording, constraints, defaults; and the types that they hold."""

import copy
import enum
from typing import Annotated, Any, Literal, Optional

import pydantic
import pytest

from tuneful.errors import SignatureError
from tuneful.spec.fields import MISSING, Field, InputField, OutputField, infer_label
from tuneful.spec.types import choices, is_optional, members, type_name


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("searchQuery_2", "Search query 2"),
        ("answer", "Answer"),
        ("final_answer", "Final answer"),
        ("the_URL", "The URL"),
    ],
)
def test_label_is_made_from_the_name(name, label):
    assert infer_label(name) == label
    assert Field(name, "input").label == label


def test_prefix_is_another_word_for_label():
    assert InputField(prefix="Question: ").bind("q").label == "Question"


def test_unknown_option_is_an_error_with_the_nearest():
    with pytest.raises(SignatureError, match=r"`OutputField` has no option `dsc`. Did you mean `desc`\?"):
        OutputField(dsc="x")


@pytest.mark.parametrize(
    ("type_", "constraint", "good", "bad"),
    [
        (int, {"gt": 0}, 1, 0),
        (int, {"ge": 0}, 0, -1),
        (float, {"lt": 1}, 0.9, 1),
        (float, {"le": 1}, 1, 1.1),
        (int, {"multiple_of": 3}, 6, 7),
        (str, {"min_length": 2}, "ab", "a"),
        (list[str], {"max_length": 1}, ["a"], ["a", "b"]),
        (str, {"pattern": "^[A-Z]+$"}, "AB", "ab"),
    ],
)
def test_every_constraint_is_enforced_and_put_in_words(type_, constraint, good, bad):
    field = OutputField(**constraint).bind("x", type_)
    assert field.adapter.validate_python(good) == good
    with pytest.raises(pydantic.ValidationError):
        field.adapter.validate_python(bad)
    assert str(next(iter(constraint.values()))) in field.describe()


def test_falsy_default_is_a_default():
    for value in (0, "", None, False, []):
        field = InputField(default=value).bind("x", Any)
        assert field.optional
        assert field.absent_value() == value
    assert not InputField().bind("x", int).optional
    assert InputField().bind("x", int | None).absent_value() is None


def test_mutable_default_is_not_shared():
    field = InputField(default=[]).bind("x", list)
    field.absent_value().append(1)
    assert field.absent_value() == []


def test_copy_of_a_field_has_no_default_where_the_field_has_none():
    field = copy.deepcopy(InputField().bind("x", int))
    assert field.default is MISSING
    assert not field.optional


def test_new_wording_leaves_the_field_alone():
    field = InputField(desc="old").bind("x", int)
    assert field.with_wording(label="L").desc == "old"
    assert field.with_wording(desc="").desc == ""
    assert field.desc == "old"


class Color(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (list[str], "list[str]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Optional[float], "float | None"),  # noqa: UP045
        (int | str, "int | str"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Annotated[int, "x"], "int"),
        (dict[str, list[Color]], "dict[str, list[Color]]"),
        (Any, "Any"),
        (None, "None"),
    ],
)
def test_type_is_named_as_a_person_would_write_it(type_, name):
    assert type_name(type_) == name


def test_annotated_types_are_seen_through():
    assert members(Annotated[int | None, "x"]) == (int, type(None))
    assert is_optional(Annotated[int | None, "x"])
    assert choices(Annotated[Literal["a"], "x"]) == ("a",)
    assert choices(Color) == ("red",)
    assert choices(str) is None
