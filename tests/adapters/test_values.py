"""One value and its text: plain where it can be, quoted where it must be, read tolerantly."""

from typing import Annotated, Literal

import pydantic
import pytest
from cases import City, Color, Level, output

from tuneful.adapters.values import ValueProblem, describe, read_value, type_text, without_titles, write_value


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        (str, "Paris", "Paris"),
        (str, "two\nlines", "two\nlines"),
        (str, 'say "hi" now', 'say "hi" now'),
        (str, "", '""'),
        (str, " a", '" a"'),
        (str, "a\rb", '"a\\rb"'),
        (str, '"quoted"', '"\\"quoted\\""'),
        (str, "Answer: x", '"Answer: x"'),
        (str, "```\nx\n```", '"```\\nx\\n```"'),
        (str, "```python\nx\n```", "```python\nx\n```"),
        (int, 5, "5"),
        (float, 2.0, "2.0"),
        (float, float("-inf"), "-Infinity"),
        (bool, True, "true"),
        (Literal["a", "b"], "a", "a"),
        (Color, Color.RED, "red"),
        (Color | None, Color.NONE, '"none"'),
        (Level, Level.LOW, "1"),
        (int | str, "5", '"5"'),
        (int | str, "five", "five"),
        (int | None, None, "null"),
        (list[str], ["a", "é"], '["a","é"]'),
        (list[float], [float("inf")], "[Infinity]"),
        (City, City(name="Rome", area=float("inf")), '{"name":"Rome","people":null,"area":Infinity}'),
        (Annotated[str, "remark"], "5", "5"),
    ],
)
def test_value_is_written_as_plainly_as_it_can_be_read_back(type_, value, text):
    field = output(type_)
    assert write_value(field, value) == text
    again = read_value(field, text)
    assert again == value
    assert type(again) is type(value)


def test_value_that_does_not_fit_its_field_is_shown_as_it_is():
    assert write_value(output(Literal["positive"]), "Positive") == "Positive"
    assert write_value(output(str), 5) == "5"
    assert write_value(output(int), "about five") == "about five"
    assert write_value(output(list[int]), {"a": 1}) == '{"a":1}'


@pytest.mark.parametrize(
    ("type_", "text", "value", "salvage"),
    [
        (bool, "true", True, None),
        (bool, "Yes, because it is.", True, "boolean in other words"),
        (bool, "**No**", False, "boolean in other words"),
        (bool, "Yes.\nBecause it is.", True, "boolean in other words"),
        (bool, "Correct!", True, "boolean in other words"),
        (int, "42", 42, None),
        (int, "42 apples", 42, "number within words"),
        (int, "$1,234", 1234, "number within words"),
        (int, "1,00,000 rupees", 100000, "number within words"),
        (int, "about 12 345 km", 12345, "number within words"),
        (int, "17 + 25 = 42", 42, "number within words"),
        (int, "-3 degrees", -3, "number within words"),
        (float, "2.5 kg", 2.5, "number within words"),
        (float, "about .5", 0.5, "number within words"),
        (float, "1.5e3 m", 1500.0, "number within words"),
        (float, "inf", float("inf"), None),
        (Literal["yes", "no"], "YES", "yes", "choice in other case"),
        (Literal["yes", "no"], "**Yes**.", "yes", "choice in other case"),
        (Literal["positive", "negative"], 'It is "positive", I think.', "positive", "choice within a sentence"),
        (Literal[1, 2, 3], "2", 2, None),
        (Literal[1, 2, 3], "2 stars", 2, "choice within a sentence"),
        (Color, "Red", Color.RED, "choice in other case"),
        (list[str], "- a\n- b", ["a", "b"], "list from lines"),
        (list[str], "• a\n• b", ["a", "b"], "list from lines"),
        (list[str], "1. a [x]\n2) b", ["a [x]", "b"], "list from lines"),
        (list[str], "a\n\nb", ["a", "b"], "list from lines"),
        (list[str], "- a - b\n- c", ["a - b", "c"], "list from lines"),
        (list[int], "* 1\n* 2", [1, 2], "list from lines"),
        (list[int], "-1\n-2", [-1, -2], "list from lines"),
        (list[float], "1.5\n2.5", [1.5, 2.5], "list from lines"),
        (list[str], "['a', 'b',]", ["a", "b"], "json mended"),
        (list[str], '```json\n["a"]\n```', ["a"], "fence removed"),
        (dict[str, int], "Here: {a: 1}", {"a": 1}, "json mended"),
        (City, "{'name': 'Rome',}", City(name="Rome"), "json mended"),
        (int | None, "N/A", None, None),
        (str | None, "None", None, None),
        (str, "- a\n- b", "- a\n- b", None),
        (str, '"quoted"', "quoted", None),
        (str, '"a" and "b"', '"a" and "b"', None),
    ],
)
def test_reading_is_tolerant_and_says_which_tolerance_it_took(type_, text, value, salvage):
    salvages: list[str] = []
    found = read_value(output(type_), text, salvages)
    assert found == value
    assert type(found) is type(value)
    assert salvages == ([salvage] if salvage else [])


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (int, "many"),
        (int, "In 2019, 45 people came"),
        (int, "1, 2, 3"),
        (int, "COVID-19"),
        (int, "3.5"),
        (bool, "perhaps"),
        (bool, "n/a"),
        (Literal["yes", "no"], "yes or no"),
        (Literal["yes", "no"], "yesterday"),
        (list[int], "- a\n- b"),
        (City, '{"nom": "Rome"}'),
        (dict[str, int], "nothing"),
        (int, "1" * 6000),
    ],
)
def test_text_that_is_no_value_is_a_problem_and_leaves_no_salvage(type_, text):
    salvages: list[str] = []
    with pytest.raises(ValueProblem):
        read_value(output(type_), text, salvages)
    assert salvages == []


def test_problem_names_the_constraint_and_the_value_and_is_short():
    with pytest.raises(ValueProblem, match="less than or equal to 10, got 11"):
        read_value(output(int, le=10), "11")
    with pytest.raises(ValueProblem) as caught:
        read_value(output(str, max_length=3), "x" * 9999)
    assert len(str(caught.value)) < 200


def test_constraint_of_a_type_binds_as_one_of_the_field_does():
    field = output(Annotated[int, pydantic.Field(ge=0)])
    assert read_value(field, "3 km") == 3
    with pytest.raises(ValueProblem):
        read_value(field, "-1")


def test_types_are_described_by_name_or_by_schema():
    assert type_text(output(list[str])) == "list[str]"
    assert type_text(output(type("Opaque", (), {}))) == "Opaque"
    shown = type_text(output(City))
    assert shown.startswith("JSON that fits {")
    assert '"people"' in shown
    assert describe(output(int, ge=0, desc="how many")) == "- answer: int (at least 0) - how many"


def test_schema_loses_its_titles_but_not_a_property_of_that_name():
    class Book(pydantic.BaseModel):
        title: str

    assert without_titles(Book.model_json_schema()) == {
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "type": "object",
    }
