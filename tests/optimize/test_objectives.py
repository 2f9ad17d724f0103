"""What counts beside the metric: costs kept low, limits on a run, the front and what is picked of it."""

import pytest

import tuneful as tf
from tuneful.optimize.report import CompileReport
from tuneful.optimize.trial import Ranked, Trial
from tuneful.testing import ScriptedLM

LONG = "Answer with care. " * 40


class Given(tf.Teleprompter):
    def __init__(self, metric, *candidates):
        self.metric = metric
        self._candidates = [{}, *candidates]

    def ask(self, brief, state):
        rows = tuple(range(len(brief.trainset)))
        return [] if state else [Trial(c, rows) for c in self._candidates]

    def tell(self, brief, state, results):
        return {"means": [sum(o.score for o in found) / len(found) for _, found in results]}

    def ranked(self, brief, state):
        pairs = zip(self._candidates, state.get("means", ()), strict=False)
        return sorted((Ranked(c, m, len(brief.trainset)) for c, m in pairs), key=lambda r: -r.score)

    def finalists(self, brief, state):
        return [r.candidate for r in self.ranked(brief, state)[:1]]


def knows(*marks):
    """A model that is right on nine rows of ten where a prompt holds a mark, and on three of ten elsewhere."""

    def answer(request):
        text = request.messages[0].text + request.messages[-1].text
        number = int("".join(c for c in request.messages[-1].text.split("q")[-1].split()[0] if c.isdigit()))
        right = number % 10 < (9 if any(mark in text for mark in marks) else 3)
        return f"[[ ## answer ## ]]\n{f'a{number}' if right else 'wrong'}"

    return ScriptedLM(answer)


def compiled(rows, metric, lm, *candidates, student=None, **given):
    with tf.context(lm=lm):
        teleprompter = Given(metric, *({"instructions": text} for text in candidates))
        return teleprompter.compile(
            student or tf.Predict("question -> answer"), trainset=rows(40), valset=rows(100, 40), **given
        )


def test_of_programs_that_are_as_good_the_cheapest_is_returned(rows, metric):
    objectives = tf.Objectives(minimize="prompt_tokens")
    made = compiled(rows, metric, knows("care"), LONG, "Take care.", objectives=objectives)
    assert made.signature.instructions == "Take care."
    assert made.report.verdict == "better"
    assert (
        compiled(rows, metric, knows("care"), LONG, "Take care.").signature.instructions == LONG
    )  # without objectives: the first


def test_a_cheaper_program_that_is_as_good_takes_the_place_of_the_original(rows, metric):
    student = tf.Predict(tf.Signature("question -> answer", LONG))
    plain = compiled(rows, metric, knows("care", "Brief"), "Brief.", student=student)
    assert plain.report.verdict == "nothing learned"
    made = compiled(
        rows, metric, knows("care", "Brief"), "Brief.", student=student, objectives=tf.Objectives("prompt_tokens")
    )
    assert made.report.verdict == "not worse"
    assert made.signature.instructions == "Brief."
    assert "a run instead of" in made.report.advice
    assert student.signature.instructions == LONG


def test_a_cheaper_program_that_is_worse_does_not(rows, metric):
    student = tf.Predict(tf.Signature("question -> answer", LONG))
    made = compiled(rows, metric, knows("care"), "Brief.", student=student, objectives=tf.Objectives("prompt_tokens"))
    assert made.signature.instructions == LONG
    assert made.report.verdict == "no gain"


def test_a_run_beyond_a_limit_is_worth_nothing(rows, metric):
    made = compiled(
        rows, metric, knows("care"), LONG, "Take care.", objectives=tf.Objectives(at_most={"prompt_tokens": 150})
    )
    assert made.signature.instructions == "Take care."
    assert made.report.warnings["over limit"] == 40  # the long one, on the search rows


def test_a_metric_has_to_be_one_for_which_0_is_a_bad_score(rows):
    def loss(row, said, trace=None):
        return -float(row.answer != said.answer) - 1

    for objectives in (tf.Objectives(at_most={"prompt_tokens": 150}), tf.Objectives()):
        with pytest.raises(tf.UsageError, match=r"scored one -[12], so that failing would pay"):
            compiled(rows, loss, knows("care"), "Take care.", objectives=objectives)


