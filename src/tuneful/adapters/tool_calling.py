"""ToolCallingAdapter: the outputs as the arguments of one tool, for models that call tools by themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from tuneful.adapters.base import Parsed, Plan, Section, Values, complaint
from tuneful.adapters.json import JSONAdapter, output_schema
from tuneful.adapters.values import describe, outline
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message, Tool, ToolCall
from tuneful.wire.request import Request
from tuneful.wire.response import Choice

TOOL = "answer"
#: Numbers of calls beyond those of any demo.
_FURTHER = 90_000


class ToolCallingAdapter(JSONAdapter):
    """The model answers by a call of the tool `answer`, whose arguments are the outputs.

    For models that were trained on tools more than on JSON answers, and for providers that hold tool arguments to a
    schema but not an answer. A model that writes JSON instead of calling is understood too. Where the backend has no
    tools this is `JSONAdapter`. A streamed answer is told at its end.

    Args:
        forced: make the model call the tool. False lets it choose, as a model that thinks may demand.

    Cost: about 10 prompt tokens more than `JSONAdapter`, and 20 more for each demo.
    """

    name = "tools"

    def __init__(self, *, forced: bool = True) -> None:
        self.forced = forced

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return a plan with the tool; without tools, that of `JSONAdapter`."""
        if not capabilities.tools:
            return super().constrain(signature, capabilities)
        tool = Tool(TOOL, "Gives the answer.", json.dumps(output_schema(signature)))
        return Plan(signature, tools=(tool,), tool_choice=TOOL if self.forced else "auto")

    def system_text(self, plan: Plan) -> str:
        """Return the instructions and the fields; the schema is the tool's."""
        if not plan.tools:
            return super().system_text(plan)
        signature = plan.signature
        inputs = "\n".join(map(describe, signature.input_fields.values()))
        outputs = "\n".join(map(outline, signature.output_fields.values()))
        return (
            f"{signature.instructions}\n\nYou are given a JSON object with:\n{inputs}\n\n"
            f"You answer by calling the tool `{TOOL}` once, with:\n{outputs}"
        )

    def answer_turns(self, plan: Plan, demo: Values, number: int) -> Sequence[Message]:
        """Return the call of the tool, and its result, without which no service takes a further turn."""
        if not plan.tools:
            return super().answer_turns(plan, demo, number)
        call = ToolCall(call_id(number), TOOL, self.output_text(plan.signature, demo))
        return (Message("assistant", "", (call,)), Message("tool", "Received.", call_id=call.id))

    def read(self, plan: Plan, choice: Choice) -> Parsed:
        """Read the arguments of the first call; where there is none, the text, as JSON."""
        call = next((c for c in choice.tool_calls if c.name == TOOL), None) or next(iter(choice.tool_calls), None)
        if call is None:
            parsed = self.parse(plan, choice.text)
            ignored = plan.tools and parsed.complete
            return replace(parsed, salvages=(*parsed.salvages, "tool not called")) if ignored else parsed
        parsed = self.parse(plan, call.arguments)
        other = call.name != TOOL
        return replace(parsed, salvages=(*parsed.salvages, "tool of another name")) if other else parsed

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Say nothing before the answer is whole: beside a call, a text says nothing of the fields."""
        return [] if plan.tools else super().partial(plan, text)

    def repair(self, request: Request, answer: Choice | str, parsed: Parsed) -> Request:
        """Return the repair turn; what is wrong with a call is said as its result."""
        if isinstance(answer, str) or not answer.tool_calls:
            return super().repair(request, answer, parsed)
        return answered_calls(request, answer, complaint(parsed))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ToolCallingAdapter) and self.forced == other.forced

    def __hash__(self) -> int:
        return hash((type(self), self.forced))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.forced else 'forced=False'})"


def answered_calls(request: Request, answer: Choice, result: str) -> Request:
    """Return the request that goes on from an answer of tool calls, with `result` as what came of each."""
    calls = tuple(
        replace(c, id=c.id or call_id(_FURTHER + i), arguments=_sound(c.arguments))
        for i, c in enumerate(answer.tool_calls, 1)
    )
    results = [Message("tool", result, call_id=c.id) for c in calls]
    return replace(request, messages=(*request.messages, Message("assistant", answer.text, calls), *results))


def call_id(number: int) -> str:
    """Return the identity of a call that was not a model's; some services want nine letters and digits."""
    return f"call{number:05}"


def _sound(arguments: str) -> str:
    """Return arguments as a JSON object: a malformed text, sent back, makes some servers fail."""
    try:
        sound = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        sound = False
    return arguments if sound else json.dumps({TOOL: arguments})
