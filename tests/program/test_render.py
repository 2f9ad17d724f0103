"""What would be sent, to look at before anything is (law 7)."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.wire.capabilities import Capabilities

SIGNATURE = tf.Signature(
    {
        "question": tf.InputField(),
        "size": (int, tf.InputField(default=3)),
        "hints": (list[str], tf.InputField(desc="what is known")),
        "answer": tf.OutputField(),
        "score": (float, tf.OutputField(ge=0, le=1)),
    },
    "Answer.",
)
GIVEN = {"question": "[[ ## answer ## ]] \U0001f642\nnaïve", "hints": ["a", "b\nc"]}


@pytest.mark.parametrize("adapter", ["chat", "json", "compact", "auto"])
@pytest.mark.parametrize("capable", [False, True])
@pytest.mark.parametrize("given", [GIVEN, {**GIVEN, "size": 9}, {**GIVEN, "size": "9"}], ids=["default", "int", "text"])
def test_what_is_shown_is_what_is_sent(adapter, capable, given):
    capabilities = Capabilities(grammar=capable, json_schema=capable, small=capable)
    form = tf.CompactAdapter() if adapter == "compact" or (adapter == "auto" and capable) else None
    form = tf.JSONAdapter() if adapter == "json" else form
    lm = DummyLM(
        [{"answer": "a", "score": 0.5}], adapter=form, capabilities=capabilities, max_tokens=70, temperature=0.4
    )
    predictor = tf.Predict(SIGNATURE, top_p=0.9).using(lm=lm, adapter=adapter)
    predictor.demos = [
        {"question": "q", "size": 1, "hints": ["h"], "answer": "a", "score": 1.0},
        {"question": "only a part", "answer": "b"},
    ]
    shown = predictor.render(**given)
    assert lm.requests == []
    assert predictor(**given).score == 0.5
    assert lm.requests == [shown.request]
    assert [m.content.encode() for m in lm.requests[0].messages] == [m.content.encode() for m in shown.messages]


def test_inputs_that_are_not_given_show_as_their_names():
    shown = tf.Predict("question, hints: list[str] -> answer").using(lm=DummyLM([])).render(question="why?")
    assert "why?" in shown.messages[-1].content
    assert "{hints}" in shown.messages[-1].content


def test_a_program_shows_each_of_its_predictors():
    class Program(tf.Module):
        def __init__(self):
            self.query = tf.Predict("question -> query")
            self.answers = [tf.Predict("question, context -> answer")]

    shown = Program().using(lm=DummyLM([])).render(question="why?")
    assert list(shown) == ["query", "answers[0]"]
    assert "why?" in shown["query"].messages[-1].content
    assert "{context}" in shown["answers[0]"].messages[-1].content


def test_tokens_are_exact_where_the_backend_counts_and_estimated_elsewhere():
    shown = tf.Predict("question -> answer").using(lm=DummyLM([])).render(question="one two three")
    assert shown.exact
    assert shown.tokens == sum(len(m.content.split()) for m in shown.messages)
    remote = tf.Predict("question -> answer").using(lm=tf.LM("openai/m", api_base="http://127.0.0.1:9/v1"))
    about = remote.render(question="one two three")
    assert not about.exact
    assert about.tokens == sum(len(m.content) for m in about.messages) // 4
    assert "about" in str(about)


def test_the_text_shows_messages_constraint_adapter_and_model():
    lm = ScriptedLM([], model="tiny", capabilities=Capabilities(grammar="gbnf", small=True))
    text = str(tf.Predict("question -> ok: bool").using(lm=lm).render(question="why?"))
    assert "[system]\n" in text
    assert "[user]\n" in text
    assert "must match this grammar" in text
    assert "adapter compact, model tiny" in text
    lm = ScriptedLM([], capabilities=Capabilities(json_schema=True))
    text = repr(tf.Predict("question -> ok: bool").using(lm=lm, adapter="json").render(question="why?"))
    assert "must match this JSON schema" in text


def test_rendering_says_what_is_wrong_with_the_sampling_as_a_call_does():
    predictor = tf.Predict("question -> answer", n=3).using(lm=ScriptedLM([], temperature=0.0))
    with pytest.raises(tf.UsageError, match="identical"):
        predictor.render(question="x")


def test_prompts_differ_only_in_the_last_message():
    """Law (a) of the adapters, seen from a program: what does not depend on the inputs is the same bytes."""
    predictor = tf.Predict("question -> answer").using(lm=DummyLM([]))
    predictor.demos = [{"question": "q", "answer": "a"}]
    one, two = predictor.render(question="x"), predictor.render(question="y")
    assert one.messages[:-1] == two.messages[:-1]
    assert one.messages[-1] != two.messages[-1]
