"""What every interpreter does: state, variables, tools, submission, limits, life."""

import asyncio
import datetime as dt
import importlib.util
import random
import time

import pytest

import tuneful as tf
from tuneful.program.running.portal import portal
from tuneful.sandbox import monty, seccomp, worker

confined = pytest.mark.skipif(bool(seccomp.lacking()), reason="processes cannot be confined here")
BOTH = [tf.MontyInterpreter, pytest.param(tf.PythonInterpreter, marks=confined)]
KINDS = pytest.mark.parametrize("kind", BOTH, ids=["monty", "python"])


def double(x: int, times: int = 1) -> int:
    """Double a number."""
    return x * 2**times


async def later(text: str) -> str:
    """Say it later."""
    await asyncio.sleep(0)
    return f"{text} later"


def broken(key: str) -> str:
    """Fail."""
    raise KeyError(key)


@pytest.fixture(params=BOTH, ids=["monty", "python"])
def interpreter(request):
    with request.param(tools=[double, later, broken], timeout_s=5) as made:
        yield made


# --- state ---


def test_state_stays_from_one_piece_of_code_to_the_next(interpreter):
    interpreter.execute("def area(w, h): return w * h\nwidth = 3")
    assert interpreter.execute("print(area(width, 4))\nwidth + 1") == tf.Execution("12\n", 4)


def test_variables_are_handed_over_as_json_values(interpreter):
    given = {"rows": [{"n": 1}, {"n": 2}], "name": "Åse", "day": dt.date(2026, 1, 2), "none": None, "unique": {3}}
    found = interpreter.execute("[sum(r['n'] for r in rows), name, day, none, unique]", given)
    assert found.value == [3, "Åse", "2026-01-02", None, [3]]


@pytest.mark.parametrize(
    ("given", "message"), [({"x": object()}, "cannot be handed"), ({"not a name": 1}, "is no name")]
)
def test_a_variable_that_cannot_be_handed_over_is_an_input_error(interpreter, given, message):
    with pytest.raises(tf.InputError, match=message):
        interpreter.execute("1", given)


def test_a_fresh_one_has_the_limits_and_none_of_the_state(interpreter):
    interpreter.execute("x = 1")
    with interpreter.fresh() as other:
        assert other.timeout_s == 5
        with pytest.raises(tf.CodeExecutionError, match="name 'x' is not defined"):
            other.execute("x")
    assert interpreter.execute("x").value == 1


def test_after_a_stop_the_variables_are_there_again_and_the_rest_is_gone(interpreter):
    interpreter.timeout_s = 0.3
    interpreter.close()
    interpreter.execute("made = limit + 1", {"limit": 7})
    with pytest.raises(tf.CodeExecutionError, match="what earlier code defined is gone"):
        interpreter.execute("while True: pass")
    assert interpreter.execute("limit").value == 7
    with pytest.raises(tf.CodeExecutionError, match="NameError"):
        interpreter.execute("made")


def test_a_closed_one_starts_anew(interpreter):
    interpreter.execute("x = 1")
    interpreter.close()
    interpreter.close()
    with pytest.raises(tf.CodeExecutionError, match="NameError"):
        interpreter.execute("x")


@KINDS
def test_chance_is_the_same_in_each(kind):
    found = []
    for _ in range(2):
        with kind() as interpreter:
            found.append(interpreter.execute("import random\n[random.random(), list({'a', 'b', 'c', 'd'})]").value)
    assert found[0] == found[1]


def test_sleep_takes_no_time(interpreter):
    begun = time.monotonic()
    interpreter.execute("import time\ntime.sleep(60)")
    assert time.monotonic() - begun < 30


# --- tools ---


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("double(4)", 8),
        ("double(4, 2)", 16),
        ("double(times=2, x='4')", 16),
        ("[double(x) for x in range(3)]", [0, 2, 4]),
        ("later('see you')", "see you later"),
        ("f = double\nf(1)", 2),
        ("try:\n  broken('k')\nexcept KeyError as e:\n  said = 'no ' + e.args[0]\nsaid", "no k"),
    ],
)
def test_tools_are_called_by_name_plain_or_async(interpreter, code, value):
    assert interpreter.execute(code).value == value


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("double('four')", "wrong arguments for the tool `double`: x"),
        ("double()", "x: Field required"),
        ("double(1, 2, 3)", "takes x, times"),
        ("double(1, x=2)", "got `x` twice"),
        ("broken('k')", "KeyError"),
        ("triple(1)", "name 'triple' is not defined"),
    ],
)
def test_what_goes_wrong_in_a_call_is_an_exception_in_the_code(interpreter, code, message):
    with pytest.raises(tf.CodeExecutionError, match=message):
        interpreter.execute(f"print('before')\n{code}")
    assert interpreter.execute("1").value == 1


