"""MIPROv2: demos, instructions and whatever else may be chosen, found together."""

import importlib.util
import json

import pytest

import tuneful as tf
from tuneful.optimize.trial import Brief
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM
from tuneful.testing.scripted import ScriptedBackend

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


WITH_DEMOS = right_if(lambda r: len(r.messages) > 2)


def writer(*texts):
    """A prompt model that writes these instructions, in any order, and says of all data that they are numbers."""
    left = list(texts)

    def write(request):
        if "[[ ## summary ## ]]" in request.messages[0].content:
            return "[[ ## summary ## ]]\nThese are numbers."
        return f"[[ ## instructions ## ]]\n{left.pop(0)}"

    return ScriptedLM(write)


def compiled(lm, rows, metric, student=QA, prompt_model=None, seed=0, run=None, budget=None, held_out=100, **settings):
    given = {"auto": None, "num_candidates": 4, "num_trials": 12, **settings}
    teleprompter = tf.MIPROv2(metric, prompt_model or writer("Go.", "Guess.", "Be kind."), **given)
    with tf.context(lm=lm, cache=False):
        return teleprompter.compile(
            student, trainset=rows(60), valset=rows(held_out, start=500), seed=seed, run=run, budget=budget
        )


class Numbered(tf.Module):
    def __init__(self):
        self.k = tf.Choice([1, 3, 5], default=1)
        self.ignored = tf.Integer(0, 3)
        self.answer = tf.Predict("question, k: int -> answer")

    def forward(self, question):
        return self.answer(question=question, k=self.k)


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.say(question=question, thought=self.think(question=question).thought)


# --- planted cases: only one thing matters, and it is found ---


def test_instructions_that_help_are_found_among_others(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content))
    program = compiled(lm, rows, metric, prompt_model=writer("Be quick.", "Count twice.", "Guess."))

    assert program.report.verdict == "better"
    assert program.signature.instructions == "Count twice."


def test_instructions_and_demos_that_help_only_together_are_found(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content and len(r.messages) > 2))
    program = compiled(lm, rows, metric, prompt_model=writer("Be quick.", "Count twice.", "Guess."))

    assert program.report.verdict == "better"
    assert program.signature.instructions == "Count twice."
    assert program.demos
    assert program.report.found[1] == "3 new instructions for 1 predictors"
    assert program.report.found[3] == "the leader changes demos, instructions"


def test_a_users_number_that_alone_matters_is_found(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "[[ ## k ## ]]\n5" in r.messages[-1].content))
    program = compiled(lm, rows, metric, Numbered())
    without = compiled(lm, rows, metric, Numbered(), numbers=False)

    assert program.report.verdict == "better"
    assert program.k == 5
    assert without.report.verdict != "better"


def test_an_adapter_that_alone_matters_is_found(rows, metric):
    def answer(request):
        if "JSON" not in request.messages[0].content:
            return right_if(lambda _: False)(request)
        number = number_of(request)
        return json.dumps({"answer": f"{'no' if number % 10 == 0 else 'a'}{number}"})

    program = compiled(ScriptedLM(answer), rows, metric, adapters=["xml", "json"])

    assert program.report.verdict == "better"
    assert program.adapter == "json"


def test_demos_of_a_later_module_that_alone_matter_are_found(rows, metric):
    """Demos of the first step do harm."""

    def answer(request):
        if "of q" in request.messages[-1].content:
            lost = "lost" in request.messages[-1].content
            return right_if(lambda r: len(r.messages) > 2 and not lost)(request)
        return f"[[ ## thought ## ]]\nof q{number_of(request)}{' lost' if len(request.messages) > 2 else ''}"

    texts = [f"Try {i}." for i in range(6)]
    program = compiled(ScriptedLM(answer), rows, metric, TwoSteps(), writer(*texts), num_trials=24)

    assert program.report.verdict == "better"
    assert program.say.demos
    assert not program.think.demos


def test_a_model_that_alone_matters_is_found(rows, metric, monkeypatch):
    def named(model, **_):
        backend = ScriptedBackend(right_if(lambda _: model == "openai/strong"))
        backend.endpoint = model
        return backend

    monkeypatch.setattr("tuneful.program.lm.create", named)
    program = compiled(tf.LM("openai/weak"), rows, metric, models=["openai/odd", tf.LM("openai/strong")])

    assert program.report.verdict == "better"
    assert program.lm.model == "openai/strong"


