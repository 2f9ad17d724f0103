"""GEPA: instructions that help are written from feedback, found, put together, and nothing is judged by what it saw."""

import json
import re
from dataclasses import dataclass, field

import pytest

import tuneful as tf
from tuneful.optimize.trial import Brief
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

QA = tf.Predict("question -> answer")
GOOD = "Mind the units."


def model(rows, **landscape):
    return SimulatedLM(rows(700), Landscape(**{"base": 0.3, "instructions": {GOOD: 0.5}, **landscape}))


def wise(request):
    """Write what the feedback says, if it says anything; else something of no use."""
    told = re.findall(r"Feedback: (.*)", request.messages[-1].text)
    text = told[0] if told else f"Attempt {request.sampling.rollout_id}."
    return f"[[ ## diagnosis ## ]]\nI see.\n\n[[ ## instructions ## ]]\n{text}"


def wordy(request):
    """Write what the feedback says, in other words each time."""
    return f"{wise(request)} So number {request.sampling.rollout_id} says."


def saying(example, prediction, trace=None):
    right = example.answer == prediction.answer
    return tf.Score(float(right), feedback=None if right else GOOD)


def compiled(lm, rows, metric, prompt_model, student=QA, n=60, settings=None, **options):
    given = {"max_metric_calls": 300, **(settings or {})}
    with tf.context(lm=lm):
        teleprompter = tf.GEPA(metric, reflection_lm=prompt_model, **given)
        return teleprompter.compile(student, trainset=rows(n), valset=rows(100, start=500), **options)


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.say(question=question, thought=self.think(question=question).thought)


# --- what is found ---


def test_what_the_feedback_says_becomes_the_instructions(rows):
    prompt_model = ScriptedLM(wise)
    program = compiled(model(rows), rows, saying, prompt_model)

    assert program.report.verdict == "better"
    assert program.signature.instructions == GOOD
    assert QA.signature.instructions != GOOD
    assert program.report.evidence.phases["reflection"].calls == len(prompt_model.requests)


def test_instructions_that_help_are_found_among_others_without_feedback(rows, metric, writer):
    prompt_model = writer("Be quick.", "Be kind.", GOOD, f"{GOOD} Slowly.")
    program = compiled(model(rows), rows, metric, prompt_model)

    assert program.report.verdict == "better"
    assert GOOD in program.signature.instructions
    assert "Right is answer: a" in prompt_model.requests[0].messages[-1].text


def test_improvements_build_on_one_another(rows):
    """Each reflection adds one sentence to what is there; several together are best."""
    sentences = ["Mind the units.", "Be brief.", "Check the sign.", "Be kind.", "Count twice."]

    def add(request):
        now = re.search(r"Instructions: (.*)\nGiven", request.messages[-1].text).group(1)
        text = f"{now} {sentences[request.sampling.rollout_id % 5]}"
        return f"[[ ## diagnosis ## ]]\nI see.\n\n[[ ## instructions ## ]]\n{text}"

    helping = {"Mind the units.": 0.3, "Check the sign.": 0.25, "Count twice.": 0.2}
    lm = model(rows, base=0.2, instructions=helping)
    program = compiled(lm, rows, saying, ScriptedLM(add), n=120, settings={"max_metric_calls": 800})

    assert program.report.verdict == "better"
    assert sum(text in program.signature.instructions for text in helping) >= 2


def test_on_a_program_of_two_steps_both_are_improved_in_turn_and_merged(rows):
    def write(request):
        step = re.search(r"Step (\w+)\nInstructions", request.messages[-1].text).group(1)
        text = {"think": "Think of the units.", "say": "Say the units."}[step]
        number = request.sampling.rollout_id
        return f"[[ ## diagnosis ## ]]\nI see.\n\n[[ ## instructions ## ]]\n{text if number > 1 else number}"

    helping = {"Think of the units.": 0.5, "Say the units.": 0.5}
    lm = model(rows, instructions=helping, base=0.4, misled=0.2)
    settings = {"max_metric_calls": 700, "candidate_selection_strategy": "pareto"}
    program = compiled(lm, rows, saying, ScriptedLM(write), TwoSteps(), 120, settings)

    assert program.report.verdict == "better"
    assert program.think.signature.instructions == "Think of the units."
    assert program.say.signature.instructions == "Say the units."


