"""Reflect: it is shown whole runs, with what the metric says of them, or else with what is right."""

import tuneful as tf
from tuneful.optimize.propose.reflection import Reflect, cases_text
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities

RUN = {
    "steps": [
        {"path": "think", "inputs": {"question": "1+1?"}, "outputs": {"thought": "two"}},
        {"path": "say", "inputs": {"thought": "two"}, "outputs": {"answer": "3"}},
    ],
    "score": 0.0,
    "labels": {"answer": "2"},
}
ANSWER = "[[ ## diagnosis ## ]]\nIt guessed.\n\n[[ ## instructions ## ]]\n'Count.'"


def test_the_feedback_of_the_metric_is_shown_and_labels_only_where_there_is_none():
    assert "Right is answer: 2" in cases_text([RUN], "say")
    told = cases_text([{**RUN, "feedback": "one too many"}], "say")
    assert "Feedback: one too many" in told
    assert "Right is" not in told


def test_each_step_gets_what_is_said_of_it():
    run = {**RUN, "feedback": "one too many", "by_step": {"think": "too short"}}

    assert "Feedback: too short" in cases_text([run], "think")
    assert "Feedback: one too many" in cases_text([run], "say")


def test_all_steps_of_a_run_are_shown_and_how_it_failed():
    told = cases_text([RUN, {**RUN, "error": "Traceback\nKeyError: 'x'"}], "say")

    assert told.index("Case 1") < told.index("Step think") < told.index("Step say") < told.index("Case 2")
    assert "KeyError: 'x'" in told


def test_long_feedback_is_kept_further_than_values():
    told = cases_text([{**RUN, "feedback": "w" * 1_500}], "say")
    assert "w" * 1_500 in told


def test_it_says_what_went_wrong_and_writes_instructions():
    lm = ScriptedLM([ANSWER])
    with tf.context(lm=lm):
        said = Reflect()(task="question -> answer", cases="...")

    assert (said.diagnosis, said.instructions) == ("It guessed.", "Count.")
    assert "[[ ## tried ## ]]\n(none)" in lm.requests[0].messages[-1].text


def test_a_small_model_is_shown_less():
    lm = ScriptedLM([ANSWER], capabilities=Capabilities(context_tokens=700))
    with tf.context(lm=lm):
        Reflect()(task="t", cases="\n".join(f"case {i} went wrong" for i in range(400)))

    shown = lm.requests[0].messages[-1].text
    assert len(shown.split()) < 700
    assert "case 0 went" in shown
