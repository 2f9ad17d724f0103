"""COPRO: the instructions that help are found, predictor by predictor, and better ones are written from what was tried."""

import pytest

import tuneful as tf
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

QA = tf.Predict("question -> answer")
GOOD = "Mind the units."


def model(rows, **landscape):
    return SimulatedLM(rows(700), Landscape(base=0.4, instructions={GOOD: 0.4}, **landscape))


def compiled(rows, metric, lm, writer, student=QA, settings=None, **options):
    given = {"breadth": 4, "depth": 2, **(settings or {})}
    with tf.context(lm=lm):
        return tf.COPRO(writer, metric, **given).compile(
            student, trainset=rows(60), valset=rows(100, start=500), **options
        )


def test_the_instructions_that_help_are_found(rows, metric, writer):
    prompt_model = writer("Be quick.", GOOD)
    program = compiled(rows, metric, model(rows), prompt_model)

    assert program.report.verdict == "better"
    assert program.signature.instructions == GOOD
    assert QA.signature.instructions != GOOD
    assert len(prompt_model.requests) == 3 + 4
    assert program.report.evidence.phases["instructions"].calls == 7


def test_the_second_round_is_written_from_the_scores_of_the_first(rows, metric):
    def write(request):
        told = request.messages[-1].text
        better = f"{GOOD} Slowly." if GOOD in told else GOOD
        return f"[[ ## instructions ## ]]\n{better}"

    prompt_model = ScriptedLM(write)
    program = compiled(rows, metric, model(rows), prompt_model)

    first, last = (r.messages[-1].text for r in (prompt_model.requests[0], prompt_model.requests[-1]))
    assert "[[ ## tried ## ]]\n(none)" in first
    assert last.index("Given the fields `question`, produce") < last.index(GOOD)  # the best comes last
    assert "question: q" in first  # rows are shown
    tried = {t.candidate["instructions"] for t in program.report.ranked if t.candidate}
    assert tried == {GOOD, f"{GOOD} Slowly."}


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.say(question=question, thought=self.think(question=question).thought)


def test_of_several_predictors_each_has_its_turn_with_the_others_at_their_best(rows, metric, writer):
    lm = model(rows, misled=0.3, difficulty=0.2)
    program = compiled(rows, metric, lm, writer(GOOD), TwoSteps(), {"breadth": 3, "depth": 1})

    assert program.report.verdict == "better"
    assert (program.think.signature.instructions, program.say.signature.instructions) == (GOOD, GOOD)
    assert "for think.instructions" in str(program.report.found)


def test_frozen_instructions_stay(rows, metric, writer):
    student = TwoSteps().freeze("think.*")
    program = compiled(rows, metric, model(rows), writer(GOOD), student, {"depth": 1})

    assert set(program.report.candidate) == {"say.instructions"}
    frozen = compiled(rows, metric, model(rows), writer(GOOD), TwoSteps().freeze("*.instructions"))
    assert frozen.report.verdict == "nothing learned"
    assert "all of it is frozen" in str(frozen.report.found)


def test_the_same_script_again_pays_nothing(rows, metric, writer, tmp_path):
    with tf.context(journal=tmp_path / "journal.sqlite"):
        first = compiled(rows, metric, model(rows), writer("Be quick.", GOOD), run="a")
        lm, prompt_model = model(rows), writer("Be quick.", GOOD)
        again = compiled(rows, metric, lm, prompt_model, run="a")

    assert lm.requests == prompt_model.requests == []
    assert again.dump_state()["parameters"] == first.dump_state()["parameters"]


@pytest.mark.parametrize("calls", [2, 150, 250])
def test_a_small_budget_holds_and_leaves_room_for_the_comparison(rows, metric, writer, calls):
    lm, prompt_model = model(rows), writer(GOOD)
    report = compiled(rows, metric, lm, prompt_model, budget=tf.Budget(calls=calls)).report

    assert len(lm.requests) + len(prompt_model.requests) <= calls
    assert report.stop_reason != "finished"
    if calls == 250:
        assert report.verdict == "better"


def test_a_proposer_that_fails_or_says_nothing_new_ends_the_search_without_harm(rows, metric):
    failing = ScriptedLM(lambda _: tf.LMServerError("overloaded"))
    report = compiled(rows, metric, model(rows), failing).report
    assert report.verdict == "nothing learned"
    assert report.warnings["instructions failed"] == 3

    echoing = ScriptedLM(lambda _: f"[[ ## instructions ## ]]\n{QA.signature.instructions}")
    report = compiled(rows, metric, model(rows), echoing).report
    assert report.verdict == "nothing learned"
    assert report.usage.calls == 3


def test_rubbish_from_the_proposer_loses(rows, metric):
    program = compiled(rows, metric, model(rows), ScriptedLM(lambda r: "?" * (1 + r.sampling.rollout_id)))

    assert not program.report.improved
    assert program.signature.instructions == QA.signature.instructions


@pytest.mark.parametrize("wrong", [{"metric": None}, {"breadth": 1}, {"depth": 0}, {"init_temperature": -1}])
def test_wrong_settings_are_told_before_anything_is_paid(metric, wrong):
    with pytest.raises(tf.UsageError, match=next(iter(wrong)).removeprefix("init_")):
        tf.COPRO(**{"metric": metric, **wrong})


def test_the_plan_covers_what_is_spent(rows, metric, writer):
    teleprompter = tf.COPRO(writer(GOOD), metric, breadth=4, depth=2)
    with tf.context(lm=model(rows)):
        planned = teleprompter.plan(QA, trainset=rows(60), valset=rows(100, start=500))
        report = teleprompter.compile(QA, trainset=rows(60), valset=rows(100, start=500)).report

    search = next(p for p in planned.phases if p.name == "search")
    assert search.calls[0] <= report.evidence.phases["search"].calls <= search.calls[1]