def test_a_temperature_that_alone_matters_is_found(rows, metric):
    lm = ScriptedLM(right_if(lambda r: r.sampling.temperature == 0.3))
    program = compiled(lm, rows, metric, temperatures=[0.3, 1.0])

    assert program.report.verdict == "better"
    assert program.sampling.temperature == 0.3


# --- what is tried ---


@pytest.mark.parametrize(("auto", "trials"), [("light", (10, 20)), ("medium", (18, 28)), ("heavy", (27, 33))])
def test_auto_has_the_numbers_of_the_field(rows, metric, auto, trials):
    def tries(program):
        signatures = {p: q.signature for p, q in program.named_predictors()}
        brief = Brief(program.parameters(), signatures, rows(40), 0, student=program)
        most = tf.MIPROv2(metric, auto=auto).rollouts(brief)[1]
        return (most - 40) / 40 - 1  # without the teacher's runs, and without the program as it is

    assert (tries(QA), tries(TwoSteps())) == trials


def test_auto_bounds_the_rows_that_are_chosen_on(rows, metric):
    lm = ScriptedLM(WITH_DEMOS)
    with tf.context(lm=lm, cache=False):
        teleprompter = tf.MIPROv2(metric, writer("Go.", "Guess."), num_trials=2)
        report = teleprompter.compile(QA, trainset=rows(150), valset=rows(20, start=500)).report

    assert max(top.rows for top in report.top()) == 100


def test_the_proposer_sees_data_program_runs_and_a_tip(rows, metric):
    def shown(**settings):
        prompt_model = writer(*"abcdef")
        compiled(ScriptedLM(WITH_DEMOS), rows, metric, TwoSteps(), prompt_model, num_trials=1, **settings)
        asked = [r.messages[-1].content for r in prompt_model.requests if "tip" in r.messages[0].content]
        return asked, len(prompt_model.requests)

    asked, calls = shown()
    blind, fewer = shown(
        program_aware_proposer=False,
        data_aware_proposer=False,
        tip_aware_proposer=False,
        fewshot_aware_proposer=False,
    )

    assert (calls, fewer) == (3 + 6, 6)
    assert all(
        "These are numbers." in text and "class TwoSteps" in text and "Example 1\nquestion: q" in text for text in asked
    )
    assert len({text.split("[[ ## tip ## ]]")[1].split("[[")[0] for text in asked}) > 1
    assert not any(word in text for text in blind for word in ("These are", "class TwoSteps", "Example 1"))


def test_without_demos_instructions_are_chosen_alone_and_written_from_runs(rows, metric):
    prompt_model = writer("Be quick.", "Count twice.", "Guess.")
    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content))
    settings = {"max_bootstrapped_demos": 0, "max_labeled_demos": 0}
    program = compiled(lm, rows, metric, prompt_model=prompt_model, **settings)

    assert program.report.verdict == "better"
    assert not any(top.program.demos for top in program.report.top())
    assert "answer: a" in prompt_model.requests[-1].messages[-1].content
    assert len(program.report.top()) == 4  # there are no other combinations, and none is tried twice


def test_losers_are_not_run_on_all_rows_unless_that_is_asked_for(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content))

    def tried(**settings):
        report = compiled(lm, rows, metric, prompt_model=writer("Quick.", "Count twice.", "Guess."), **settings).report
        return [top.rows for top in report.top()]

    assert min(tried()) < 60
    assert set(tried(minibatch=False)) == {60}


def test_what_is_frozen_stays_as_it_is(rows, metric):
    student = TwoSteps().freeze("think.*", "say.demos")
    prompt_model = writer("Be quick.", "Count twice.", "Guess.")
    program = compiled(ScriptedLM(WITH_DEMOS), rows, metric, student, prompt_model)

    assert {path for top in program.report.ranked for path in top.candidate} == {"say.instructions"}
    assert sum("tip" in r.messages[0].content for r in prompt_model.requests) == 3


# --- stops, failures, mistakes ---


