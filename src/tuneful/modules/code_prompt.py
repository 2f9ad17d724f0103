"""What a model is told that writes code: what there is to write with, and what came of it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.errors import CodeExecutionError, UsageError
from tuneful.program.predict import Predict
from tuneful.program.tools.tool import Tool
from tuneful.program.trace import note_event
from tuneful.sandbox.interpreter import Execution, Interpreter, cut
from tuneful.sandbox.submission import SUBMIT
from tuneful.spec.fields import Field, InputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature
from tuneful.spec.tool_calls import ToolCall
from tuneful.spec.trajectory import TrajectoryStep
from tuneful.spec.types import type_name

#: The input that says what code can use.
SANDBOX = "sandbox"
#: How running code is called in a trajectory.
PYTHON = "python"

_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "null": "None",
}
_NOTHING = "Nothing was printed. Print what you want to see."


def with_sandbox(signature: Signature, interpreter: Interpreter, tools: Iterable[Tool], asked: Signature) -> Signature:
    """Return a signature with an input that says what code can use: the interpreter, variables, functions.

    Args:
        signature: of a predictor that writes code.
        interpreter: what runs it.
        tools: functions that it may call.
        asked: the signature of the module: its inputs are variables, and its outputs are submitted.
    """
    variables = ", ".join(f"`{n}` ({type_name(f.type)})" for n, f in asked.input_fields.items())
    parts = [interpreter.description]
    if variables:
        parts.append(f"Variables that are set: {variables}.")
    parts.append("Functions (they give texts, numbers, lists and dicts, also where an object is named):")
    for tool in tools:
        parts.append(_told(tool.name, _outline(tool), tool.description))
        if types := tool.parameters.get("$defs"):
            parts.append(f"  Types: {json.dumps(types, ensure_ascii=False)}")
    parts.append(_told(SUBMIT, _shape(asked.output_fields), "Gives the final answer, and ends the work."))
    told = InputField(desc="what the code can use", default="\n".join(parts))
    return signature.prepend(SANDBOX, told, str)


class CodeWriter(Predict[Prediction]):
    """A predictor that writes code. Its demos do not tell what code could use when they were made: what is in force is.

    Args:
        signature: with an input from `with_sandbox`.
        config: as for `Predict`.
    """

    def _as_asked(self, inputs: dict[str, Any]) -> tuple[Predict[Any], dict[str, Any]]:
        return self._with_cases(), inputs

    def _cases(self, case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [{name: value for name, value in case.items() if name != SANDBOX}]


def refuse_names(module: str, signature: Signature, own: Iterable[str], functions: Iterable[str] = ()) -> None:
    """Refuse a signature with the names that a module needs for itself.

    Raises:
        UsageError: it has such a name.
    """
    taken = [n for n in own if n in signature.fields]
    if taken:
        raise UsageError(
            f"the signature of a {module} has a field `{taken[0]}`, which is the name of one of its own: "
            f"{', '.join(own)}. Give it another name."
        )
    hidden = [n for n in (*functions, SUBMIT) if n in signature.input_fields]
    if hidden:
        raise UsageError(
            f"the input `{hidden[0]}` of a {module} has the name of a function that its code may call. Give one of "
            "them another name."
        )


def step_of(code: str, observation: str, thought: str = "") -> TrajectoryStep:
    """Return a step in which code was run."""
    return TrajectoryStep(thought, (ToolCall(PYTHON, {"code": str(code)}),), (observation,))


async def outcome_of(
    interpreter: Interpreter, code: str, variables: Mapping[str, Any]
) -> Execution | CodeExecutionError:
    """Run code and return what comes of it: where it is at fault, the error, which is counted in the trace."""
    try:
        return await interpreter.aexecute(code, variables)
    except CodeExecutionError as error:
        note_event("code failed")
        return error


def told_of(outcome: Execution | CodeExecutionError, most: int) -> str:
    """Return what a model is told of the code that it wrote: what it printed, and how it ended.

    Args:
        outcome: what came of it.
        most: characters of the value of its last line.
    """
    if isinstance(outcome, CodeExecutionError):
        end = str(outcome)
    elif outcome.submitted is not None:
        end = "The answer was accepted."
    else:
        end = "" if outcome.value is None else cut(repr(outcome.value), most)
    return f"{outcome.printed.rstrip()}\n{end}".strip() or _NOTHING


def _told(name: str, outline: str, description: str) -> str:
    return f"- {name}{outline}" + (f": {description}" if description else "")


def _shape(outputs: Mapping[str, Field]) -> str:
    told = (
        f"{n}: {type_name(f.type)}" + (f" ({f.constraint_text})" if f.constraints else "") for n, f in outputs.items()
    )
    return f"({', '.join(told)})"


def _outline(tool: Tool) -> str:
    """Return arguments and result of a tool as Python writes them."""
    required = tool.parameters.get("required", ())
    arguments = (
        f"{name}: {_type(schema)}" + ("" if name in required else f" = {schema.get('default')!r}")
        for name, schema in tool.parameters.get("properties", {}).items()
    )
    return f"({', '.join(arguments)}){_result(tool.func)}"


def _type(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "Any"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return f"Literal[{', '.join(map(repr, schema['enum']))}]"
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(s) for s in schema["anyOf"]))
    found = _TYPES.get(str(schema.get("type")), "Any")
    return f"list[{_type(schema['items'])}]" if found == "list" and "items" in schema else found


def _result(function: Any) -> str:
    """Return what a function says that it returns, or ""."""
    try:
        found = inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return ""
    if found is inspect.Signature.empty or isinstance(found, str):
        return "" if not isinstance(found, str) else f" -> {found}"
    return f" -> {type_name(found)}"
