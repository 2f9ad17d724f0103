"""The plan: calls, tokens and dollars before any call, and what was spent beside it."""

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

PRICED = {"local": False, "price_per_million": (1000.0, 2000.0)}


def both(lm, metric, rows, **given):
    teleprompter = tf.BootstrapFewShot(metric=metric, **given)
    task = {"trainset": rows(60), "valset": rows(40, start=500)}
    with tf.context(lm=lm):
        plan = teleprompter.plan(tf.Predict("question -> answer"), **task)
        assert lm.requests == []
        return plan, teleprompter.compile(tf.Predict("question -> answer"), **task).report


def test_what_is_spent_lies_within_the_ranges_in_each_phase(rows, metric, landscape):
    plan, report = both(landscape(0.3, 0.9, **PRICED), metric, rows)

    assert [p.name for p in plan.phases] == ["search", "comparison"]
    for phase in plan.phases:
        used = report.evidence.phases[phase.name]
        assert phase.calls[0] <= used.calls <= phase.calls[1]
        assert phase.prompt_tokens[0] <= used.prompt_tokens <= phase.prompt_tokens[1]
        assert phase.completion_tokens[0] <= used.completion_tokens <= phase.completion_tokens[1]
        assert phase.usd[0] <= used.cost_usd <= phase.usd[1]
    assert plan.usd[0] <= report.usage.cost_usd <= plan.usd[1]
    assert "$" in str(plan)


def test_the_report_sets_what_was_spent_beside_the_plan(rows, metric, landscape):
    plan, report = both(landscape(0.3, 0.9), metric, rows)

    text = str(report)
    low, high = plan.phases[1].prompt_tokens
    assert f"{low:,} to {high:,}" in text
    assert f"actual   {report.evidence.phases['comparison'].calls:,}" in text


def test_tokens_are_those_of_the_rendered_prompt_where_the_model_can_count(rows, metric):
    lm = ScriptedLM(lambda r: "[[ ## answer ## ]] a0")
    predictor = tf.Predict("question -> answer")
    with tf.context(lm=lm):
        plan = tf.BootstrapFewShot(metric=metric).plan(predictor, trainset=rows(60), valset=rows(10, start=500))
        size = predictor.render(question="q1").tokens

    assert plan.phases[0].prompt_tokens[0] == plan.phases[0].rollouts[0] * size
    assert any("own tokenizer" in a for a in plan.assumptions)


def test_an_unknown_price_is_said_and_not_guessed(rows, metric, landscape):
    plan, _ = both(landscape(0.3, 0.9, local=False), metric, rows)

    assert plan.usd is None
    assert "unknown" in str(plan)


def test_a_program_that_asks_more_often_can_be_told(rows, metric, landscape):
    with tf.context(lm=landscape(0.3, 0.9)):
        teleprompter, program = tf.BootstrapFewShot(metric=metric), tf.Predict("question -> answer")
        once = teleprompter.plan(program, trainset=rows(60))
        thrice = teleprompter.plan(program, trainset=rows(60), calls_per_run=3)

    assert thrice.total("calls") == tuple(3 * n for n in once.total("calls"))
    assert thrice.total("prompt_tokens") == tuple(3 * n for n in once.total("prompt_tokens"))
    assert "calls of one run of the program: 3" in str(thrice)


def test_a_metric_that_is_a_program_is_counted(rows, metric, landscape):
    class Judge(tf.Module):
        def __init__(self):
            self.judge = tf.Predict("question, answer -> good: bool")

        def forward(self, example, prediction, trace=None):
            return self.judge(question=example.question, answer=prediction.answer).good

    with tf.context(lm=landscape(0.3, 0.9)):
        plain = tf.BootstrapFewShot(metric=metric).plan(tf.Predict("question -> answer"), trainset=rows(60))
        judged = tf.BootstrapFewShot(metric=Judge()).plan(tf.Predict("question -> answer"), trainset=rows(60))

    assert judged.total("calls") == tuple(2 * n for n in plain.total("calls"))


def test_a_dearer_teacher_is_in_the_plan(rows, metric, landscape):
    cheap, dear = landscape(0.3, 0.9, **PRICED), landscape(0.3, 0.9, local=False, price_per_million=(1e5, 1e5))
    with tf.context(lm=cheap):
        plain = tf.BootstrapFewShot(metric=metric).plan(tf.Predict("question -> answer"), trainset=rows(60))
        taught = tf.BootstrapFewShot(metric=metric, teacher_settings={"lm": dear}).plan(
            tf.Predict("question -> answer"), trainset=rows(60)
        )

    assert taught.phases[0].usd[1] > 10 * plain.phases[0].usd[1]
    assert taught.phases[1].usd == plain.phases[1].usd
    assert dear.requests == []


def test_labelled_demos_take_no_call_but_the_comparison(rows, landscape):
    with tf.context(lm=landscape(0.3, 0.9)):
        plan = tf.LabeledFewShot(k=4).plan(tf.Predict("question -> answer"), trainset=rows(60))

    assert plan.total("calls") == (0, 0)


@pytest.mark.model
def test_the_embedded_model_counts_its_tokens_itself(rows, metric):
    with tf.context(lm=tf.LM("local/smollm2")):
        plan = tf.BootstrapFewShot(metric=metric).plan(tf.Predict("question -> answer"), trainset=rows(60))

    assert any("own tokenizer" in a for a in plan.assumptions)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda metric, lm: tf.COPRO(lm, metric, breadth=3, depth=2), ["instructions"]),
        (lambda metric, lm: tf.MIPROv2(metric, prompt_model=lm), ["data summary", "instructions"]),
        (lambda metric, lm: tf.Tune(metric, prompt_model=lm, num_candidates=6), ["instructions", "wording"]),
        (lambda metric, lm: tf.AutoPrompt(metric, prompt_model=lm, breadth=2, depth=1), ["wording"]),
        (lambda metric, lm: tf.InferRules(metric=metric, prompt_model=lm, num_candidates=2), ["rules"]),
        (lambda metric, lm: tf.SIMBA(metric=metric, prompt_model=lm, max_steps=1, num_candidates=2), ["advice"]),
        (lambda metric, lm: tf.GEPA(metric, reflection_lm=lm, auto="light"), ["reflection"]),
    ],
)
def test_calls_of_models_that_propose_are_planned(rows, metric, landscape, writer, make, names):
    student, task = tf.Predict("question -> answer"), {"trainset": rows(40), "valset": rows(40, start=500)}
    proposer = writer(*(f"Think of {i}." for i in range(9)))
    with tf.context(lm=landscape(0.3, 0.9)):
        plan = make(metric, proposer).plan(student, **task)
        assert proposer.requests == []
        used = make(metric, proposer).compile(student, **task).report.evidence.phases

    planned = {phase.name: phase for phase in plan.phases}
    for name in names:
        low, high = planned[name].calls
        assert low <= (used[name].calls if name in used else 0) <= high
        assert high > 0
    assert any(a.startswith("proposals:") for a in plan.assumptions)
