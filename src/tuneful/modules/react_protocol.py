"""How an agent says what it does next: by the backend's own tool calls, or in the fields of a signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from tuneful.adapters.dialogue import history_field
from tuneful.adapters.json import output_schema
from tuneful.adapters.objects import read_members
from tuneful.adapters.values import absent
from tuneful.errors import UsageError
from tuneful.program.predict import Predict
from tuneful.program.tool import Observation, Tool
from tuneful.program.tool_calls import ToolCalls
from tuneful.program.trace import Step
from tuneful.spec.example import Example
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.history import History
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature
from tuneful.spec.tool_calls import ToolCall
from tuneful.spec.tool_form import ToolForm
from tuneful.spec.trajectory import Trajectory

#: The tool whose arguments are the answer.
SUBMIT = "submit"

_OWN = ("tools", "trajectory", "calls", "next_thought", "next_tool_name", "next_tool_args")
_TEXT = ("next_thought", "next_tool_name", "next_tool_args")

_WORK = (
    "Work in steps. In each step, look at the steps so far and at what the tools gave, and call a tool that brings you "
    "nearer to {outputs}. As soon as you know enough, call `{submit}` with {outputs}."
)
_ANSWER = "The steps in `trajectory` were taken to find out. Go by what they gave."


@dataclass(frozen=True)
class Decision:
    """What an agent does next."""

    thought: str
    calls: tuple[ToolCall, ...]


class Protocol:
    """The signatures of an agent's predictors, and what their answers mean.

    Args:
        signature: what the agent is asked for.
        tools: its tools, by name.

    Attributes:
        step: the signature of a step, in the text protocol.
        answer: the signature that asks for the outputs outright.
    """

    def __init__(self, signature: Signature, tools: Mapping[str, Tool]) -> None:
        taken = [n for n in _OWN if n in signature.fields]
        if taken:
            raise UsageError(
                f"the signature of a ReAct has a field `{taken[0]}`, which is the name of one of its own: "
                f"{', '.join(_OWN)}. Give it another name."
            )
        self._outputs = signature.output_fields
        self._history = history_field(signature)
        outputs = ", ".join(f"`{n}`" for n in signature.output_fields)
        submit = ToolForm(SUBMIT, f"Gives the final answer: {outputs}. It ends the work.", output_schema(signature))
        asked = signature.append("trajectory", InputField(desc="the steps so far, and what came of them"), Trajectory)
        self.answer = asked.with_instructions(f"{signature.instructions}\n\n{_ANSWER}")
        step = asked.prepend("tools", InputField(default=[*tools.values(), submit]), list[ToolForm])
        for name in signature.output_fields:
            step = step.delete(name)
        for name, type_, desc in (
            ("next_thought", str, "what is known by now, and what to do next"),
            ("next_tool_name", Literal[(*tools, SUBMIT)], "the tool to call"),
            ("next_tool_args", dict[str, Any], "its arguments"),
        ):
            step = step.append(name, OutputField(desc=desc), type_)
        work = _WORK.format(outputs=outputs, submit=SUBMIT)
        self.step = step.with_instructions(f"{signature.instructions}\n\n{work}")

    def predictor(self, react: Predict[Any], *, native: bool) -> Predict[Any]:
        """Return the predictor of a step: the one that is tuned, as the protocol in use has it."""
        if not native and not react.demos and not react.demo_pool.rows:
            return react
        twin = object.__new__(_NativeStep if native else Predict)
        twin.__dict__.update(react.__dict__)  # its path in the program with it
        twin.demos = [as_shown(demo, native=native) for demo in react.demos]
        twin.demo_pool = react.demo_pool.shown_as(lambda demo: as_shown(demo, native=native))
        if native:
            twin.signature = _native(react.signature)
        return twin

    def step_inputs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of a step: an earlier turn of a dialogue is shown as the step that submitted its answer."""
        if not self._history or given[self._history] is None:
            return dict(given)
        turns = [self._as_step(turn) for turn in given[self._history].messages]
        return {**given, self._history: History(messages=turns)}

    def _as_step(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        args = Example({n: turn[n] for n in self._outputs if n in turn}).to_dict()
        if not args:
            return dict(turn)
        rest = {n: v for n, v in turn.items() if n not in args and n != "trajectory"}
        calls = ToolCalls((ToolCall(SUBMIT, args),))
        return {**rest, "calls": calls, **_as_text(calls)}

    def decision(self, answer: Prediction) -> Decision:
        """Return what the answer of a step means."""
        if "calls" in answer:
            return Decision(answer.calls.thought, answer.calls.tool_calls)
        return Decision(answer.next_thought, (ToolCall(answer.next_tool_name, answer.next_tool_args),))

    def submitted(self, call: ToolCall) -> tuple[dict[str, Any] | None, Observation]:
        """Return the outputs that a call of `submit` gives, or None, and what the model is told of it."""
        read, problems = read_members(call.args, self._outputs, [])
        absent(self._outputs, read, problems)
        if problems:
            wrong = "; ".join(f"`{name}`: {problem}" for name, problem in problems.items())
            return None, Observation(
                f"The answer was not accepted: {wrong}. Mend it, and submit again.", "wrong answer"
            )
        return {n: read[n] for n in self._outputs}, Observation("The answer was accepted.")


class _NativeStep(Predict[Prediction]):
    """A step by the backend's own calls. Its trace says the same as that of the text protocol, and `calls` besides.

    So a demo that is made of it fits either protocol; of several calls at once, the text protocol shows the first.
    """

    async def _ask(self, step: Step, inputs: Mapping[str, Any]) -> Prediction:
        found = await super()._ask(step, inputs)
        step.outputs |= _as_text(found.calls)
        return found


@lru_cache(maxsize=256)
def _native(step: Signature) -> Signature:
    """Return the signature of a step whose calls are the backend's own. Instructions and wording are the same."""
    native = step
    for name in _TEXT:
        native = native.delete(name)
    return native.append("calls", OutputField(min_length=1), ToolCalls).with_instructions(step.instructions)


def as_shown(demo: Any, *, native: bool) -> dict[str, Any]:
    """Return a demo or a case of a step in the form of one protocol, whichever it was made in."""
    row = dict(demo.items() if isinstance(demo, Example) else demo)
    row.pop("tools", None)  # those in force are shown, once
    if all(name in row for name in _TEXT):
        if native and "calls" not in row:
            row["calls"] = ToolCalls((ToolCall(row["next_tool_name"], row["next_tool_args"]),), row["next_thought"])
    elif "calls" in row and not native:
        row |= _as_text(ToolCalls.from_json(row["calls"]))
    return row


def _as_text(calls: ToolCalls) -> dict[str, Any]:
    """Return calls in the fields of the text protocol, which has room for the first."""
    if not calls:
        return {}
    first = calls[0]
    said = calls.thought or f"Call {first.name}."
    return dict(zip(_TEXT, (said, first.name, dict(first.args)), strict=True))
