"""JSONAdapter: what only it does; and which adapter `select` takes."""

import json

import pytest
from cases import ABLE, City, parse, plan

from tuneful.adapters.json import JSONAdapter, output_schema
from tuneful.adapters.select import ADAPTERS, resolve
from tuneful.errors import UsageError
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities

JSON = JSONAdapter()
QA = Signature("question -> answer, sure: bool")
GOOD = {"answer": "Paris", "sure": True}


@pytest.mark.parametrize(
    ("text", "salvages"),
    [
        ('{"answer": "Paris", "sure": true}', ()),
        ('  {"sure": true, "answer": "Paris", "more": 1}\n', ()),
        ('{"Answer": "Paris", "SURE": true}', ()),
        ('```json\n{"answer": "Paris", "sure": true}\n```', ("json mended",)),
        ('Use {these} braces: {"answer": "Paris", "sure": true} and {those}.', ("json mended",)),
        ("{'answer': 'Paris', 'sure': True,}", ("json mended",)),
        ('{"answer": "Paris", "sure": true', ("json mended",)),
        ('<think>{"answer": "Rome"}</think>{"answer": "Paris", "sure": true}', ("thinking removed",)),
        ('{"answer": "Paris", "sure": "correct"}', ("boolean in other words",)),
    ],
)
def test_answers_are_read_tolerantly_and_the_salvage_recorded(text, salvages):
    parsed = parse(JSON, QA, text)
    assert parsed.fields == GOOD
    assert parsed.salvages == salvages


def test_number_with_a_unit_is_read():
    assert parse(JSON, Signature("a -> b: float"), '{"b": "2.5 kg"}').fields == {"b": 2.5}


@pytest.mark.parametrize("text", ["Paris", "[1, 2]", '"Paris"', "null"])
def test_answer_that_is_no_object_is_a_problem_of_every_field(text):
    parsed = parse(JSON, QA, text)
    assert parsed.problems == dict.fromkeys(GOOD, "the answer is no JSON object")


def test_null_is_no_text():
    assert parse(JSON, QA, '{"answer": null, "sure": true}').problems.keys() == {"answer"}


def test_inputs_and_outputs_are_json_whatever_they_hold():
    signature = Signature("a, b: list[str] -> c")
    values = {"a": '"}, {"c": "x', "b": ["\n", "\u2028"], "c": "\r\\"}
    assert json.loads(JSON.input_text(signature, values)) == {"a": values["a"], "b": values["b"]}
    assert json.loads(JSON.output_text(signature, values)) == {"c": values["c"]}


def test_schema_holds_names_types_and_constraints():
    signature = Signature("a -> b: int, model_x: City").with_updated_fields("b", ge=0, desc="how many")
    schema = output_schema(signature)
    assert schema["properties"]["b"] == {"type": "integer", "minimum": 0, "description": "how many"}
    assert schema["required"] == ["b", "model_x"]
    assert schema["$defs"]["City"]["required"] == ["name"]
    assert City.__name__ == "City"
    assert json.loads(plan(JSON, signature, ABLE).json_schema) == schema


def test_auto_takes_the_short_form_for_a_small_model():
    assert resolve("auto", Capabilities(small=True)).name == "compact"
    assert resolve(None, Capabilities()).name == "chat"


def test_adapters_are_found_by_name_and_pass_as_they_are():
    assert {n: resolve(n, Capabilities()).name for n in ADAPTERS} == {n: n for n in ADAPTERS}
    assert resolve(JSON, Capabilities()) is JSON
    with pytest.raises(UsageError, match=r"Did you mean `json`\?"):
        resolve("jsn", Capabilities())


def test_a_number_where_text_is_asked_for_is_read_as_its_text():
    found = parse(JSON, QA, '{"answer": 42, "sure": true}')

    assert found.fields["answer"] == "42"
    assert found.salvages == ("value of another type",)
