"""Stacking: compiled programs as students, teachers and metrics; rows with few labels or none; reuse between them."""

import tuneful as tf
from tuneful.testing import ScriptedLM


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> hint")
        self.answer = tf.Predict("question, hint -> answer")

    def forward(self, question):
        return self.answer(question=question, hint=self.think(question=question).hint)


def number_of(request):
    return request.messages[-1].content.rsplit("q", 1)[-1].split()[0]


def is_answer(request):
    return "hint ## ]]" in request.messages[-1].content


def two_steps(request):
    if is_answer(request):
        return f"[[ ## answer ## ]] {'a' if int(number_of(request)) % 2 else 'wrong'}{number_of(request)}"
    return f"[[ ## hint ## ]] hint for q{number_of(request)}"


def test_bootstrap_of_a_bootstrap_the_search_starts_from_the_compiled_program(rows, metric):
    """The second compile's candidates stand beside the compiled program, which is itself one of them."""
    with tf.context(lm=ScriptedLM(two_steps)):
        once = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(TwoSteps(), trainset=rows(12))
        teleprompter = tf.BootstrapRS(metric=metric, max_labeled_demos=0, num_candidate_programs=3)
        twice = teleprompter.compile(once, teacher=once, trainset=rows(40))

    shown = [[d.question for d in t.program.answer.demos] for t in twice.report.top()]
    assert ["q1", "q3", "q5", "q7"] in shown
    assert len(shown) > 1


def test_a_compiled_program_with_another_lm_teaches_the_plain_one(rows, metric):
    big = ScriptedLM(two_steps, model="big")
    with tf.context(lm=ScriptedLM(lambda r: "[[ ## hint ## ]] ?\n[[ ## answer ## ]] ?", model="small")):
        strong = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0)
        teacher = strong.compile(TwoSteps().using(lm=big), trainset=rows(12))
        student = strong.compile(TwoSteps(), teacher=teacher, trainset=rows(12))

    assert [d.answer for d in student.answer.demos] == ["a1", "a3", "a5", "a7"]
    assert student.get_lm() is None
    assert student.report.models == ["big"]


def test_a_program_that_holds_the_students_teaches_it(rows, metric):
    """The best of three attempts is a teacher of the program that it samples."""
    teacher = tf.BestOfN(TwoSteps(), N=3, reward_fn=lambda inputs, p: p.answer.startswith("a"), threshold=1)
    with tf.context(lm=ScriptedLM(two_steps)):
        student = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(
            TwoSteps(), teacher=teacher, trainset=rows(12)
        )

    assert [d.hint for d in student.think.demos] == [f"hint for q{i}" for i in (1, 3, 5, 7)]


def test_unlabelled_rows_are_judged_by_a_metric_that_needs_no_labels():
    unlabelled = [tf.Example(question=f"q{i}").with_inputs("question") for i in range(12)]
    with tf.context(lm=ScriptedLM(two_steps)):
        teleprompter = tf.BootstrapRS(
            metric=lambda e, p, trace=None: p.answer.startswith("a"), num_candidate_programs=2
        )
        compiled = teleprompter.compile(TwoSteps(), trainset=unlabelled)

    assert all(t.program.answer.demos or not t.program.think.demos for t in compiled.report.top())
    assert max(len(t.program.think.demos) for t in compiled.report.top()) == 4


def test_labels_for_some_fields_fill_the_steps_that_they_fit(rows, metric):
    labelled = [
        tf.Example(question=f"q{i}", hint=f"labelled hint {i}", answer=f"a{i}").with_inputs("question")
        for i in range(12)
    ]
    with tf.context(lm=ScriptedLM(two_steps)):
        teleprompter = tf.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=5)
        compiled = teleprompter.compile(TwoSteps(), trainset=labelled[:6] + rows(12)[6:])

    hints = [d.hint for d in compiled.think.demos]
    assert hints[:2] == ["hint for q1", "hint for q3"]
    assert set(hints[2:]) <= {f"labelled hint {i}" for i in (0, 2, 4, 5)}
    assert len(hints) == 5


def test_a_metric_that_looks_at_the_trace_decides_which_runs_are_shown(rows):
    def strict(example, prediction, trace=None):
        right = example.answer == prediction.answer
        if trace is None:
            return right
        (hint,) = trace.of("think")
        return right and hint.outputs["hint"].endswith(("5", "7"))

    with tf.context(lm=ScriptedLM(two_steps)):
        teleprompter = tf.BootstrapFewShot(metric=strict, max_labeled_demos=0)
        compiled = teleprompter.compile(TwoSteps(), trainset=rows(12))

    assert [d.question for d in compiled.think.demos] == ["q5", "q7"]


def test_a_compiled_program_is_the_metric():
    """Its demos are in every judgement, and what it costs is in the account of the compile."""
    judged = []

    def judge(request):
        judged.append(request)
        answer = request.messages[-1].text.split("answer ## ]]")[1].split()[0]
        return f"[[ ## score ## ]] {float(answer.startswith('a'))}"

    class Judge(tf.Module):
        def __init__(self):
            self.rate = tf.Predict("question, answer -> score: float")

        def forward(self, example, pred, trace=None):
            return self.rate(question=example.question, answer=pred.answer).score

    graded = [tf.Example(question=f"g{i}", answer=f"a{i}", score=1.0).with_inputs("question", "answer") for i in (1, 2)]
    metric = Judge()
    rated = tf.LabeledFewShot(k=2).compile(metric.rate, trainset=graded)
    metric.rate = rated.using(lm=ScriptedLM(judge, model="judge"))
    unlabelled = [tf.Example(question=f"q{i}").with_inputs("question") for i in range(12)]
    with tf.context(lm=ScriptedLM(two_steps)):
        compiled = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(TwoSteps(), trainset=unlabelled)

    assert [d.answer for d in compiled.answer.demos] == ["a1", "a3", "a5", "a7"]
    assert all(len(r.messages) == 6 for r in judged)
    assert compiled.report.usage.calls == 3 * len(judged)


def test_a_candidate_that_changes_a_later_step_does_not_ask_the_earlier_ones_again(rows, metric):
    student = TwoSteps()
    student.freeze("think.*")
    lm = ScriptedLM(two_steps, cache=True)
    with tf.context(lm=lm, cache=None):
        teleprompter = tf.BootstrapRS(metric=metric, max_labeled_demos=0, num_candidate_programs=6)
        report = teleprompter.compile(student, trainset=rows(40), valset=rows(20, start=500)).report

    asked = [number_of(r) for r in lm.requests if not is_answer(r)]
    assert len(asked) == len(set(asked))
    assert len(asked) <= 60
    assert len([r for r in lm.requests if is_answer(r)]) > 2 * len(asked)
    assert len(report.top()) > 3


def test_the_users_own_cache_stays_in_force(rows, metric, tmp_path):
    cache = tf.Cache(tmp_path / "mine.sqlite")
    with tf.context(lm=ScriptedLM(two_steps, cache=True), cache=cache):
        tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(TwoSteps(), trainset=rows(12))

    assert len(cache) > 0
