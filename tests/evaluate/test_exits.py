"""`sys.exit` in somebody's code is that code's failure: it ends neither the evaluation nor the thread it runs in."""

import asyncio
import subprocess
import sys

import pytest
from asked import QA, echo, exact, make_rows

import tuneful as tf
from tuneful.testing import ScriptedLM, calls
from tuneful.wire.capabilities import Capabilities

NATIVE = Capabilities(tools=True)


class Exits(tf.Module):
    def __init__(self):
        self.answer = tf.Predict("question -> answer")

    def forward(self, question):
        found = self.answer(question=question)
        return sys.exit(3) if question == "q1" else found


class ExitsLater(Exits):
    async def forward(self, question):
        found = await self.answer.acall(question=question)
        return sys.exit(3) if question == "q1" else found


class ExitsInATask(Exits):
    """Asks in tasks of its own, one of which exits."""

    async def forward(self, question):
        async def exiting():
            await asyncio.sleep(0)
            sys.exit(3)

        if question == "q1":
            await asyncio.gather(exiting(), self.answer.acall(question=question))
        return await self.answer.acall(question=question)


class ExitsInABatch(Exits):
    def forward(self, question):
        return Exits().batch([{"question": question}, {"question": "q0"}])[0]


@pytest.mark.parametrize("program", [Exits(), ExitsLater(), ExitsInATask(), ExitsInABatch()])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_program_that_exits_has_failed_on_its_row(program, elsewhere, travelling):
    with tf.context(lm=ScriptedLM(echo), executor=travelling if elsewhere else None):
        rows = tf.Evaluate(devset=make_rows(5), metric=exact)(program).rows

    assert [r.status for r in rows] == ["ok", "program_error", "ok", "ok", "ok"]
    assert rows[1].score == 0
    assert rows[1].cause.code == 3
    assert rows[1].error.endswith("the program called sys.exit(3). Raise an exception instead.")


def exits(example, prediction, trace=None):
    return sys.exit("no label") if example.question == "q19" else exact(example, prediction)


async def exits_later(example, prediction, trace=None):
    return exits(example, prediction)


@pytest.mark.parametrize("metric", [exits, exits_later])  # the plain one has shown itself quick: it is on the loop
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_metric_that_exits_says_nothing_of_its_row(metric, elsewhere, travelling):
    with tf.context(lm=ScriptedLM(echo), executor=travelling if elsewhere else None):
        result = tf.Evaluate(devset=make_rows(30), metric=metric, num_threads=1)(QA)

    assert result.statuses == {"ok": 29, "metric_error": 1}
    assert result.score == 100
    assert "the metric called sys.exit('no label')" in result.rows[19].error


def test_a_worker_process_lives_on(processes):
    with tf.context(lm=ScriptedLM(sys.exit), executor=processes), pytest.raises(tf.EvaluationError, match=r"sys\.exit"):
        tf.Evaluate(devset=make_rows(8), metric=tf.metrics.answer_exact_match)(QA)

    assert processes.submit(int, "7").result(timeout=60) == 7


async def test_on_the_callers_own_loop_it_ends_nothing_either():
    with tf.context(lm=ScriptedLM(echo)):
        result = await tf.Evaluate(devset=make_rows(5), metric=exact).acall(ExitsLater())

    assert result.statuses == {"ok": 4, "program_error": 1}


def look(word: str) -> str:
    """Look a word up."""
    sys.exit(1)


async def look_later(word: str) -> str:
    """Look a word up."""
    sys.exit(1)


@pytest.mark.parametrize("tool", [look, look_later])
def test_a_tool_that_exits_has_failed_and_its_model_is_told(tool):
    lm = ScriptedLM([calls((tool.__name__, {"word": "x"})), calls(("submit", {"answer": "none"}))], capabilities=NATIVE)
    agent = tf.ReAct("question -> answer", tools=[tool])

    with pytest.raises(tf.ExitError, match=f"the tool `{tool.__name__}` called sys.exit"):
        tf.Tool(tool)(word="x")
    with tf.context(lm=lm):
        assert agent(question="q").answer == "none"
    assert "sys.exit(1)" in lm.requests[1].messages[-1].text


def test_a_program_that_is_called_directly_exits_as_any_code_does():
    code = """
import sys
import tuneful as tf
class Exits(tf.Module):
    async def forward(self, question):
        sys.exit(3)
try:
    Exits()(question="q")
except SystemExit as error:
    print("exit", error.code)
try:
    list(Exits().stream(question="q"))
except SystemExit as error:
    print("exit", error.code)
Exits()(question="q")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (3, "exit 3\nexit 3\n", "")
