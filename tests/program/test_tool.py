"""Tools: functions that a model may call."""

import asyncio
import functools
import subprocess
import sys
import threading
from typing import Annotated, Literal

import pydantic
import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM, calls
from tuneful.wire.capabilities import Capabilities


class Place(pydantic.BaseModel):
    city: str
    country: str = "Norway"


def weather(place: Place, days: Annotated[int, pydantic.Field(ge=1, description="how many")] = 1) -> dict:
    """The weather of a place."""
    return {"city": place.city, "country": place.country, "days": days}


async def later(text: str, times: int = 2) -> str:
    """Repeat a text."""
    await asyncio.sleep(0)
    return text * times


def open_ended(query, **filters):
    return [query, filters]


class Greeter:
    """Greets."""

    def __call__(self, name: str) -> str:
        return f"hello {name}"

    def loud(self, name: str) -> str:
        """Greets loudly."""
        return f"HELLO {name}"


class Shout(tf.Module):
    """Shouts a word."""

    def forward(self, word: str):
        return tf.Prediction(shout=word.upper())


# --- what a model is told ---


def test_types_and_docstring_become_the_schema():
    tool = tf.Tool(weather)
    assert (tool.name, tool.description) == ("weather", "The weather of a place.")
    days = tool.parameters["properties"]["days"]
    assert (days["type"], days["minimum"], days["description"], days["default"]) == ("integer", 1, "how many", 1)
    assert tool.parameters["required"] == ["place"]
    assert "Place" in str(tool.parameters["$defs"])


def test_an_argument_without_a_type_takes_any_value():
    tool = tf.Tool(open_ended)
    assert tool.parameters["properties"]["query"] == {}
    assert tool(query=[1, "x"], lang="en") == [[1, "x"], {"lang": "en"}]


@pytest.mark.parametrize(
    ("function", "name", "words", "args", "result"),
    [
        (Greeter().loud, "loud", "Greets loudly.", {"name": "you"}, "HELLO you"),
        (Greeter(), "Greeter", "Greets.", {"name": "you"}, "hello you"),
        (functools.partial(weather, days=3), "weather", "The weather of a place.", {"place": {"city": "Oslo"}}, None),
        (Shout(), "Shout", "Shouts a word.", {"word": "hey"}, tf.Prediction(shout="HEY")),
        (later, "later", "Repeat a text.", {"text": "ab"}, "abab"),
    ],
)
def test_any_callable_is_a_tool(function, name, words, args, result):
    tool = tf.Tool(function)
    assert (tool.name, tool.description) == (name, words)
    found = tool(**args)
    assert result is None or found == result


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tf.Tool(lambda x: x), "Give one: tf.Tool"),
        (lambda: tf.Tool(lambda *xs: xs, name="many"), r"\*xs.*list"),
        (lambda: tf.Tool(_positional_only), "cannot be given by name"),
        (lambda: tf.Tool(min), "does not say what it takes"),
        (lambda: tf.Tool("weather"), "made of a function"),
        (lambda: tf.Tool(weather, timeout_s=0), "timeout_s"),
        (lambda: tf.Tool(weather, max_result_chars=0), "max_result_chars"),
        (lambda: tf.Tool(_takes_a_lock), "written as JSON"),
        (lambda: tf.Tool(weather, name="the weather"), "is no name"),
    ],
)
def test_what_cannot_be_a_tool_is_a_usage_error(make, said):
    with pytest.raises(tf.UsageError, match=said):
        make()


def _positional_only(a, /):
    return a


def _takes_a_lock(lock: threading.Event):
    return lock


# --- calls ---


def test_arguments_are_made_what_the_types_say():
    assert tf.Tool(weather)(place={"city": "Oslo"}, days="3") == {"city": "Oslo", "country": "Norway", "days": 3}
    assert tf.Tool(later)(text=7) == "77"


@pytest.mark.parametrize(
    "args", [{}, {"place": {"city": "Oslo"}, "days": 0}, {"place": "Oslo"}, {"place": {"city": "Oslo"}, "hours": 1}]
)
async def test_wrong_arguments_are_an_input_error_or_an_observation(args):
    tool = tf.Tool(weather)
    with pytest.raises(tf.InputError, match="It takes: place, days"):
        await tool.acall(**args)
    assert (await tool.observe(args)).problem == "wrong arguments"


def _raises(x: int) -> int:
    raise KeyError("no such row")


async def test_an_exception_is_an_observation_and_comes_through_where_it_is_called():
    seen = await tf.Tool(_raises).observe({"x": 1})
    assert seen.problem == "tool failed"
    assert "KeyError" in seen
    assert "no such row" in seen
    with pytest.raises(KeyError):
        await tf.Tool(_raises).acall(x=1)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("plain", "plain"),
        (None, "null"),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        (Place(city="Oslo"), '{"city": "Oslo", "country": "Norway"}'),
        (tf.Prediction(answer="x"), '{"answer": "x"}'),
    ],
)
async def test_a_result_is_text_and_structures_are_json(result, text):
    assert await tf.Tool(lambda: result, name="give").observe({}) == text


async def test_a_long_result_is_cut_and_says_how_much():
    seen = await tf.Tool(lambda: "x" * 5000, name="give", max_result_chars=100).observe({})
    assert seen.startswith("x" * 100 + "\n")
    assert "4,900 further characters" in seen


async def test_a_plain_function_that_hangs_is_abandoned():
    wait = threading.Event()
    tool = tf.Tool(wait.wait, name="hang", timeout_s=0.05)
    seen = await tool.observe({})
    assert seen.problem == "tool timeout"
    with pytest.raises(tf.ToolTimeoutError):
        await tool.acall()
    wait.set()