@KINDS
def test_the_time_of_tools_is_not_the_time_of_the_code(kind):
    async def slow() -> int:
        """Take a while."""
        await asyncio.sleep(0.6)
        return 1

    with kind(tools=[slow], timeout_s=0.4) as interpreter:
        assert interpreter.execute("slow() + slow()").value == 2


@KINDS
@pytest.mark.parametrize("error", [tf.BudgetExceeded("used up", limit="usd"), tf.LMServerError("down")])
def test_a_budget_or_a_model_that_ends_in_a_tool_ends_the_run(kind, error):
    def ask(question: str) -> str:
        """Ask a model."""
        raise error

    with kind(tools=[ask]) as interpreter:
        with pytest.raises(type(error)):
            interpreter.execute("try:\n  ask('a')\nexcept BaseException:\n  print('caught')")
        assert interpreter.execute("1").value == 1


@KINDS
def test_a_prompt_that_is_too_long_is_the_code_s_to_mend(kind):
    def ask(question: str) -> str:
        """Ask a model."""
        raise tf.ContextWindowExceededError("too long")

    with kind(tools=[ask]) as interpreter:
        code = "try:\n  ask('a')\nexcept RuntimeError as e:\n  print('caught', e)"
        assert "too long" in interpreter.execute(code).printed


@pytest.mark.parametrize("tools", [[double, double], [lambda submit: 1], "double", [tf.Tool(double, name="submit")]])
def test_tools_that_cannot_be_are_refused(tools):
    with pytest.raises(tf.UsageError):
        tf.MontyInterpreter(tools=tools)


# --- submission ---


@pytest.fixture
def answering(interpreter):
    fields = tf.Signature("question -> answer: int, why: str").output_fields
    with interpreter.fresh(outputs=fields) as made:
        yield made


@pytest.mark.parametrize("call", ["submit(answer=4, why='added')", "submit(4, 'added')", "submit('4', why='added')"])
def test_submit_ends_the_code_with_typed_outputs(answering, call):
    found = answering.execute(f"print('a')\n{call}\nprint('b')")
    assert found == tf.Execution("a\n", None, {"answer": 4, "why": "added"})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("submit(answer=4)", "`why`: it is missing"),
        ("submit(answer='many', why='x')", "not accepted: `answer`"),
        ("submit(1, 2, 3)", "takes answer, why"),
        ("submit(answer=1, why='x', sure=True)", "got `sure`"),
    ],
)
def test_a_wrong_submission_is_an_exception_that_says_why(answering, call, message):
    with pytest.raises(tf.CodeExecutionError, match=message):
        answering.execute(call)
    assert answering.execute("submit(1, 'x')").submitted == {"answer": 1, "why": "x"}


# --- numbers ---


def test_numbers_are_rounded_as_python_rounds_them(interpreter):
    chance = random.Random(0)
    pairs = [(round(chance.uniform(-100, 100), 3), 2) for _ in range(500)]
    pairs += [(2.675, 2), (0.5, 0), (1e300, 2), (2.5, 400), (1250.0, -2), (1250, -2), (7, 1), (-0.001, 2)]
    found = interpreter.execute("[round(x, n) for x, n in pairs]", {"pairs": pairs}).value
    assert found == [round(x, n) for x, n in pairs]
    code = "[round(2.5), round(3.5), round(number=1.25, ndigits=1), type(round(2.0)).__name__, str(round(float('inf'), 2))]"
    assert interpreter.execute(code).value == [2, 4, 1.2, "int", "inf"]


# --- running ---


@KINDS
async def test_many_run_at_once_and_do_not_mix(kind):
    async def one(number):
        async with kind(tools=[later]) as interpreter:
            await interpreter.aexecute("mine = number * 2", {"number": number})
            return (await interpreter.aexecute("[mine, later(str(mine))]")).value

    found = await asyncio.gather(*map(one, range(8)))
    assert found == [[2 * n, f"{2 * n} later"] for n in range(8)]


@KINDS
async def test_one_runs_one_piece_of_code_at_a_time(kind):
    async with kind(tools=[later]) as interpreter:
        with pytest.raises(tf.UsageError, match="one piece of code at a time"):
            await asyncio.gather(interpreter.aexecute("later('a')"), interpreter.aexecute("later('b')"))