def test_the_front_holds_what_nothing_beats_and_pick_takes_from_it(rows, metric):
    report = compiled(
        rows, metric, knows("care"), LONG, "Take care.", "Be quick.", objectives=tf.Objectives("prompt_tokens")
    ).report
    shown = [one.candidate.get("instructions") for one in report.front]
    assert shown[0] == "Take care."
    assert LONG not in shown
    means = [one.measured.mean for one in report.front]
    costs = [one.costs["prompt_tokens"] for one in report.front]
    assert means == sorted(means, reverse=True)
    assert costs == sorted(costs, reverse=True)
    assert report.pick(at_least=0.8, minimize="prompt_tokens").signature.instructions == "Take care."
    cheapest = report.pick(minimize="prompt_tokens")
    assert cheapest.signature.instructions == report.front[-1].candidate.get(
        "instructions", report.student.signature.instructions
    )
    with pytest.raises(tf.UsageError, match=r"no compared program is within these limits.*(?s:.)*prompt tokens"):
        report.pick(prompt_tokens=3)
    with pytest.raises(tf.UsageError, match="there is no cost 'tokens'"):
        report.pick(tokens=3)
    assert "(the original)" in str(report) or "(returned)" in str(report)


def test_the_report_is_saved_and_read_with_its_front(rows, metric, tmp_path):
    with tf.context(journal=tmp_path / "journal.sqlite"):
        objectives = tf.Objectives("prompt_tokens", at_most={"seconds": 60})
        report = compiled(rows, metric, knows("care"), LONG, "Take care.", objectives=objectives, run="x").report
        again = compiled(rows, metric, ScriptedLM([]), LONG, "Take care.", objectives=objectives, run="x").report
    read = CompileReport.from_json(report.to_json())
    assert [one.candidate for one in read.front] == [one.candidate for one in report.front]
    assert read.objectives == objectives
    assert again.weighed == report.weighed  # costs too come from the journal, nothing was asked
    report.save(tmp_path / "report.html")
    assert "prompt tokens" in (tmp_path / "report.html").read_text()


def test_costs_are_those_of_a_run_without_cache(rows, metric):
    with tf.context(cache=tf.Cache(None)):
        lm = ScriptedLM(lambda r: "[[ ## answer ## ]]\na1", cache=True)
        report = compiled(rows, metric, lm, "Take care.", objectives=tf.Objectives("prompt_tokens")).report
        again = compiled(rows, metric, lm, "Take care.", objectives=tf.Objectives("prompt_tokens")).report
    assert again.usage.calls < report.usage.calls
    assert [one.costs["prompt_tokens"] for one in again.weighed] == [
        one.costs["prompt_tokens"] for one in report.weighed
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"minimize": "tokens"}, "there is no cost 'tokens'"),
        ({"at_most": {"latency": 2}}, "there is no cost 'latency'"),
        ({"at_most": {"seconds": 0}}, "expected a number above 0"),
        ({"margin": 0}, "`margin` is 0"),
    ],
)
def test_objectives_that_mean_nothing_are_refused(given, said):
    with pytest.raises(tf.UsageError, match=said):
        tf.Objectives(**given)


def test_what_cannot_be_judged_is_refused_before_any_call(rows, metric):
    lm = ScriptedLM([], price_per_million=None)
    with pytest.raises(tf.UsageError, match=r"price of .* is not known"):
        compiled(rows, metric, tf.LM("openai/unheard-of", api_key="x"), "a", objectives=tf.Objectives("cost_usd"))
    with tf.context(lm=lm), pytest.raises(tf.UsageError, match="objectives need a comparison"):
        tf.LabeledFewShot(k=2).compile(
            tf.Predict("question -> answer"), trainset=rows(10), objectives=tf.Objectives("prompt_tokens")
        )


def test_a_program_with_nothing_to_gain_still_becomes_cheaper(rows, metric):
    lm = ScriptedLM(lambda request: f"[[ ## answer ## ]]\na{request.messages[-1].content.split('q')[-1].split()[0]}")
    student = tf.Predict("question -> answer")
    student.demos = rows(6, 900)
    task = {"trainset": rows(60), "valset": rows(200, 100)}
    with tf.context(lm=lm):
        plain = tf.compile(student, metric=metric, **task, propose=False)
        lean = tf.compile(student, metric=metric, **task, propose=False, objectives=tf.Objectives("prompt_tokens"))
        few = tf.compile(
            student,
            metric=metric,
            **task | {"valset": rows(30, 100)},
            propose=False,
            objectives=tf.Objectives("prompt_tokens"),
        )
    assert plain.report.verdict == "nothing learned"
    assert few.report.verdict == "not distinguishable"
    assert "not shown to be as good" in few.report.advice
    assert lean.report.verdict == "not worse"
    assert not lean.demos


@pytest.mark.parametrize(
    "given", [{"margin": "5"}, {"margin": None}, {"minimize": None}, {"at_most": {"seconds": "2"}}, {"at_most": 5}]
)
def test_what_is_no_objective_is_refused(given):
    with pytest.raises(tf.UsageError, match="expected"):
        tf.Objectives(**given)