def test_a_search_that_stopped_goes_on_and_pays_nothing_twice(rows, metric, tmp_path):
    def run(journal, calls=None):
        lm, prompt_model = ScriptedLM(WITH_DEMOS), ScriptedLM(by_sample)
        with tf.context(journal=tmp_path / journal):
            program = compiled(lm, rows, metric, prompt_model=prompt_model, run="r", budget=tf.Budget(calls=calls))
        return program.dump_state()["parameters"], [r.key() for r in (*lm.requests, *prompt_model.requests)]

    def by_sample(request):
        if "[[ ## summary ## ]]" in request.messages[0].content:
            return "[[ ## summary ## ]]\nThese are numbers."
        return f"[[ ## instructions ## ]]\nTry {request.sampling.rollout_id}."

    whole, _ = run("whole")
    again, none = run("whole")
    _, first = run("parts", calls=200)
    resumed, rest = run("parts")

    assert whole == again == resumed
    assert none == []
    assert len({*first, *rest}) == len(first) + len(rest)


@pytest.mark.parametrize("calls", [30, 330])
def test_a_small_budget_is_kept(rows, metric, calls):
    report = compiled(ScriptedLM(WITH_DEMOS), rows, metric, budget=tf.Budget(calls=calls)).report

    assert report.usage.calls <= calls
    assert "calls" in report.stop_reason
    assert calls < 300 or report.verdict == "better"


@pytest.mark.parametrize(
    ("said", "failed"),
    [
        (lambda _: "I cannot do that.", 0),
        (lambda _: "[[ ## instructions ## ]]", 0),
        (lambda _: tf.LMServerError("overloaded"), 3),
    ],
)
def test_a_prompt_model_that_is_of_no_use_does_not_end_the_search(rows, metric, said, failed):
    report = compiled(ScriptedLM(WITH_DEMOS), rows, metric, prompt_model=ScriptedLM(said)).report

    assert report.verdict == "better"
    assert report.warnings.get("data summary failed", 0) == report.warnings.get("instructions failed", 0) == failed


def test_where_no_run_succeeds_labelled_rows_are_left(rows, metric):
    def answer(request):
        return right_if(lambda _: True)(request) if len(request.messages) > 2 else "[[ ## answer ## ]]\nno"

    def never(example, prediction, trace=None):
        return trace is None and metric(example, prediction)

    program = compiled(ScriptedLM(answer), rows, never)

    assert program.report.verdict == "better"
    assert "0 runs kept of 60 tried" in program.report.found[0]
    assert program.demos


def test_the_same_seed_gives_the_same_search(rows, metric):
    def tops(seed):
        lm = SimulatedLM(rows(700), Landscape(base=0.4, any_demo=0.2, demo_spread=0.05))
        report = compiled(lm, rows, metric, seed=seed, held_out=20, num_trials=6).report
        return [(t.score, t.rows) for t in report.top()]

    assert tops(1) == tops(1) != tops(2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"auto": "lite"},
        {"auto": None},
        {"num_candidates": 1},
        {"num_trials": 0},
        {"minibatch_size": 0},
        {"minibatch_full_eval_steps": 0},
        {"view_data_batch_size": 0},
        {"max_bootstrapped_demos": -1},
        {"init_temperature": -1.0},
        {"adapters": ["jsn"]},
        {"models": ["openay/gpt"]},
        {"models": [tf.LM("openai/gpt-4o", temperature=0.3)]},
        {"temperatures": [-1.0]},
    ],
)
def test_wrong_settings_are_told_before_any_call(metric, wrong):
    with pytest.raises(tf.UsageError):
        tf.MIPROv2(metric, **wrong)


def test_without_the_package_it_says_what_to_install_before_any_call(metric, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tf.MissingExtraError, match=r"tuneful\[search\]"):
        tf.MIPROv2(metric)


def test_the_number_of_combinations_may_be_given_to_compile_too(rows, metric, writer):
    teleprompter = tf.MIPROv2(metric, writer("Count."), auto=None, num_candidates=3)
    with tf.context(lm=ScriptedLM(lambda r: "[[ ## answer ## ]]\na1"), cache=False):
        program = teleprompter.compile(QA, trainset=rows(6), num_trials=2, minibatch=False)

    assert len(program.report.ranked) <= 3
    assert "num_trials=2" in str(program.report)
