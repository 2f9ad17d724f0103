"""What a model is told that writes code."""

from typing import Literal

import pydantic
import pytest

import tuneful as tf
from tuneful.modules.code_prompt import SANDBOX, told_of, with_sandbox


class City(pydantic.BaseModel):
    """A city."""

    name: str


def find(name: str, kind: Literal["town", "city"] = "city", near: City | None = None) -> list[City]:
    """Find places."""
    return []


TYPES = '  Types: {"City": {"description": "A city.", "properties": {"name": {"type": "string"}}, "required": ["name"], "type": "object"}}'


def test_functions_variables_and_outputs_are_told_as_python_writes_them():
    asked = tf.Signature("rows: list[dict[str, int]], limit: float -> total: int")
    interpreter = tf.MontyInterpreter(tools=[find, tf.Tool(lambda x: x, name="same", desc="")])
    told = with_sandbox(asked, interpreter, interpreter.tools.values(), asked).input_fields[SANDBOX].default
    assert told.startswith("Python 3 without third-party modules.")
    assert told.splitlines()[1:] == [
        "Variables that are set: `rows` (list[dict[str, int]]), `limit` (float).",
        "Functions (they give texts, numbers, lists and dicts, also where an object is named):",
        "- find(name: str, kind: Literal['town', 'city'] = 'city', near: City | None = None) -> list[City]: Find places.",
        TYPES,
        "- same(x: Any)",
        "- submit(total: int): Gives the final answer, and ends the work.",
    ]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (tf.Execution("a\n"), "a"),
        (tf.Execution("a\n", [1]), "a\n[1]"),
        (tf.Execution(""), "Nothing was printed. Print what you want to see."),
        (tf.Execution("a", None, {"x": 1}), "a\nThe answer was accepted."),
        (tf.CodeExecutionError("NameError: x", printed="a\n"), "a\nNameError: x"),
        (tf.Execution("", "x" * 100), "'" + "x" * 9 + "\n[cut: 92 further characters are left out]"),
    ],
)
def test_what_came_of_code_is_told_in_full_up_to_a_length(outcome, told):
    assert told_of(outcome, 10) == told
