"""A program that computes the answer."""

import pytest

import tuneful as tf
from tuneful.sandbox import seccomp
from tuneful.testing import DummyLM, ScriptedLM

QUESTION = "17 boxes hold 24 pens each, and 5 are lost. How many are left?"


def solve(**options):
    return tf.ProgramOfThought("question -> answer: int", **options)


def written(*codes, answers=()):
    return DummyLM([*({"code": code} for code in codes), *answers])


def test_what_the_program_submits_is_the_answer_in_one_call():
    lm = written("boxes = 17\nsubmit(answer=boxes * 24 - 5)")
    found = solve()(question=QUESTION, lm=lm)
    assert found.answer == 403
    assert len(lm.requests) == 1
    assert found.trajectory[0].calls[0].args == {"code": "boxes = 17\nsubmit(answer=boxes * 24 - 5)"}
    assert found.trace.noted == {}


def test_code_in_a_fence_is_read_without_it():
    lm = ScriptedLM(["[[ ## code ## ]]\n```python\nsubmit(2)\n```"])
    assert solve()(question="1+1?", lm=lm).answer == 2


def test_the_model_is_told_what_there_is_to_write_with():
    lm = written("submit(1)")
    solve()(question="q", lm=lm)
    prompt = "\n".join(m.text for m in lm.requests[0].messages)
    for said in ("`question` (str)", "submit(answer: int)", "no files", "inheritance of classes"):
        assert said in prompt


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("submit(answer=1 +", "SyntaxError"),
        ("submit(answer=1/0)", "ZeroDivisionError"),
        ("submit(answer='many')", "not accepted"),
        ("submit(count=3)", "got `count`"),
        ("x = 3", "Nothing was printed"),
        ("import statistics", "No module named 'statistics'"),
        ("while True: pass", "did not end in 0.3 s"),
    ],
)
def test_a_program_that_fails_is_shown_with_its_error_and_written_anew(code, error):
    lm = written(code, "submit(403)")
    found = solve(interpreter=tf.MontyInterpreter(timeout_s=0.3))(question=QUESTION, lm=lm)
    assert found.answer == 403
    second = lm.requests[1].messages[-1].text
    assert error in second
    assert code in second
    assert [s.path for s in found.trace] == ["code_generate", "code_regenerate"]


def test_what_the_program_only_prints_is_read_in_a_further_call():
    lm = written("print(17 * 24 - 5)", answers=[{"answer": 403}])
    found = solve()(question=QUESTION, lm=lm)
    assert found.answer == 403
    assert "403" in lm.requests[1].messages[-1].text
    assert [s.path for s in found.trace] == ["code_generate", "generate_output"]


def test_state_stays_and_inputs_are_set_once():
    program = tf.ProgramOfThought("numbers: list[int] -> total: int")
    lm = written("numbers.append(10)\nseen = len(numbers)\n1/0", "submit(sum(numbers) + seen)")
    assert program(numbers=[1, 2], lm=lm).total == 16


def test_at_the_end_of_its_attempts_it_raises_with_all_that_was_tried():
    lm = written("1/0", "x = (", "[][1]")
    with pytest.raises(tf.CodeExecutionError, match=r"in 3 attempts.*(?s:.*)IndexError") as caught:
        solve()(question="q", lm=lm)
    assert [step.calls[0].args["code"] for step in caught.value.trajectory] == ["1/0", "x = (", "[][1]"]
    assert len(caught.value.trace) == 3
    assert caught.value.trace.events["code failed"] == 3


def test_an_evaluation_counts_it_and_keeps_the_trace():
    row = tf.Example(question="q", answer=1).with_inputs("question")
    lm = ScriptedLM(lambda request: "[[ ## code ## ]] 1/0")
    result = tf.Evaluate(devset=[row, row], metric=lambda example, found: found.answer == 1, max_errors=10)
    with tf.context(lm=lm), pytest.raises(tf.EvaluationError) as caught:
        result(solve())
    assert "ZeroDivisionError" in str(caught.value)


@pytest.mark.parametrize("name", ["code", "error", "previous_code", "code_output", "sandbox", "submit"])
def test_its_own_names_are_refused(name):
    with pytest.raises(tf.UsageError, match=name):
        tf.ProgramOfThought(f"{name} -> answer")


@pytest.mark.parametrize("most", [0, -1, True, "3", 1.5])
def test_the_number_of_attempts_is_checked(most):
    with pytest.raises(tf.UsageError, match="max_iters"):
        solve(max_iters=most)


def test_wrong_inputs_cost_nothing():
    lm = written()
    with pytest.raises(tf.InputError):
        solve()(problem="q", lm=lm)
    assert lm.requests == []


@pytest.mark.skipif(bool(seccomp.lacking()), reason="processes cannot be confined here")
def test_it_runs_in_another_interpreter_with_its_tools():
    def rate(currency: str) -> float:
        """Euros for one unit."""
        return {"NOK": 0.1}[currency]

    class Euros(tf.Signature):
        """Convert."""

        text: str = tf.InputField()
        euros: float = tf.OutputField(ge=0)

    program = tf.ProgramOfThought(Euros, interpreter=tf.PythonInterpreter(tools=[rate]))
    code = "class Money(float): pass\nsubmit(euros=Money(250) * rate('NOK'))"
    lm = written("submit(euros=-1)", code)
    assert program(text="250 NOK", lm=lm).euros == 25.0
    assert "rate(currency: str) -> float: Euros for one unit." in lm.requests[0].messages[-1].text


def test_a_compiled_one_shows_its_demos_without_the_description_of_the_sandbox():
    rows = [tf.Example(question="1+1?", answer=2).with_inputs("question")] * 2
    with tf.context(lm=ScriptedLM(lambda request: "[[ ## code ## ]] submit(2)")) as _:
        compiled = tf.BootstrapFewShot(max_bootstrapped_demos=1, max_labeled_demos=0).compile(solve(), trainset=rows)
    lm = written("submit(3)")
    compiled(question="1+2?", lm=lm)
    prompt = "\n".join(m.text for m in lm.requests[0].messages)
    assert "1+1?" in prompt
    assert prompt.count("no files") == 1
    assert compiled.using(lm=lm).render(question="1+2?")["code_generate"].request == lm.requests[0]