@KINDS
async def test_cancelling_stops_the_code_at_once(kind):
    async with kind(timeout_s=60) as interpreter:
        await interpreter.aexecute("1")
        running = asyncio.create_task(interpreter.aexecute("while True: pass"))
        await asyncio.sleep(0.2)
        running.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await interpreter.aexecute("2")).value == 2
        assert time.monotonic() - begun < 30


def test_it_runs_in_the_background_loop_and_in_threads(interpreter):
    async def inside():
        return (await interpreter.aexecute("double(3)")).value

    assert portal.run(inside()) == 6
    assert asyncio.run(inside()) == 6
    assert interpreter.execute("double(4)").value == 8


# --- limits ---


@pytest.mark.parametrize("limit", ["timeout_s", "memory_mb", "max_output_chars", "max_tool_calls"])
@pytest.mark.parametrize("value", [0, -1, True, "10", None])
def test_limits_are_checked(limit, value):
    with pytest.raises(tf.UsageError, match=limit):
        tf.MontyInterpreter(**{limit: value})


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(monty, "find_spec", lambda name: None)
    with pytest.raises(tf.MissingExtraError, match=r"pip install 'tuneful\[code\]'"):
        tf.ProgramOfThought("question -> answer")


def test_without_confinement_python_is_refused_unless_trusted(monkeypatch):
    monkeypatch.setattr(seccomp.sys, "platform", "darwin")
    with pytest.raises(tf.UsageError, match="cannot be confined to a process here: this is darwin"):
        tf.PythonInterpreter()
    assert "no files" not in tf.PythonInterpreter(trusted=True).description


def test_trusted_code_is_not_confined_and_still_limited(tmp_path):
    with tf.PythonInterpreter(trusted=True, timeout_s=0.5) as interpreter:
        interpreter.execute(f"open({str(tmp_path / 'made')!r}, 'w').write('x')")
        assert (tmp_path / "made").read_text() == "x"
        assert interpreter.execute("import json, sqlite3, os; len(os.environ)").value == 0
        with pytest.raises(tf.CodeExecutionError, match="did not end"):
            interpreter.execute("import subprocess; subprocess.run(['sleep', '60'])")


@confined
def test_a_kernel_that_refuses_the_filter_is_an_error(monkeypatch):
    monkeypatch.setattr(seccomp, "confinement", lambda: {"call": 317, "filter": "00" * 8})
    with pytest.raises(tf.CodeInterpreterError, match="did not start: OSError"):
        tf.PythonInterpreter().execute("1")


@confined
def test_further_modules_are_loaded_before_and_missing_ones_are_an_error():
    with tf.PythonInterpreter(modules=["numpy"]) as interpreter:
        assert interpreter.execute("import numpy\nfloat(numpy.eye(3).sum())").value == 3.0
    with pytest.raises(tf.CodeInterpreterError, match="No module named 'numpie'"):
        tf.PythonInterpreter(modules=["numpie"]).execute("1")
    with pytest.raises(tf.UsageError, match="list of names"):
        tf.PythonInterpreter(modules="numpy")


# --- what a model is told of them ---


def test_what_is_said_of_monty_is_true():
    lacking = {
        "yield": "def f():\n  yield 1",
        "inheritance": "class A: pass\nclass B(A): pass",
        "exceptions of your own": "class E(Exception): pass",
        "@property": "class A:\n  @property\n  def x(self): return 1",
        "@staticmethod": "class A:\n  @staticmethod\n  def x(): return 1",
        "@classmethod": "class A:\n  @classmethod\n  def x(cls): return 1",
        "del": "a = {1: 2}\ndel a[1]",
        "from x import *": "from math import *",
        "input": "input()",
        "dir": "dir(1)",
        "globals": "globals()",
        "bytearray": "bytearray(1)",
        "by `map`": "list(map(double, [1]))",
    }
    with tf.MontyInterpreter(tools=[double]) as interpreter:
        for module in monty.MODULES.split():
            interpreter.execute(f"import {module}")
        for words, code in lacking.items():
            assert words in interpreter.description
            with pytest.raises(tf.CodeExecutionError):
                interpreter.execute(code)


@confined
def test_what_is_said_of_python_is_true():
    with tf.PythonInterpreter() as interpreter:
        for module in worker.MODULES.split():
            interpreter.execute(f"import {module}")
            assert module in interpreter.description
        code = "import datetime\nclass A:\n  @property\n  def x(self): yield 1\nclass B(A): pass\nlist(B().x)"
        assert interpreter.execute(code).value == [1]
        assert (
            interpreter.execute("str(datetime.datetime.strptime('2026-01-02', '%Y-%m-%d').date())").value
            == "2026-01-02"
        )
    assert importlib.util.find_spec("numpy") is None or "numpy" not in interpreter.description