async def test_an_async_function_that_hangs_is_cancelled():
    cancelled = asyncio.Event()

    async def hang():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    assert (await tf.Tool(hang, timeout_s=0.05).observe({})).problem == "tool timeout"
    await asyncio.wait_for(cancelled.wait(), 10)


def test_the_exit_of_the_program_does_not_wait_for_an_abandoned_tool():
    script = (
        "import threading, tuneful as tf\n"
        "tool = tf.Tool(lambda: threading.Event().wait(), name='hang', timeout_s=0.05)\n"
        "try: tool()\nexcept tf.ToolTimeoutError: print('abandoned')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("abandoned\n", 0), done.stderr


async def test_cancellation_and_budgets_pass():
    def spend():
        raise tf.BudgetExceeded("used up", limit="usd")

    with pytest.raises(tf.BudgetExceeded):
        await tf.Tool(spend).observe({})

    begun = asyncio.Event()

    async def hang():
        begun.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(tf.Tool(hang).observe({}))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_program_inside_of_a_tool_keeps_its_steps_in_the_trace():
    answer = tf.Predict("question -> answer")

    def look(question: str) -> str:
        return answer(question=question, lm=DummyLM([{"answer": "inner"}])).answer

    agent = tf.ReAct("question -> answer", tools=[look])
    lm = ScriptedLM(
        [calls(("look", {"question": "q"})), calls(("submit", {"answer": "x"}))], capabilities=Capabilities(tools=True)
    )
    found = agent(question="q", lm=lm)
    assert found.trajectory[0].observations == ("inner",)
    assert len(found.trace) == 3


def test_callbacks_are_told():
    told = []

    class Watch(tf.Callback):
        def on_tool_start(self, call_id, instance, inputs):
            told.append((instance.name, inputs))

        def on_tool_end(self, call_id, outputs, exception=None):
            told.append(outputs)

    with tf.context(callbacks=[Watch()]):
        tf.Tool(later)(text="a")
    assert told == [("later", {"text": "a"}), "aa"]


def test_literal_types_reach_the_schema():
    def paint(colour: Literal["red", "blue"]) -> str:
        return colour

    assert tf.Tool(paint).parameters["properties"]["colour"]["enum"] == ["red", "blue"]


# --- modules ---


class Translate(tf.Signature):
    """Translate a text."""

    text: str = tf.InputField(desc="what to translate")
    to: Literal["nb", "en"] = tf.InputField(default="en", desc="language")
    times: int = tf.InputField(ge=1, default=1)
    translation: str = tf.OutputField()
    sure: bool = tf.OutputField()


SAID = {"translation": "hei", "sure": True}


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.Predict(Translate),
        lambda: tf.ChainOfThought(Translate),
        lambda: tf.BestOfN(tf.ChainOfThought(Translate), 2, lambda args, pred: 1.0, 1.0),
        lambda: tf.EnsembledProgram([tf.Predict(Translate), tf.Predict(Translate)], size=1),
    ],
    ids=["Predict", "ChainOfThought", "BestOfN", "EnsembledProgram"],
)
async def test_of_a_module_the_signature_is_the_tool(make):
    module = make()
    tool = tf.Tool(module.using(lm=DummyLM([{"reasoning": "r", **SAID}] * 2)))
    assert (tool.name, tool.description) == ("Translate", "Translate a text.")
    given = tool.parameters["properties"]
    assert given["text"] == {"type": "string", "description": "what to translate"}
    assert (given["to"]["enum"], given["to"]["default"], given["to"]["description"]) == (["nb", "en"], "en", "language")
    assert given["times"]["minimum"] == 1
    assert tool.parameters["required"] == ["text"]
    found = tool(text="hello", to="nb")
    assert found == tf.Prediction(SAID)
    assert len(found.trace) == 1
    assert found.trace.steps[0].inputs == {"text": "hello", "to": "nb", "times": 1}
    assert await tool.observe({"text": "hello"}) == '{"translation": "hei", "sure": true}'


async def test_wrong_arguments_for_a_module_cost_no_call():
    lm = DummyLM([])
    tool = tf.Tool(tf.Predict(Translate).using(lm=lm))
    for wrong in ({}, {"text": "x", "to": "fr"}, {"text": "x", "times": 0}, {"text": "x", "tone": "warm"}):
        assert (await tool.observe(wrong)).problem == "wrong arguments"
    assert lm.requests == []


async def test_an_agent_as_a_tool_gives_its_outputs_and_not_its_trajectory():
    lm = DummyLM([{"next_thought": "t", "next_tool_name": "submit", "next_tool_args": {"answer": 3}}])
    tool = tf.Tool(tf.ReAct("question -> answer: int", tools=[]).using(lm=lm), name="count")
    assert await tool.observe({"question": "How many?"}) == '{"answer": 3}'


def test_a_module_that_names_its_arguments_is_told_by_them_and_its_docstring():
    tool = tf.Tool(Shout())
    assert (tool.name, tool.arguments.outline) == ("Shout", "word")


@pytest.mark.parametrize(
    ("error", "passes"),
    [(tf.LMTransportError("down"), True), (tf.LMAuthError("key"), True), (tf.LMInvalidRequestError("long"), False)],
)
async def test_a_model_that_fails_inside_of_a_tool_is_no_failure_of_the_tool(error, passes):
    tool = tf.Tool(tf.Predict(Translate).using(lm=ScriptedLM(lambda request: error, num_retries=0)))
    if passes:
        with pytest.raises(tf.LMError):
            await tool.observe({"text": "x"})
    else:
        assert (await tool.observe({"text": "x"})).problem == "tool failed"
