"""How an agent says what it does next: by the backend's own tool calls, or in the fields of a signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from tuneful.adapters.dialogue import history_field
from tuneful.adapters.json import output_schema
from tuneful.adapters.objects import read_members
from tuneful.adapters.values import absent
from tuneful.errors import UsageError
from tuneful.program.lm import current_lm
from tuneful.program.predict import Predict
from tuneful.program.tools.tool import Observation, Tool
from tuneful.program.tools.tool_calls import ToolCalls
from tuneful.program.trace import Step
from tuneful.spec.example import Example
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.history import History
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature
from tuneful.spec.tool_calls import ToolCall
from tuneful.spec.tool_form import ToolForm
from tuneful.spec.trajectory import Trajectory, TrajectoryStep

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
    """What an agent does next.

    Args:
        thought: why.
        calls: the tools that it calls, side by side.
        step: the recorded step of native calls.
    """

    thought: str
    calls: tuple[ToolCall, ...]
    step: Step | None = None

    def observed(self, observations: Sequence[str]) -> None:
        """Keep what came of the calls beside them, so that a demo of native calls can show it."""
        if self.step is not None:
            self.step.outputs["calls"] = ToolCalls(self.calls, self.thought, tuple(map(str, observations)))


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
        forms = [ToolForm(t.name, t.description, t.parameters) for t in tools.values()]
        step = asked.prepend("tools", InputField(default=[*forms, submit]), list[ToolForm])
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

    def step_inputs(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of a step: an earlier turn of a dialogue is shown as the step that submitted its answer."""
        if not isinstance(given.get(self._history), History):
            return given
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
            return Decision(answer.calls.thought, answer.calls.tool_calls, answer.__dict__["_step"])
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


class AgentStep(Predict[Prediction]):
    """A step of an agent, in the protocol that its LM takes; what is tuned is the same for both.

    The trace of a native step says the same as that of the text protocol, and `calls` besides, so that a demo that is
    made of it fits either protocol.

    Args:
        protocol: of the agent.
        native: whether the backend's own tool calling is used where it has it.
        options: as for `Predict`.
    """

    def __init__(self, protocol: Protocol, *, native: bool, **options: Any) -> None:
        super().__init__(protocol.step, **options)
        self.native = native
        self._protocol = protocol

    @property
    def _natively(self) -> bool:
        return self.native and (self.lm or current_lm()).capabilities.tools

    def _as_asked(self, inputs: dict[str, Any]) -> tuple[Predict[Any], dict[str, Any]]:
        predictor = self._with_cases()
        if self._natively:
            predictor = predictor._twin()
            predictor.signature = _native(self.signature)
        return predictor, self._protocol.step_inputs(inputs)

    def _cases(self, case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        row = {name: value for name, value in case.items() if name != "tools"}  # those in force are shown, once
        return [_as_native(row)] if self._natively else _as_texts(row)

    async def _ask(self, step: Step, inputs: Mapping[str, Any]) -> Prediction:
        found = await super()._ask(step, inputs)
        if "calls" in found:
            step.outputs |= _as_text(found.calls)
            found.__dict__["_step"] = step
        return found


@lru_cache(maxsize=256)
def _native(step: Signature) -> Signature:
    """Return the signature of a step whose calls are the backend's own. Instructions and wording are the same."""
    native = step
    for name in _TEXT:
        native = native.delete(name)
    return native.append("calls", OutputField(min_length=1), ToolCalls).with_instructions(step.instructions)


def _as_native(row: dict[str, Any]) -> dict[str, Any]:
    """Return a case, whichever protocol it was made in, as one of native calls."""
    if "calls" in row or not all(name in row for name in _TEXT):
        return row
    return {**row, "calls": ToolCalls((ToolCall(row["next_tool_name"], row["next_tool_args"]),), row["next_thought"])}


def _as_texts(row: dict[str, Any]) -> list[Mapping[str, Any]]:
    """Return a case, whichever protocol it was made in, in the fields of the text protocol.

    Calls side by side become steps of one call each, as that protocol would have taken them, also those before.
    """
    if isinstance(row.get("trajectory"), (Trajectory, list)):
        row["trajectory"] = past = _singly(Trajectory.from_json(row["trajectory"]))
    else:
        past = Trajectory()
    if "calls" not in row:
        return [row]
    calls = ToolCalls.from_json(row.pop("calls"))
    step = TrajectoryStep(calls.thought, calls.tool_calls, calls.observations)
    found: list[Mapping[str, Any]] = []
    for lone in _singly(Trajectory((step,))):
        found.append({**row, **_as_text(ToolCalls(lone.calls, lone.thought))})
        past = past.with_step(lone)
        row = {**row, "trajectory": past}
    return found


def _singly(trajectory: Trajectory) -> Trajectory:
    """Return a trajectory whose steps have one call each. `submit`, which ends the work, is the last of its step."""
    steps: list[TrajectoryStep] = []
    for step in trajectory:
        if len(step.calls) < 2:
            steps.append(step)
            continue
        order = sorted(range(len(step.calls)), key=lambda i: step.calls[i].name == SUBMIT)
        for place, i in enumerate(order):
            thought = step.thought if not place else _said(step.calls[i])
            steps.append(TrajectoryStep(thought, (step.calls[i],), step.observations[i : i + 1]))
    return Trajectory(tuple(steps), trajectory.left_out)


def _as_text(calls: ToolCalls) -> dict[str, Any]:
    """Return calls in the fields of the text protocol, which has room for the first."""
    if not calls:
        return {}
    first = calls[0]
    return dict(zip(_TEXT, (calls.thought or _said(first), first.name, dict(first.args)), strict=True))


def _said(call: ToolCall) -> str:
    """Return the thought of a call that came without one."""
    return f"Call {call.name}."
