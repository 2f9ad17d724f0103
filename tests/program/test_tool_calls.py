"""The calls that a predictor returns, and how they are made."""

import asyncio

import pydantic
import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM, calls
from tuneful.wire.capabilities import Capabilities


async def later(text: str, times: int = 2) -> str:
    """Repeat a text."""
    await asyncio.sleep(0)
    return text * times


def weather(city: str) -> str:
    """The weather."""
    return city


ASK = tf.Predict("question, tools: list[tf.Tool] -> calls: tf.ToolCalls")


@pytest.mark.parametrize(
    "lm",
    [
        lambda: ScriptedLM(['[[ ## calls ## ]] [{"name": "later", "args": {"text": "a"}}]']),
        lambda: ScriptedLM([calls(("later", {"text": "a"}))], capabilities=Capabilities(tools=True)),
        lambda: ScriptedLM(['{"name": "later", "arguments": {"text": "a"}}'], capabilities=Capabilities(tools=True)),
    ],
)
def test_a_predictor_returns_calls_natively_and_as_text(lm):
    found = ASK(question="q", tools=[later, weather], lm=lm()).calls
    assert found == tf.ToolCalls([tf.ToolCall("later", {"text": "a"})])
    assert found.run([later, weather]) == ["aa"]


async def test_calls_run_side_by_side_in_order():
    meet = asyncio.Barrier(2)

    async def first(name: str) -> str:
        await meet.wait()
        return name

    wanted = tf.ToolCalls([{"name": "first", "args": {"name": "a"}}, {"name": "first", "args": {"name": "b"}}])
    assert await asyncio.wait_for(wanted.arun([first]), 20) == ["a", "b"]


def test_an_unknown_tool_is_an_observation_that_names_the_nearest():
    (seen,) = tf.ToolCalls([{"name": "latter", "args": {}}]).run([later])
    assert seen.problem == "unknown tool"
    assert "Did you mean `later`?" in seen


def test_only_the_given_tools_are_ever_called():
    (seen,) = tf.ToolCalls([{"name": "weather", "args": {}}]).run([])
    assert seen.problem == "unknown tool"


def test_two_tools_of_one_name_are_a_usage_error():
    with pytest.raises(tf.UsageError, match="two tools of the name `later`"):
        tf.ToolCalls([]).run([later, tf.Tool(weather, name="later")])


@pytest.mark.parametrize("junk", ["text", 5, [1], [{"args": {}}], [{"name": "x", "args": [1]}], [{"name": ""}]])
def test_what_is_no_list_of_calls_is_refused(junk):
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(tf.ToolCalls).validate_python(junk)


def test_a_tool_that_is_none_is_refused_before_any_call():
    with pytest.raises(tf.InputError, match="no tool"):
        ASK(question="q", tools=["later"], lm=ScriptedLM([]))


async def test_a_budget_reached_in_one_call_ends_the_others():
    ended = asyncio.Event()

    async def spend():
        await asyncio.sleep(0)
        raise tf.BudgetExceeded("used up", limit="usd")

    async def hang():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    wanted = tf.ToolCalls([{"name": "hang", "args": {}}, {"name": "spend", "args": {}}])
    with pytest.raises(tf.BudgetExceeded):
        await wanted.arun([spend, hang])
    await asyncio.wait_for(ended.wait(), 20)
