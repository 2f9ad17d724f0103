"""What a run did, step by step, under the right paths."""

import asyncio

import pytest

import tuneful as tf
from tuneful.program.trace import Trace
from tuneful.testing import ScriptedLM

ANSWER = "[[ ## answer ## ]]\n"


def echo():
    return ScriptedLM(lambda r: ANSWER + r.messages[-1].content.split()[-1])


def paths(prediction):
    return [step.path for step in prediction.trace]


class Twins(tf.Module):
    """Two predictors of equal signature, called the second first, and a list of two more."""

    def __init__(self):
        self.first = tf.Predict("question -> answer")
        self.second = tf.Predict("question -> answer")
        self.many = [tf.Predict("question -> answer") for _ in range(2)]

    def forward(self, question):
        self.second(question=question)
        for predictor in reversed(self.many):
            predictor(question=question)
        return self.first(question=question)


TWINS = ["second", "many[1]", "many[0]", "first"]


def test_equal_signatures_and_lists_keep_their_own_paths():
    assert paths(Twins().using(lm=echo())(question="x")) == TWINS


def test_copies_keep_the_paths():
    assert paths(Twins().deepcopy().using(lm=echo()).reset_copy()(question="x")) == TWINS
    assert paths(Twins().with_parameters({"first.instructions": "Go."}).using(lm=echo())(question="x")) == TWINS


def test_using_inside_forward_keeps_the_path():
    class Bound(tf.Module):
        def __init__(self):
            self.parts = {"a": tf.ChainOfThought("question -> answer"), "b": tf.Predict("question -> answer")}

        def forward(self, question):
            self.parts["b"].using(temperature=0.5)(question=question)
            self.parts["b"](question=question, config={"temperature": 0.6})
            return self.parts["a"].using(lm=lm)(question=question)

    lm = ScriptedLM(["[[ ## reasoning ## ]]\nbecause\n[[ ## answer ## ]]\nyes"])
    with tf.context(lm=echo()):
        prediction = Bound()(question="x")
    assert paths(prediction) == ["parts['b']", "parts['b']", "parts['a'].predict"]
    assert [s.request.sampling.temperature for s in prediction.trace] == [0.5, 0.6, 0.0]


def test_a_predictor_made_during_the_run_is_unattached():
    class Making(tf.Module):
        def forward(self, question):
            return tf.Predict("question -> answer")(question=question)

    with tf.context(lm=echo()):
        assert paths(Making()(question="x")) == ["<unattached>"]


def test_a_lone_predictor_has_the_empty_path():
    assert paths(tf.Predict("question -> answer").using(lm=echo())(question="x")) == [""]


def test_a_step_holds_what_went_in_and_came_out():
    lm = echo()
    trace = tf.Predict("question -> answer").using(lm=lm)(question="why").trace
    (step,) = trace
    assert step.inputs == {"question": "why"}
    assert step.outputs == {"answer": "why"}
    assert step.request == lm.requests[0]
    assert [r.text for r in step.responses] == [ANSWER + "why"]
    assert (step.model, step.repairs, step.error) == ("scripted", 0, None)
    assert 0 < step.seconds <= trace.seconds
    assert trace.usage.calls == 1
    assert trace.usage == step.usage
    assert trace.of("") == [step]
    assert len(trace) == 1


def test_the_usage_of_a_run_is_counted_by_model():
    class Two(tf.Module):
        def __init__(self):
            self.a = tf.Predict("question -> answer").using(lm=ScriptedLM([ANSWER + "1"] * 2, model="big"))
            self.b = tf.Predict("question -> answer").using(lm=ScriptedLM([ANSWER + "2"], model="small"))

        def forward(self, question):
            self.a(question=question)
            self.a(question=question)
            return self.b(question=question)

    usage = Two()(question="x").get_lm_usage()
    assert {model: counts["calls"] for model, counts in usage.items()} == {"big": 2, "small": 1}
    assert usage["small"]["prompt_tokens"] > 0


def test_the_trace_keeps_values_as_they_were_when_the_step_ran():
    class Growing(tf.Module):
        def __init__(self):
            self.ask = tf.Predict("context, question -> answers: list[str]")

        def forward(self, question):
            context = [["a"]]
            for _ in range(2):
                answers = self.ask(context=context, question=question).answers
                context[0] += ["more"]
                answers.append("added by the program")
            return tf.Prediction(done=True)

    lm = ScriptedLM(['[[ ## answers ## ]]\n["1"]'] * 2)
    trace = Growing().using(lm=lm)(question="x").trace
    assert [step.inputs["context"] for step in trace] == [[["a"]], [["a", "more"]]]
    assert [step.outputs["answers"] for step in trace] == [["1"], ["1"]]


def test_every_run_has_a_trace_of_its_own():
    program = Twins().using(lm=echo())
    one, two = program(question="a").trace, program(question="b").trace
    assert isinstance(one, Trace)
    assert one is not two
    assert [len(one), len(two)] == [4, 4]
    assert {s.inputs["question"] for s in one} == {"a"}


def test_a_run_inside_a_run_adds_to_the_trace_of_the_outer_one():
    class Outer(tf.Module):
        def __init__(self):
            self.twins = Twins()

        async def forward(self, question):
            return await self.twins.acall(question=question)

    assert paths(Outer().using(lm=echo())(question="x")) == [f"twins.{p}" for p in TWINS]


async def test_concurrent_steps_of_one_run_share_its_trace_in_the_order_in_which_they_began():
    class Wide(tf.Module):
        def __init__(self):
            self.parts = [tf.Predict("question -> answer") for _ in range(5)]

        async def forward(self, question):
            await asyncio.gather(*(p.acall(question=question) for p in self.parts))
            return tf.Prediction()

    async def last_asked_is_first_answered(request):
        delay = 0.05 - 0.01 * len(lm.requests)
        await asyncio.sleep(delay)
        return ANSWER + "x"

    lm = ScriptedLM(last_asked_is_first_answered)
    program = Wide().using(lm=lm)
    one, two = await asyncio.gather(program.acall(question="1"), program.acall(question="2"))
    assert paths(one) == paths(two) == [f"parts[{i}]" for i in range(5)]
    assert {s.inputs["question"] for s in two.trace} == {"2"}


def test_a_failed_step_says_why():
    seen = []

    class Catching(tf.Module):
        def __init__(self):
            self.ask = tf.Predict("question -> answer")

        def forward(self, question):
            try:
                self.ask(question=question)
            except tf.LMServerError as error:
                seen.append(error)
            return tf.Prediction(answer="none")

    prediction = Catching().using(lm=ScriptedLM([tf.LMServerError("out of order")]))(question="x")
    assert [s.error for s in prediction.trace] == ["out of order"]
    assert len(seen) == 1


@pytest.mark.parametrize("result", [None, "text", {"a": 1}])
def test_a_program_may_return_something_that_is_no_prediction(result):
    class Plain(tf.Module):
        def forward(self):
            return result

    assert Plain()() == result
