"""WriteAdvice: what it shows of two runs, and what becomes of what is said."""

import pytest

import tuneful as tf
from tuneful.optimize.propose.advice import WriteAdvice, rules_of, run_text, steps_text
from tuneful.testing import DummyLM

STEP = {"path": "say", "inputs": {"question": "1+1?"}, "outputs": {"answer": "3"}}


def test_a_run_is_told_step_by_step_with_its_score_and_what_the_metric_says():
    text = run_text({"steps": [{**STEP, "path": "think"}, STEP], "score": 0.5, "feedback": "too high"})

    assert text.index("Step think") < text.index("Step say") < text.index("Score 0.5: too high")
    assert "given question: 1+1?" in text
    assert "wrote answer: 3" in text


def test_a_failed_run_says_how_it_ended():
    run = {
        "steps": [{**STEP, "outputs": {}}],
        "score": 0.0,
        "feedback": None,
        "error": "Traceback\n  ...\nValueError: no",
    }

    assert "wrote nothing that could be read" in run_text(run)
    assert "It failed: ValueError: no" in run_text(run)


def test_long_values_are_cut():
    assert len(run_text({"steps": [{**STEP, "inputs": {"question": "x" * 10_000}}], "score": 1.0})) < 1_000


def test_steps_are_named_as_rules_must_name_them():
    signatures = {"think": tf.Signature("question -> thought"), "say": tf.Signature("thought -> answer", "Be brief.")}
    text = steps_text(signatures)

    assert "Step think" in text
    assert "Step say\nInstructions: Be brief." in text
    assert steps_text({"": signatures["say"]}).startswith("Step program")


@pytest.mark.parametrize(
    ("said", "paths", "rules"),
    [
        ({"say": "Count.", "nobody": "Jump."}, ["think", "say"], {"say": "Count."}),
        ({"the answer": "Count.", "x": "Twice."}, [""], {"": "Count.\nTwice."}),
        ({}, [""], {}),
        ({}, ["think", "say"], {}),
    ],
)
def test_rules_go_to_known_steps_and_of_one_step_all_are_meant_for_it(said, paths, rules):
    assert rules_of(said, paths) == rules


def test_empty_rules_are_dropped_and_quotes_are_taken_off():
    lm = DummyLM([{"discussion": "d", "advice": {" say ": ' "Count." ', "think": " "}}])
    assert WriteAdvice().using(lm=lm)(steps="s", worse="w", better="b").advice == {"say": "Count."}
