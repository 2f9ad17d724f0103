"""ToolCalls: the calls that a model wants made, and how they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.errors import nearest
from tuneful.program.running.concurrency import gather_bounded
from tuneful.program.running.portal import portal
from tuneful.program.tools.tool import Observation, Tool, tools_by_name
from tuneful.program.trace import note_event
from tuneful.spec.tool_calls import ToolCall, ToolCallList

#: Calls of one answer that run at once.
_AT_ONCE = 64


class ToolCalls(ToolCallList):
    """The calls that a model wants made: the type of an output beside an input of tools.

    >>> import tuneful as tf
    >>> from tuneful.testing import ScriptedLM
    >>> def double(x: int) -> int:
    ...     return 2 * x
    >>> form = tf.Signature("question, tools: list[tf.Tool] -> calls: tf.ToolCalls", custom_types={"tf": tf})
    >>> ask = tf.Predict(form)
    >>> lm = ScriptedLM(['[[ ## calls ## ]] [{"name": "double", "args": {"x": 4}}]'])
    >>> calls = ask(question="Twice four?", tools=[double], lm=lm).calls
    >>> calls.tool_calls[0].name, calls.run([double])
    ('double', ['8'])

    With a backend that calls tools by itself the calls come from there, otherwise from the text. Nothing is called
    before you say so.

    Attributes:
        tool_calls: the calls: `name` and `args`.
        thought: what the model said beside them, where it called natively.
    """

    def run(self, tools: Iterable[Any]) -> list[Observation]:
        """Make the calls, side by side, and block until all have ended. Returns what the model is to be told.

        Only `tools` are ever called. A tool that fails, is unknown or takes too long is an observation that says so.

        Args:
            tools: functions or `Tool`s.

        Raises:
            UsageError: two tools of one name.
            BudgetExceeded: inside of a tool.
        """
        return portal.run(self.arun(tools))

    async def arun(self, tools: Iterable[Any]) -> list[Observation]:
        """Do what `run` does, in the current event loop."""
        return await observed(self.tool_calls, tools_by_name(tools))


async def observed(calls: Iterable[ToolCall], tools: Mapping[str, Tool]) -> list[Observation]:
    """Make calls side by side. What goes wrong is counted in the trace."""

    async def one(call: ToolCall) -> Observation:
        tool = tools.get(call.name)
        if tool is not None:
            return await tool.observe(call.args)
        there = ", ".join(tools) or "none"
        return Observation(
            f"there is no tool `{call.name}`.{nearest(call.name, tools)} Tools: {there}.", "unknown tool"
        )

    found: list[Observation] = await gather_bounded(list(calls), one, _AT_ONCE)
    for observation in found:
        if observation.problem:
            note_event(observation.problem)
    return found
