"""What goes wrong in one run of a program is a typed error or an observation, and the trace of that run is kept."""

import threading

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

FOREVER = threading.Event()


def breaking(query, k):
    if "bad" in query:
        raise ConnectionError("the index is gone")
    return ["fine"]


def junk(query, k):
    return {"no": "passages"} if "bad" in query else ["fine"]


def small(query, k):
    return tf.BM25(["a bad passage", "a fine one"])(query, k=10**6)


class Searching(tf.Module):
    """Asks for a query, and searches."""

    def __init__(self, rm):
        self.query = tf.Predict("question -> query")
        self.find = tf.Retrieve(rm=rm)

    def forward(self, question):
        return self.find(self.query(question=question).query)


class Constrained(tf.Module):
    """Asks for a query that must not be bad, which it always is."""

    def __init__(self, constraint):
        self.query = tf.Predict("question -> query")
        self.constraint = constraint

    def forward(self, question):
        found = self.query(question=question)
        self.constraint("bad" not in found.query, "Ask for nothing bad.", self.query)
        return found


def hang() -> str:
    """Wait."""
    FOREVER.wait(30)
    return "at last"


def untyped(city, **more):
    """Look a city up, somehow."""
    raise KeyError(city) if "bad" in city else ValueError(more)


def called(name, args):
    return f"[[ ## next_thought ## ]] t\n[[ ## next_tool_name ## ]] {name}\n[[ ## next_tool_args ## ]] {args}"


def agent(tool):
    return tf.ReAct("question -> answer", tools=[tool])


def hanging():
    return agent(tf.Tool(hang, timeout_s=0.05))


def query(request):
    return f"[[ ## query ## ]] {'a bad one' if 'bad' in request.messages[-1].text else 'a fine one'}"


def calling(name, args):
    def answer(request):
        text = request.messages[-1].text
        done = "fine" in text or '"observations"' in text
        return called("submit", '{"answer": "x"}') if done else called(name, args)

    return answer


def code(request):
    text = request.messages[-1].text
    wrong = "bad" in text and "SyntaxError" not in text
    return f"[[ ## next_thought ## ]] t\n[[ ## code ## ]] {'submit(1 +' if wrong else 'submit(1)'}"


def never_code(request):
    return "[[ ## code ## ]] submit(1 +" if "bad" in request.messages[-1].text else "[[ ## code ## ]] submit(1)"


#: program, what its model says, status of the row that goes wrong, its error, the paths of its steps, what is counted
CASES = {
    "a retriever that raises": (
        lambda: Searching(breaking), query, "infra_error", "RetrieverError", ["query"], {},
    ),
    "a retriever that returns junk": (lambda: Searching(junk), query, "program_error", "UsageError", ["query"], {}),
    "a k larger than the corpus": (lambda: Searching(small), query, "ok", None, ["query"], {}),
    "a tool that hangs": (hanging, calling("hang", "{}"), "ok", None, ["react"] * 2, {"tool timeout": 1}),
    "a tool with no types": (
        lambda: agent(untyped), calling("untyped", '{"city": "bad", "x": [1]}'), "ok", None, ["react"] * 2,
        {"tool failed": 1},
    ),
    "code that does not parse": (
        lambda: tf.CodeAct("question -> answer: int", tools=[]), code, "ok", None, ["act"] * 2, {"code failed": 1},
    ),
    "code that never parses": (
        lambda: tf.ProgramOfThought("question -> answer: int", max_iters=2), never_code, "program_error",
        "CodeExecutionError", ["code_generate", "code_regenerate"], {"code failed": 2},
    ),
    "a constraint that always fails": (
        lambda: Constrained(tf.Assert), query, "program_error", "ConstraintError", ["query"] * 3,
        {"asked again by a constraint": 2},
    ),
    "a suggestion that always fails": (
        lambda: Constrained(tf.Suggest), query, "ok", None, ["query"] * 3,
        {"asked again by a constraint": 2, "suggestion not met": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_goes_wrong_is_a_row_with_its_trace(case):
    make, answer, status, error, paths, counted = CASES[case]
    rows = [tf.Example(question=q).with_inputs("question") for q in ("a fine one", "a bad one")]
    with tf.context(lm=ScriptedLM(answer)):
        fine, bad = tf.Evaluate(devset=rows, metric=lambda e, p, t=None: True)(make()).rows
    assert (fine.status, fine.error) == ("ok", None)
    assert bad.status == status, bad.error
    assert error is None or error in bad.error
    assert [step.path for step in bad.trace] == paths
    assert {kind: bad.trace.events[kind] for kind in counted} == counted
    assert all(step.request is not None and step.responses for step in bad.trace)


@pytest.mark.parametrize("make", [tf.ReAct, tf.CodeAct])
def test_two_tools_of_one_name_are_a_usage_error_before_any_call(make):
    with pytest.raises(tf.UsageError, match="two tools of the name `hang`"):
        make("question -> answer", tools=[hang, tf.Tool(hang)])
    with pytest.raises(tf.UsageError, match="two tools of the name `hang`"):
        tf.ToolCalls(()).run([hang, hang])