def test_all_components_are_rewritten_at_once_where_that_is_wanted(rows):
    prompt_model = ScriptedLM(wise)
    settings = {"component_selector": "all"}
    lm = model(rows, misled=0.2)
    program = compiled(lm, rows, saying, prompt_model, TwoSteps(), settings=settings)

    assert program.report.verdict == "better"
    assert (program.think.signature.instructions, program.say.signature.instructions) == (GOOD, GOOD)
    assert len({r.sampling.rollout_id for r in prompt_model.requests}) == len(prompt_model.requests) / 2


def test_several_candidates_may_be_written_side_by_side(rows, metric, writer):
    prompt_model = writer("Be quick.", GOOD, "Be kind.", f"{GOOD} Now.")
    program = compiled(model(rows), rows, metric, prompt_model, settings={"num_proposals": 3})

    assert program.report.verdict == "better"
    assert GOOD in program.signature.instructions


def test_the_best_so_far_alone_is_improved_where_that_is_wanted(rows):
    program = compiled(
        model(rows), rows, saying, ScriptedLM(wise), settings={"candidate_selection_strategy": "current_best"}
    )

    assert program.signature.instructions == GOOD


# --- what is shown, and what judges ---


def asked_rows(requests):
    return {r.messages[-1].text.rsplit("\n", 1)[-1] for r in requests}


def test_rows_that_are_shown_never_judge(rows, metric):
    """A proposer that copies the answers it sees gains nothing: no row that it saw decides."""

    def copy(request):
        told = request.messages[-1].text
        pairs = re.findall(r"given question: (q\d+).*?Right is answer: (a\d+)", told, re.DOTALL)
        text = "Answers: " + ", ".join(f"{q} is {a}" for q, a in pairs)
        return f"[[ ## diagnosis ## ]]\nI see.\n\n[[ ## instructions ## ]]\n{text}"

    def answer(request):
        question = request.messages[-1].text.rsplit("[[ ## question ## ]]\n", 1)[1].split()[0]
        known = re.search(rf"{question} is (a\d+)", request.messages[0].text)
        return f"[[ ## answer ## ]]\n{known.group(1) if known else 'a0'}"

    report = compiled(ScriptedLM(answer), rows, metric, ScriptedLM(copy)).report

    assert "not better" in report.found[0]
    assert ", 0 better" not in report.found[0]
    assert report.verdict == "nothing learned"


def test_runs_that_are_right_are_not_reflected_upon_beside_one_for_each(rows, metric, writer):
    prompt_model = writer()
    compiled(model(rows, base=0.5, instructions={}), rows, metric, prompt_model)
    for request in prompt_model.requests:
        shown = re.findall(r"^Score (\d)", request.messages[-1].text, re.MULTILINE)
        assert (len(shown), shown.count("1")) == (3, 1)


def test_what_was_tried_and_did_not_help_is_shown(rows, metric):
    def write(request):
        number = request.sampling.rollout_id
        return f"[[ ## diagnosis ## ]]\nI see.\n\n[[ ## instructions ## ]]\nVariant {number}."

    prompt_model = ScriptedLM(write)
    compiled(model(rows, base=0.5, instructions={}, difficulty=0.0), rows, metric, prompt_model)

    last = prompt_model.requests[-1].messages[-1].text
    assert re.search(r"\[\[ ## tried ## \]\]\nVariant \d+\.", last)


def test_a_program_that_is_perfect_is_left_alone(rows, metric, writer):
    prompt_model = writer(GOOD)
    report = compiled(model(rows, base=1.0), rows, metric, prompt_model).report

    assert prompt_model.requests == []
    assert report.verdict == "nothing learned"
    assert "nothing went wrong" in str(report.found)
    assert report.usage.calls == 20  # the rows that are read


@pytest.mark.parametrize(("wanted", "shown"), [(True, True), (False, False)])
def test_answers_that_do_not_fit_teach_only_where_that_is_wanted(rows, metric, wanted, shown):
    def answer(request):
        return f"[[ ## answer ## ]]\n{'1' if 'as a number' in request.messages[0].text else 'many'}"

    seen = []

    def write(request):
        seen.append(request.messages[-1].text)
        return "[[ ## diagnosis ## ]]\nI see.\n\n[[ ## instructions ## ]]\nWrite it as a number."

    student = tf.Predict("question -> answer: int")
    settings = {"add_format_failure_as_feedback": wanted}
    report = compiled(ScriptedLM(answer), rows, lambda e, p: 1.0, ScriptedLM(write), student, settings=settings).report

    assert bool(seen) is shown
    assert all("Feedback: the answer does not fit the signature" in text and "many" in text for text in seen)
    assert report.improved is shown


