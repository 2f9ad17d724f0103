"""Reasoning before the answer."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.response import Choice, Response


def test_the_reasoning_comes_first_and_is_part_of_the_prediction():
    lm = DummyLM([{"reasoning": "2 and 2 is 4.", "answer": 4}])
    program = tf.ChainOfThought("question -> answer: int")
    prediction = program.using(lm=lm)(question="2+2?")
    assert list(program.predict.signature.output_fields) == ["reasoning", "answer"]
    assert (prediction.reasoning, prediction.answer) == ("2 and 2 is 4.", 4)
    prompt = lm.requests[0].messages[0].content
    assert prompt.index("[[ ## reasoning ## ]]") < prompt.index("[[ ## answer ## ]]")


async def test_it_runs_with_await():
    lm = DummyLM([{"reasoning": "r", "answer": "a"}])
    assert (await tf.ChainOfThought("question -> answer").using(lm=lm).acall(question="x")).answer == "a"


def test_it_keeps_the_instructions_and_takes_sampling_options():
    program = tf.ChainOfThought(tf.Signature("question -> answer", "Answer in Latin."), temperature=0.6, n=2)
    assert program.predict.signature.instructions == "Answer in Latin."
    assert (program.predict.sampling.temperature, program.predict.sampling.n) == (0.6, 2)


def test_its_predictor_has_a_path():
    assert [path for path, _ in tf.ChainOfThought("a -> b").named_predictors()] == ["predict"]


def test_the_reasoning_can_be_declared_otherwise():
    field = tf.OutputField(desc="the steps, numbered", max_length=200)
    program = tf.ChainOfThought("question -> answer", rationale_field=field)
    assert program.predict.signature.output_fields["reasoning"].desc == "the steps, numbered"


def test_a_signature_with_a_reasoning_of_its_own_is_an_error():
    with pytest.raises(tf.SignatureError, match="`reasoning` already"):
        tf.ChainOfThought("question -> reasoning, answer")


def test_the_users_signature_is_not_changed():
    signature = tf.Signature("question -> answer")
    tf.ChainOfThought(signature)
    assert str(signature) == "question -> answer"


def test_wrong_inputs_are_an_input_error_before_any_call():
    lm = DummyLM([])
    with pytest.raises(tf.InputError, match="Did you mean `question`"):
        tf.ChainOfThought("question -> answer").using(lm=lm)(questions="x")
    assert lm.requests == []


# --- models that reason by themselves ---

THINKS = Capabilities(reasoning=True)
THINKS_IF_ASKED = Capabilities(reasoning=True, reasons_if_asked=True)


def thinking(text, thoughts="", able=THINKS, **options):
    response = Response((Choice(text, reasoning=thoughts),))
    return ScriptedLM([response], capabilities=able, **options)


def test_a_model_that_reasons_is_not_asked_to_and_its_thoughts_are_the_reasoning():
    lm = thinking("[[ ## answer ## ]]\n4", "2 and 2 is 4.")
    with tf.context(lm=lm):
        prediction = tf.ChainOfThought("question -> answer: int")(question="2+2?")
    assert dict(prediction.items()) == {"reasoning": "2 and 2 is 4.", "answer": 4}
    assert "reasoning" not in lm.requests[0].messages[0].content
    assert prediction.trace.steps[0].outputs == {"reasoning": "2 and 2 is 4.", "answer": 4}


@pytest.mark.parametrize(
    "text", ["<think>2 and 2 is 4.</think>[[ ## answer ## ]]\n4", "<think>\n2 and 2 is 4.\n</think>\n4"]
)
def test_thoughts_in_front_of_the_text_count_too(text):
    with tf.context(lm=thinking(text)):
        assert tf.ChainOfThought("question -> answer")(question="x").reasoning == "2 and 2 is 4."


def test_a_provider_that_hides_the_thoughts_leaves_the_reasoning_empty():
    with tf.context(lm=thinking("[[ ## answer ## ]]\n4")):
        assert tf.ChainOfThought("question -> answer")(question="x").reasoning == ""


@pytest.mark.parametrize(
    ("able", "options", "asked"),
    [
        (THINKS, {}, False),
        (THINKS, {"reasoning_effort": "minimal"}, True),
        (THINKS_IF_ASKED, {}, True),
        (THINKS_IF_ASKED, {"reasoning_effort": "low"}, False),
        (Capabilities(), {}, True),
    ],
)
def test_the_field_is_asked_for_where_the_model_does_not_think(able, options, asked):
    with tf.context(lm=thinking("unused", able=able, **options)):
        rendered = tf.ChainOfThought("question -> answer").predict.render(question="x")
    assert ("reasoning" in rendered.messages[0].content) is asked


def test_the_effort_of_the_predictor_counts_as_that_of_its_lm():
    with tf.context(lm=thinking("unused", able=THINKS_IF_ASKED)):
        rendered = tf.ChainOfThought("question -> answer", reasoning_effort="low").predict.render(question="x")
    assert "reasoning" not in rendered.messages[0].content


@pytest.mark.parametrize("options", [{"native": False}, {"rationale_field": tf.OutputField(desc="steps")}])
def test_the_field_is_asked_for_of_any_model_where_that_is_wanted(options):
    with tf.context(lm=thinking("unused")):
        rendered = tf.ChainOfThought("question -> answer", **options).predict.render(question="x")
    assert "reasoning" in rendered.messages[0].content


def test_demos_with_reasoning_are_shown_without_it_and_states_fit_both(tmp_path):
    program = tf.ChainOfThought("question -> answer")
    program.predict.demos = [tf.Example(question="1+1?", reasoning="LONG THOUGHTS", answer="2")]
    program.save(tmp_path / "p.json")
    with tf.context(lm=thinking("unused")):
        rendered = tf.ChainOfThought("question -> answer").load(tmp_path / "p.json").predict.render(question="x")
    assert [m.role for m in rendered.messages] == ["system", "user", "assistant", "user"]
    assert not any("LONG THOUGHTS" in m.text for m in rendered.messages)
    assert tf.ChainOfThought("question -> answer", native=False).load(tmp_path / "p.json").predict.demos


def test_what_a_thinking_model_forgets_is_repaired_without_its_thoughts():
    answers = [Response((Choice("[[ ## answer ## ]]\nfour", reasoning="Hm."),)), "[[ ## answer ## ]]\n4"]
    lm = ScriptedLM(answers, capabilities=THINKS)
    prediction = tf.ChainOfThought("question -> answer: int").using(lm=lm)(question="x")
    assert (prediction.reasoning, prediction.answer) == ("Hm.", 4)


def test_thoughts_are_heard_while_they_come():
    with tf.context(lm=thinking("[[ ## answer ## ]]\n4", "Let me see.")):
        events = list(tf.ChainOfThought("question -> answer").stream(question="x"))
    assert [e.text for e in events if isinstance(e, tf.ReasoningPiece)] == ["Let me see."]
    assert events[-1].prediction.reasoning == "Let me see."
