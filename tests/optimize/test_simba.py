"""SIMBA: it learns from rows where runs differ, by demos and by rules."""

import pytest

import tuneful as tf
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

QA = tf.Predict("question -> answer")


def adviser(*rules, step="program"):
    """A prompt model that gives these rules for a step, in turn."""
    count = iter(range(1000))

    def advise(request):
        rule = rules[next(count) % len(rules)]
        return f'[[ ## discussion ## ]]\nIt guessed.\n\n[[ ## advice ## ]]\n{{"{step}": "{rule}"}}'

    return ScriptedLM(advise)


def compiled(lm, rows, metric, student=QA, prompt_model=None, seed=0, run=None, budget=None, held_out=100, **settings):
    given = {"bsize": 16, "num_candidates": 3, "max_steps": 4, **settings}
    teleprompter = tf.SIMBA(metric=metric, prompt_model=prompt_model or adviser("Be kind."), **given)
    with tf.context(lm=lm, cache=False):
        return teleprompter.compile(
            student, trainset=rows(64), valset=rows(held_out, start=500), seed=seed, run=run, budget=budget
        )


def simulated(rows, **landscape):
    return SimulatedLM(rows(700), Landscape(**{"base": 0.4, "difficulty": 0.3, **landscape}))


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.say(question=question, thought=self.think(question=question).thought)


# --- what it finds ---


def test_a_rule_that_helps_is_found_among_others(rows, metric):
    lm = simulated(rows, instructions={"Count twice.": 0.4})
    program = compiled(lm, rows, metric, prompt_model=adviser("Be quick.", "Count twice.", "Guess."), max_demos=0)

    assert program.report.verdict == "better"
    assert "Count twice." in program.signature.instructions
    assert program.signature.instructions.startswith(QA.signature.instructions)
    assert program.demos == []


def test_demos_of_good_runs_that_help_are_found(rows, metric):
    program = compiled(simulated(rows, any_demo=0.35), rows, metric)

    assert program.report.verdict == "better"
    assert all(demo.answer == f"a{demo.question[1:]}" for demo in program.demos)


def test_a_rule_goes_to_the_step_that_it_is_for(rows, metric):
    lm = simulated(rows, base=0.7, instructions={"Count twice.": 0.3}, misled=0.2)
    prompt_model = adviser("Count twice.", step="say")
    program = compiled(lm, rows, metric, TwoSteps(), prompt_model, max_demos=0)

    assert program.report.verdict == "better"
    assert "Count twice." in program.say.signature.instructions
    assert program.think.signature.instructions == TwoSteps().think.signature.instructions


def test_where_all_runs_are_alike_no_rule_is_asked_for(rows, metric):
    prompt_model = adviser("Be kind.")
    lm = ScriptedLM(lambda r: "[[ ## answer ## ]]\nno")
    program = compiled(lm, rows, metric, prompt_model=prompt_model)

    assert prompt_model.requests == []
    assert program.report.verdict == "nothing learned"


# --- how it looks ---


def test_the_adviser_sees_both_runs_what_is_right_and_why(rows, metric):
    def told(example, prediction, trace=None):
        right = metric(example, prediction)
        return tf.Score(float(right), feedback="as it should be" if right else "that is another number")

    prompt_model = adviser("Be kind.", step="say")
    compiled(simulated(rows), rows, told, TwoSteps(), prompt_model, max_demos=0)
    text = prompt_model.requests[0].messages[-1].content

    number = text.split("[[ ## inputs ## ]]")[1].split("question: q")[1].split()[0]
    worse, better = text.split("[[ ## worse ## ]]")[1].split("[[ ## better ## ]]")
    assert f"answer: a{number}" in text.split("[[ ## labels ## ]]")[1].split("[[")[0]
    assert "Score 0: that is another number" in worse
    assert f"wrote answer: a{number}" in better
    assert "Score 1: as it should be" in better
    assert all(f"Step {name}" in text for name in ("think", "say"))
    assert "class TwoSteps" in text


def test_no_run_is_shown_its_own_answer_and_no_predictor_more_demos_than_allowed(rows, metric):
    lm = simulated(rows, any_demo=0.3)
    report = compiled(lm, rows, metric, max_demos=2, max_steps=6).report

    for request in lm.requests:
        *shown, asked = [m.text for m in request.messages if m.role == "user"]
        assert not any(text.split("\n")[1] == asked.split("\n")[1] for text in shown)
    assert 1 <= max(len(top.program.demos) for top in report.top()) <= 2