# --- metrics with feedback on single steps ---


@dataclass
class Judge:
    """A metric in the form of the field's GEPA metrics, which notes how it was called."""

    calls: list = field(default_factory=list)

    def __call__(self, gold, pred, trace, pred_name, pred_trace):
        self.calls.append(
            (pred_name, trace is not None, pred_trace and [(type(p).__name__, i, o) for p, i, o in pred_trace])
        )
        score = float(gold.answer == pred.answer)
        if pred_name is None:
            return score
        return tf.Prediction(score=score, feedback=f"{GOOD} ({pred_name})")


def test_a_metric_that_takes_pred_name_speaks_of_each_step_of_what_is_read(rows):
    judge, prompt_model = Judge(), ScriptedLM(wordy)
    program = compiled(model(rows, misled=0.2), rows, judge, prompt_model, TwoSteps())

    assert program.report.verdict == "better"
    assert GOOD in program.think.signature.instructions + program.say.signature.instructions
    for request in prompt_model.requests:
        told = request.messages[-1].text
        step = re.search(r"Step (\w+)\nInstructions", told).group(1)
        assert set(re.findall(r"Feedback: .*\((\w+)\)", told)) == {step}
    asked = [call for call in judge.calls if call[0] is not None]
    assert {name for name, *_ in asked} == {"think", "say"}
    assert all(traced and steps[0][0] == "Predict" for _, traced, steps in asked)
    assert all(not traced and steps is None for name, traced, steps in judge.calls if name is None)
    assert len(asked) < len(judge.calls) / 2  # rows that judge need no words


def test_a_program_that_is_one_predictor_is_called_self(rows):
    judge = Judge()
    compiled(model(rows), rows, judge, ScriptedLM(wise))

    assert {name for name, *_ in judge.calls} == {None, "self"}


# --- limits ---


@pytest.mark.parametrize(
    ("settings", "predictors", "most"),
    [
        ({"auto": "light"}, 1, 780),
        ({"auto": "medium"}, 1, 1190),
        ({"auto": "heavy"}, 1, 1735),
        ({}, 1, 780),
        ({"max_full_evals": 3}, 1, 300),
        ({"max_metric_calls": 77}, 1, 77),
        ({"auto": "light"}, 2, 100 + 30 + 35 * 20 + 500),
    ],
)
def test_the_limits_have_the_numbers_of_the_field(rows, metric, settings, predictors, most):
    program = QA if predictors == 1 else TwoSteps()
    signatures = {path: p.signature for path, p in program.named_predictors()}
    brief = Brief(program.parameters(), signatures, rows(100), 0, student=program)

    assert tf.GEPA(metric, **settings).rollouts(brief)[1] == most


@pytest.mark.parametrize("most", [32, 60, 150])
def test_no_more_rollouts_than_are_allowed(rows, metric, writer, most):
    lm = model(rows)
    report = compiled(lm, rows, metric, writer("Be quick.", GOOD), settings={"max_metric_calls": most}).report

    assert 0 < report.evidence.phases["search"].calls <= most
    assert f"of at most {most} rollouts" in report.found[1]


@pytest.mark.parametrize("calls", [5, 60, 330])
def test_a_budget_holds_and_leaves_room_for_the_comparison(rows, calls):
    lm, prompt_model = model(rows), ScriptedLM(wise)
    report = compiled(lm, rows, saying, prompt_model, budget=tf.Budget(calls=calls)).report

    assert len(lm.requests) + len(prompt_model.requests) <= calls
    assert (report.verdict == "better") is (calls > 5)  # what there is room for is compared
    assert (report.stop_reason == "finished") is (calls == 330)


def test_the_plan_covers_what_is_spent(rows, metric, writer):
    teleprompter = tf.GEPA(metric, max_metric_calls=200, reflection_lm=writer("Be quick.", GOOD))
    with tf.context(lm=model(rows)):
        planned = teleprompter.plan(QA, trainset=rows(60), valset=rows(100, start=500))
        report = teleprompter.compile(QA, trainset=rows(60), valset=rows(100, start=500)).report

    search = next(p for p in planned.phases if p.name == "search")
    assert search.calls[0] <= report.evidence.phases["search"].calls <= search.calls[1]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_handful_of_rows_is_no_error(rows, metric, writer, n):
    report = compiled(model(rows, base=0.0), rows, metric, writer("Be quick.", GOOD), n=n).report

    assert report.search_rows == n


# --- what goes wrong ---


