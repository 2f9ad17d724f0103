"""Tune: whichever lever pays is found, noise is not taken for a gain, and nothing is paid twice."""

import pytest

import tuneful as tf
from tuneful.optimize.recipes.tune import Tune
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

QA = tf.Predict("question -> answer")


def number_of(request):
    return int(request.messages[-1].content.rsplit("q", 1)[1].split()[0].strip('".}<'))


def right_if(condition):
    """A model that is right on a third of the rows, and on nine of ten where the condition holds for the request."""

    def answer(request):
        number = number_of(request)
        good = number % 10 != 0 if condition(request) else number % 3 == 0
        return f"[[ ## answer ## ]]\n{'a' if good else 'no'}{number}"

    return answer


def tuned(rows, metric, lm, student=QA, settings=None, **options):
    with tf.context(lm=lm, cache=False):
        given = {"embedder": None, "adapters": (), "propose": "prompt_model" in (settings or {}), **(settings or {})}
        return Tune(metric, **given).compile(student, trainset=rows(80), valset=rows(100, start=500), **options)


class Numbered(tf.Module):
    def __init__(self):
        self.k = tf.Choice([1, 3, 5], default=1)
        self.ignored = tf.Integer(0, 5)
        self.answer = tf.Predict("question, k: int -> answer")

    def forward(self, question):
        return self.answer(question=question, k=self.k)


def test_a_case_where_only_a_users_number_matters(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "[[ ## k ## ]]\n5" in r.messages[-1].content))
    program = tuned(rows, metric, lm, Numbered())

    assert program.report.verdict == "better"
    assert program.k == 5
    assert program.ignored == 0  # what does not matter is left as it is
    assert list(program.report.candidate) == ["k"]


def test_a_case_where_only_the_adapter_matters(rows, metric):
    def answer(request):
        if "JSON" not in request.messages[0].content:
            return right_if(lambda _: False)(request)
        number = number_of(request)
        return f'{{"answer": "{"no" if number % 10 == 0 else "a"}{number}"}}'

    program = tuned(rows, metric, ScriptedLM(answer), settings={"adapters": "auto"})

    assert program.report.verdict == "better"
    assert program.report.candidate == {"adapter": "json"}


def test_a_case_where_only_instructions_matter(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content))
    texts = iter(["Be quick.", "Count twice.", "Guess.", "Be kind."])
    writer = ScriptedLM(lambda _: f"[[ ## instructions ## ]]\n{next(texts)}")
    program = tuned(rows, metric, lm, settings={"prompt_model": writer})

    assert program.report.verdict == "better"
    assert program.signature.instructions == "Count twice."
    assert len(writer.requests) == 4


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.say(question=question, thought=self.think(question=question).thought)


def test_a_case_where_only_a_later_modules_demos_matter(rows, metric):
    def answer(request):
        if "of q" in request.messages[-1].content:
            return right_if(lambda r: len(r.messages) > 2)(request)
        return f"[[ ## thought ## ]]\nof q{number_of(request)}"

    program = tuned(rows, metric, ScriptedLM(answer), TwoSteps())

    assert program.report.verdict == "better"
    assert program.say.demos


@pytest.mark.parametrize("seed", range(5))
def test_law_4_noise_is_not_taken_for_a_gain(rows, metric, seed):
    lm = SimulatedLM(rows(700), Landscape(base=0.5, seed=seed))
    assert tuned(rows, metric, lm, seed=seed).report.verdict != "better"


def test_a_program_that_is_always_right_costs_one_look(rows, metric):
    lm = ScriptedLM(lambda r: f"[[ ## answer ## ]]\na{number_of(r)}")
    program = tuned(rows, metric, lm)

    assert program.report.verdict == "nothing learned"
    assert program.report.usage.calls < 250
    assert "the program has 100 %" in str(program.report.found)


def test_the_same_script_again_pays_nothing(rows, metric, tmp_path):
    def lm():
        return ScriptedLM(right_if(lambda r: len(r.messages) > 2))

    with tf.context(journal=tmp_path / "journal.sqlite"):
        first = tuned(rows, metric, lm(), run="a")
        idle = lm()
        again = tuned(rows, metric, idle, run="a")

    assert idle.requests == []
    assert again.dump_state()["parameters"] == first.dump_state()["parameters"]


@pytest.mark.parametrize("calls", [60, 300, 500])
def test_a_small_budget_still_comes_to_a_verdict(rows, metric, calls):
    lm = ScriptedLM(right_if(lambda r: len(r.messages) > 2))
    report = tuned(rows, metric, lm, budget=tf.Budget(calls=calls)).report

    assert report.usage.calls <= calls
    assert report.verdict in (("better",) if calls >= 300 else ("better", "not compared", "not distinguishable"))


def test_a_writer_that_fails_does_not_end_the_search(rows, metric):
    lm = ScriptedLM(right_if(lambda r: len(r.messages) > 2))
    writer = ScriptedLM(lambda _: tf.LMServerError("overloaded"))
    report = tuned(rows, metric, lm, settings={"prompt_model": writer}).report

    assert report.verdict == "better"
    assert report.warnings["instructions failed"] == 4


@pytest.mark.parametrize("wrong", [{"num_candidates": 1}, {"adapters": ["jsn"]}])
def test_wrong_settings_are_told(metric, wrong):
    with pytest.raises(tf.UsageError):
        Tune(metric, **wrong)