def test_every_row_has_its_turn_before_one_has_another(rows, metric):
    lm = simulated(rows)
    compiled(lm, rows, metric, bsize=20, max_steps=4, max_demos=0)
    again = [r.messages[-1].text.split("\n")[1] for r in lm.requests if r.sampling.rollout_id == 1]
    later = [r.messages[-1].text.split("\n")[1] for r in lm.requests if r.sampling.rollout_id in (4, 7)]

    assert len({*again, *later}) == 20 + 40  # 3 of 64 // 20 minibatches; the fourth begins anew


def test_a_teacher_runs_each_row_once_more(rows, metric):
    teacher = ScriptedLM(lambda r: f"[[ ## answer ## ]]\na{r.messages[-1].content.rsplit('q', 1)[1].split()[0]}")
    program = compiled(
        simulated(rows, base=0.2, any_demo=0.4), rows, metric, teacher_settings={"lm": teacher}, max_steps=2
    )

    assert len(teacher.requests) == 2 * 16
    assert program.report.verdict == "better"


def test_what_is_frozen_stays_as_it_is(rows, metric):
    student = TwoSteps().freeze("think.*", "say.instructions")
    report = compiled(simulated(rows, any_demo=0.2), rows, metric, student).report

    assert {path for top in report.ranked for path in top.candidate} == {"say.demos"}


def test_long_inputs_are_cut_in_demos(rows, metric):
    program = compiled(simulated(rows, any_demo=0.5), rows, metric, demo_input_field_maxlen=2, max_steps=2)

    shown = [demo for top in program.report.top() for demo in top.program.demos]
    assert shown
    assert all(len(demo.question) <= 2 for demo in shown)


# --- stops, failures, mistakes ---


def test_a_search_that_stopped_goes_on_and_pays_nothing_twice(rows, metric, tmp_path):
    def run(journal, calls=None):
        lm = simulated(rows, any_demo=0.2, instructions={"Count twice.": 0.2})
        prompt_model = adviser("Count twice.")
        with tf.context(journal=tmp_path / journal):
            program = compiled(
                lm,
                rows,
                metric,
                prompt_model=prompt_model,
                run="r",
                budget=tf.Budget(calls=calls),
                held_out=40,
                max_steps=2,
            )
        return program.dump_state()["parameters"], [r.key() for r in (*lm.requests, *prompt_model.requests)]

    whole, _ = run("whole")
    again, none = run("whole")
    _, first = run("parts", calls=150)
    resumed, rest = run("parts")

    assert whole == again == resumed
    assert none == []
    assert len({*first, *rest}) == len(first) + len(rest)


@pytest.mark.parametrize("calls", [20, 450])
def test_a_small_budget_is_kept(rows, metric, calls):
    report = compiled(simulated(rows, any_demo=0.5), rows, metric, budget=tf.Budget(calls=calls)).report

    assert report.usage.calls <= calls
    assert "calls" in report.stop_reason
    assert calls < 400 or report.verdict == "better"


@pytest.mark.parametrize(
    "said",
    [lambda _: "I cannot do that.", lambda _: tf.LMServerError("overloaded"), lambda _: "[[ ## advice ## ]]\n{}"],
)
def test_an_adviser_that_is_of_no_use_does_not_end_the_search(rows, metric, said):
    report = compiled(simulated(rows, any_demo=0.4), rows, metric, prompt_model=ScriptedLM(said)).report

    assert report.verdict == "better"
    assert " 0 by a rule" in report.found[0]
    assert report.warnings["advice failed"] > 0


def test_the_same_seed_gives_the_same_search(rows, metric):
    def tops(seed):
        lm = simulated(rows, any_demo=0.2, demo_spread=0.05)
        return [(t.score, t.rows) for t in compiled(lm, rows, metric, seed=seed, max_steps=1, held_out=20).report.top()]

    assert tops(1) == tops(1) != tops(2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bsize": 0},
        {"num_candidates": 1},
        {"max_steps": 0},
        {"max_demos": -1},
        {"demo_input_field_maxlen": 0},
        {"temperature_for_sampling": 0},
        {"temperature_for_candidates": -1.0},
    ],
)
def test_wrong_settings_are_told_before_any_call(metric, wrong):
    with pytest.raises(tf.UsageError):
        tf.SIMBA(metric=metric, **wrong)