def test_the_same_script_again_pays_nothing(rows, tmp_path):
    with tf.context(journal=tmp_path / "journal.sqlite"):
        first = compiled(model(rows), rows, saying, ScriptedLM(wise), run="a")
        lm, prompt_model = model(rows), ScriptedLM(wise)
        again = compiled(lm, rows, saying, prompt_model, run="a")

    assert lm.requests == prompt_model.requests == []
    assert again.dump_state()["parameters"] == first.dump_state()["parameters"]
    assert again.report.found == first.report.found


def test_a_run_that_was_stopped_goes_on_to_the_same_result(rows, tmp_path):
    whole = compiled(model(rows), rows, saying, ScriptedLM(wise))
    with tf.context(journal=tmp_path / "journal.sqlite"):
        lm, prompt_model = model(rows), ScriptedLM(wise)
        compiled(lm, rows, saying, prompt_model, run="a", budget=tf.Budget(calls=60))
        second, third = model(rows), ScriptedLM(wise)
        resumed = compiled(second, rows, saying, third, run="a")

    assert resumed.dump_state()["parameters"] == whole.dump_state()["parameters"]
    assert resumed.report.found == whole.report.found
    paid = sum(len(m.requests) for m in (lm, prompt_model, second, third))
    assert paid == whole.report.usage.calls


def test_a_proposer_that_fails_or_says_nothing_new_ends_the_search_without_harm(rows, metric):
    failing = ScriptedLM(lambda _: tf.LMServerError("overloaded"))
    report = compiled(model(rows), rows, metric, failing).report
    assert report.verdict == "nothing learned"
    assert report.warnings["reflection failed"] == 8
    assert "nothing new" in str(report.found)

    text = QA.signature.instructions
    echoing = ScriptedLM(lambda _: f"[[ ## diagnosis ## ]]\nx\n\n[[ ## instructions ## ]]\n{text}")
    report = compiled(model(rows), rows, metric, echoing).report
    assert report.verdict == "nothing learned"
    assert len(echoing.requests) == 8


def test_one_failure_of_several_does_not_end_it(rows):
    def moody(request):
        return tf.LMServerError("overloaded") if request.sampling.rollout_id == 0 else wise(request)

    program = compiled(model(rows), rows, saying, ScriptedLM(moody))

    assert program.signature.instructions == GOOD
    assert program.report.warnings["reflection failed"] == 1


def test_rubbish_from_the_proposer_loses(rows, metric):
    program = compiled(model(rows), rows, metric, ScriptedLM(lambda r: "?" * (1 + r.sampling.rollout_id)))

    assert not program.report.improved
    assert program.signature.instructions == QA.signature.instructions


def test_frozen_instructions_stay(rows):
    student = TwoSteps().freeze("think.*")
    program = compiled(model(rows, misled=0.1), rows, saying, ScriptedLM(wise), student)
    assert set(program.report.candidate) == {"say.instructions"}

    frozen = compiled(model(rows), rows, saying, ScriptedLM(wise), TwoSteps().freeze("*.instructions"))
    assert frozen.report.verdict == "nothing learned"
    assert "all instructions are frozen" in str(frozen.report.found)


@pytest.mark.parametrize(
    "wrong",
    [
        {"auto": "huge"},
        {"auto": "light", "max_full_evals": 2},
        {"max_metric_calls": 10},
        {"max_full_evals": 0},
        {"reflection_minibatch_size": 0},
        {"candidate_selection_strategy": "best"},
        {"component_selector": "some"},
        {"max_merge_invocations": -1},
        {"num_proposals": 0},
    ],
)
def test_wrong_settings_are_told_before_anything_is_paid(metric, wrong):
    with pytest.raises(tf.UsageError, match=next(iter(wrong))):
        tf.GEPA(metric, **wrong)


def test_a_metric_is_needed():
    with pytest.raises(tf.MetricError, match="a metric is a function"):
        tf.GEPA(None)


def test_the_state_is_json(rows, metric):
    """What is remembered can be written down at any time."""
    seen = []

    class Watched(tf.GEPA):
        def ask(self, brief, state):
            seen.append(json.loads(json.dumps(state)) == state)
            return super().ask(brief, state)

    teleprompter = Watched(saying, max_metric_calls=120, reflection_lm=ScriptedLM(wise))
    with tf.context(lm=model(rows)):
        teleprompter.compile(QA, trainset=rows(40), valset=rows(20, start=500))

    assert seen
    assert all(seen)
