"""InferRules: rules from solved cases stand beside demos, and the best set is returned, not the last."""

import pytest

import tuneful as tf
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

QA = tf.Predict("question -> answer")
GOOD = "An answer begins with a."


def model(rows, **landscape):
    given = {"base": 0.4, "instructions": {GOOD: 0.4}, **landscape}
    return SimulatedLM(rows(700), Landscape(**given))


def compiled(rows, metric, lm, writer, student=QA, settings=None, **options):
    given = {"num_candidates": 4, "max_labeled_demos": 0, "prompt_model": writer, **(settings or {})}
    with tf.context(lm=lm):
        return tf.InferRules(metric, **given).compile(
            student, trainset=rows(60), valset=rows(100, start=500), **options
        )


def test_the_rules_that_help_are_found_whichever_set_they_are_in(rows, metric, writer):
    prompt_model = writer("Guess.", f"1. {GOOD}\n2. Be brief.", "Hurry.")
    program = compiled(rows, metric, model(rows), prompt_model)

    assert program.report.verdict == "better"
    own = QA.signature.instructions
    assert program.signature.instructions == f"{own}\n\nFollow these rules:\n- {GOOD}\n- Be brief."
    assert QA.signature.instructions == own  # the user's signature is as it was
    assert len(prompt_model.requests) == 4
    assert "4 sets of rules for 1 predictors" in program.report.found


def test_rules_stand_beside_demos_and_demos_alone_are_a_candidate(rows, metric, writer):
    both = compiled(rows, metric, model(rows, base=0.3, any_demo=0.25), writer(GOOD))
    assert both.demos
    assert GOOD in both.signature.instructions

    alone = compiled(rows, metric, model(rows, any_demo=0.4, instructions={"Follow": -0.3}), writer(GOOD))
    assert alone.report.verdict == "better"
    assert alone.demos
    assert alone.signature.instructions == QA.signature.instructions


def test_each_set_is_made_from_other_cases_with_their_answers(rows, metric, writer):
    prompt_model = writer(GOOD)
    compiled(rows, metric, model(rows), prompt_model, settings={"num_rules": 3})

    shown = [r.messages[-1].text for r in prompt_model.requests]
    assert len(set(shown)) == 4
    assert all(text.count("\nanswer: a") == 40 for text in shown)
    assert all("[[ ## number ## ]]\n3" in text for text in shown)


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.say(question=question, thought=self.think(question=question).thought)


def test_a_step_without_labels_is_shown_by_runs_that_succeeded(rows, metric, writer):
    prompt_model = writer(GOOD)
    program = compiled(rows, metric, model(rows), prompt_model, TwoSteps())

    of_think = [r.messages[-1].text for r in prompt_model.requests if "- thought: str\n\n" in r.messages[-1].text]
    assert len(of_think) == 4
    assert any("thought: thought for" in text for text in of_think)
    assert {p for p in program.report.candidate if p.endswith("instructions")} == {
        "think.instructions",
        "say.instructions",
    }


def test_where_the_proposer_fails_the_demos_carry_it(rows, metric):
    failing = ScriptedLM(lambda _: tf.LMServerError("overloaded"))
    program = compiled(rows, metric, model(rows, any_demo=0.4), failing)

    assert program.report.verdict == "better"
    assert program.report.warnings["rules failed"] == 4
    assert list(program.report.candidate) == ["demos"]


def test_frozen_instructions_stay(rows, metric, writer):
    prompt_model = writer(GOOD)
    program = compiled(rows, metric, model(rows, any_demo=0.4), prompt_model, QA.deepcopy().freeze("instructions"))

    assert prompt_model.requests == []
    assert list(program.report.candidate) == ["demos"]


def test_the_same_script_again_pays_nothing(rows, metric, writer, tmp_path):
    with tf.context(journal=tmp_path / "journal.sqlite"):
        first = compiled(rows, metric, model(rows), writer(GOOD), run="a")
        lm, prompt_model = model(rows), writer(GOOD)
        again = compiled(rows, metric, lm, prompt_model, run="a")

    assert lm.requests == prompt_model.requests == []
    assert again.dump_state()["parameters"] == first.dump_state()["parameters"]


def test_a_small_budget_holds(rows, metric, writer):
    lm, prompt_model = model(rows), writer(GOOD)
    report = compiled(rows, metric, lm, prompt_model, budget=tf.Budget(calls=60)).report

    assert len(lm.requests) + len(prompt_model.requests) <= 60
    assert "calls" in report.stop_reason


@pytest.mark.parametrize("wrong", [{"num_candidates": 0}, {"num_rules": 0}, {"max_bootstrapped_demos": -1}])
def test_wrong_settings_are_told(metric, wrong):
    with pytest.raises(tf.UsageError, match=next(iter(wrong))):
        tf.InferRules(metric, **wrong)
