"""A teacher's good runs as training data."""

import asyncio

import pytest

import tuneful as tf
from tuneful.evaluate.rollout import roll_out
from tuneful.finetune.from_steps import from_steps
from tuneful.finetune.to_dataset import to_dataset
from tuneful.optimize.record import to_record
from tuneful.program.running.portal import portal
from tuneful.testing import DummyLM, ScriptedLM


def exact(example, prediction, trace=None):
    return prediction.answer == example.answer


def row(question, **labels):
    return tf.Example(question=question, **labels).with_inputs("question")


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.answer = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.answer(question=question, thought=self.think(question=question).thought)


def adds(request):
    """A model that thinks of both numbers and adds them; it cannot add sevens, and is lost without a sum."""
    asked = request.messages[-1].text
    if "answer" not in request.messages[0].text:
        return "[[ ## thought ## ]] " + asked.split("]]")[1].split("?")[0].strip().split("\n")[0]
    numbers = asked.split("[[ ## thought ## ]]")[1].split("\n")[1].split("+")
    total = sum(map(int, numbers))
    return f"[[ ## answer ## ]] {total + (7 in map(int, numbers))}"


ROWS = [row("1+2?", answer="3"), row("7+1?", answer="8"), row("2+2?", answer="4"), row("5+5?"), row("7+7?")]


def test_every_step_of_a_run_that_the_metric_likes_is_an_example():
    found = to_dataset(TwoSteps().using(lm=ScriptedLM(adds)), ROWS[:3], metric=exact)

    assert [(e.path, e.completion.split("\n")[1]) for e in found] == [
        ("think", "1+2"), ("answer", "3"), ("think", "2+2"), ("answer", "4"),
    ]  # fmt: skip
    assert found.kept == {"passed the metric": 2}
    assert found.dropped == {"metric below threshold": 1}


def test_what_is_learned_is_what_the_served_program_is_asked():
    teacher = TwoSteps().using(lm=ScriptedLM(adds))
    teacher.think.demos = [{"question": "0+0?", "thought": "0+0"}]
    student = TwoSteps()
    small = ScriptedLM(adds)

    found = to_dataset(student, ROWS, metric=exact, teacher=teacher, lm=small)
    served = student.using(lm=small)
    for example in ROWS:
        served(**dict(example.inputs().items()))

    learned = {e.messages for e in found}
    assert learned <= {r.messages for r in small.requests}
    assert len(learned) == 8
    assert not student.think.demos
    assert teacher.think.demos


def test_rows_without_labels_are_kept_as_the_teacher_answers_them():
    program = TwoSteps().using(lm=ScriptedLM(adds))

    found = to_dataset(program, ROWS, metric=exact)
    unjudged = to_dataset(program, ROWS)

    assert found.kept == {"passed the metric": 2, "unlabelled, not judged": 2}
    assert found.dropped == {"metric below threshold": 1}
    assert unjudged.kept == {"no metric": 5}
    assert len(unjudged) == 10


def test_a_metric_that_needs_no_labels_judges_rows_without_them():
    def even(example, prediction, trace=None):
        return int(prediction.answer) % 2 == 0

    found = to_dataset(TwoSteps().using(lm=ScriptedLM(adds)), ROWS, metric=even, judge_unlabelled=True)

    assert found.kept == {"passed the metric": 2}  # 2+2 and 5+5; 7+7 comes out wrong
    assert found.dropped == {"metric below threshold": 3}


def test_partly_labelled_rows_are_judged_by_what_they_have():
    rows = [
        row("1+2?", answer="3", thought="1+2"),
        row("2+2?", answer=None, thought="2+2"),
        row("3+3?", thought="something else"),
        row("4+4?", answer=None),
    ]

    def partly(example, prediction, trace):
        thought = trace.of("think")[0].outputs["thought"]
        right = [prediction.answer == example.answer] if example.get("answer") else []
        return all([*right, *([thought == example.thought] if "thought" in example else [])])

    found = to_dataset(TwoSteps().using(lm=ScriptedLM(adds)), rows, metric=partly)

    assert found.kept == {"passed the metric": 2, "unlabelled, not judged": 1}
    assert found.dropped == {"metric below threshold": 1}


def test_a_metric_that_misses_a_label_is_told_apart():
    rows = [row("1+2?", answer="3"), row("2+2?", topic="sums"), row("3+3?", answer="6"), row("4+4?", answer="8")]

    found = to_dataset(TwoSteps().using(lm=ScriptedLM(adds)), rows, metric=exact)

    assert found.kept == {"passed the metric": 3}
    assert found.dropped == {"metric error": 1}


@pytest.mark.parametrize(("threshold", "kept"), [(None, 3), (0.5, 2), (1, 1)])
def test_the_threshold_decides_on_numbers(threshold, kept):
    def score(example, prediction, trace=None):
        return float(example.score)

    rows = [row(f"{s}", score=s) for s in (0, 0.3, 0.5, 1)]
    program = tf.Predict("question -> answer").using(lm=ScriptedLM(lambda request: "[[ ## answer ## ]] a"))

    found = to_dataset(program, rows, metric=score, threshold=threshold)

    assert len(found) == kept
    assert found.dropped == {"metric below threshold": 4 - kept}


def test_the_metric_gets_the_trace_and_may_be_a_program():
    seen = []

    def strict(example, prediction, trace=None):
        seen.append(trace)
        return len(trace.of("think")) == 1

    assert len(to_dataset(TwoSteps().using(lm=ScriptedLM(adds)), ROWS[:2], metric=strict)) == 4
    assert len(seen) == 2


class Fails(tf.Module):
    def __init__(self):
        self.answer = tf.Predict("question -> answer: int")

    async def forward(self, question):
        if question == "raises":
            raise KeyError("mine")
        if question == "slow":
            await asyncio.sleep(60)
        return await self.answer.acall(question=question)


def unreliable(request):
    asked = request.messages[1].text
    if "down" in asked:
        return tf.LMServerError("down")
    repairing = len(request.messages) > 2
    return f"[[ ## answer ## ]] {'no idea' if 'words' in asked or ('mends' in asked and not repairing) else 3}"


def test_each_run_that_fails_is_counted_by_its_reason():
    rows = [row(q) for q in ("good", "raises", "words", "down", "slow", "mends", "fine")]

    found = to_dataset(Fails().using(lm=ScriptedLM(unreliable)), rows, timeout_s=1.0)

    assert [e.messages[-1].text.split("\n")[1] for e in found] == ["good", "fine"]
    assert found.kept == {"no metric": 3}
    assert found.dropped == {"program error": 1, "parse error": 1, "infra error": 1, "timeout": 1, "repaired": 1}
    assert "4 runs" in found.summary()
    assert "1 step (repaired 1)" in found.summary()


def test_attempts_that_a_program_did_not_use_are_not_learned():
    def short(args, prediction):
        return len(prediction.answer) == 1

    answers = iter(["twenty", "9"])
    lm = ScriptedLM(lambda request: f"[[ ## answer ## ]] {next(answers)}")
    program = tf.BestOfN(tf.Predict("question -> answer"), N=2, reward_fn=short, threshold=1).using(lm=lm)

    found = to_dataset(program, [row("4+5?")], num_threads=1)

    assert [e.path for e in found] == ["module"]
    assert "9" in found.examples[0].completion
    assert found.dropped == {"superseded": 1}


def test_steps_of_a_predictor_that_is_made_in_forward_are_counted_and_those_of_a_teachers_own_are_not():
    class Improvises(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")
            self.check = tf.Predict("answer -> right: bool")

        def forward(self, question):
            answer = self.answer(question=question).answer
            self.check(answer=answer)
            return tf.Predict("answer -> answer_in_words")(answer=answer)

    answers = {"right: bool": "[[ ## right ## ]] true", "in_words": "[[ ## answer_in_words ## ]] three"}

    def model(request):
        head = request.messages[0].text
        return next((a for mark, a in answers.items() if mark in head), "[[ ## answer ## ]] 3")

    class Student(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            return self.answer(question=question)

    with tf.context(lm=ScriptedLM(model)):
        found = to_dataset(Student(), [row("1+2?")], teacher=Improvises())

    assert [e.path for e in found] == ["answer"]
    assert found.dropped == {"unknown predictor": 1}


def test_an_ensemble_teaches_what_its_vote_chose():
    student = tf.Predict("question -> answer")
    members = [student.using(lm=DummyLM([{"answer": a}])) for a in ("4", "5", "4")]

    found = to_dataset(
        student.using(lm=DummyLM([])), [row("2+2?")], teacher=tf.EnsembledProgram([m.deepcopy() for m in members])
    )

    assert [e.path for e in found] == [""]
    assert "4" in found.examples[0].completion
    assert found.dropped == {"superseded": 2}


def test_a_program_of_several_steps_teaches_a_single_predictor_by_its_result():
    student = tf.ChainOfThought("question -> answer").using(lm=DummyLM([]))
    plain = tf.Predict("question -> answer").using(lm=DummyLM([]))
    teacher = TwoSteps().using(lm=ScriptedLM(adds))

    found = to_dataset(plain, ROWS[:1], teacher=teacher, metric=exact)
    without_reasoning = to_dataset(student, ROWS[:1], teacher=teacher, metric=exact)

    assert [e.path for e in found] == [""]
    assert found.examples[0].messages == plain.render(question="1+2?").messages
    assert "3" in found.examples[0].completion
    assert (len(without_reasoning), without_reasoning.dropped) == (0, {"field missing": 1})


def test_the_result_of_an_own_reduction_can_be_asked_for():
    student = tf.Predict("question -> answer").using(lm=DummyLM([]))
    members = [student.using(lm=DummyLM([{"answer": a}])).deepcopy() for a in ("4", "5")]
    teacher = tf.EnsembledProgram(
        members, reduce_fn=lambda results: tf.Prediction(answer="-".join(r.answer for r in results))
    )

    found = to_dataset(student, [row("2+2?")], teacher=teacher, learn="answers")

    assert "4-5" in found.examples[0].completion


def test_several_teachers_and_several_samples_give_more():
    student = tf.Predict("question -> answer").using(lm=DummyLM([]))
    asked = []

    def model(name):
        def answer(request):
            asked.append((name, request.sampling.rollout_id, request.sampling.temperature))
            return f"[[ ## answer ## ]] {name}{request.sampling.rollout_id}"

        return ScriptedLM(answer)

    teachers = [tf.Predict("question -> answer").using(lm=model(n)) for n in ("a", "b")]
    found = to_dataset(student, [row("x"), row("y")], teacher=teachers, samples=2)

    assert sorted(asked) == sorted([(n, i, 0.7 if i else 0.0) for n in "ab" for i in (0, 1)] * 2)
    assert len(found) == 8
    assert found.kept == {"no metric": 8}


def test_the_same_answer_twice_counts_once():
    lm = ScriptedLM(lambda request: "[[ ## answer ## ]] a")
    found = to_dataset(tf.Predict("question -> answer").using(lm=lm), [row("x"), row("y")], samples=3)

    assert len(found) == 2
    assert found.dropped == {"duplicate": 4}


def test_the_order_is_that_of_the_rows_whatever_the_timing():
    async def slowly(request):
        number = int(request.messages[-1].text.split("]]")[1].split()[0])
        await asyncio.sleep(0.02 * (number % 3))
        return f"[[ ## answer ## ]] {number}"

    rows = [row(str(i)) for i in range(9)]
    one, many = (
        to_dataset(tf.Predict("question -> answer").using(lm=ScriptedLM(slowly)), rows, num_threads=n) for n in (1, 9)
    )

    assert one == many
    assert one.content_hash() == many.content_hash()


def test_records_of_a_journal_give_the_same_set():
    program = TwoSteps().using(lm=ScriptedLM(adds))

    async def records():
        return [to_record(await roll_out(program, e, None)) for e in ROWS]

    steps = [step for record in portal.run(records()) for step in record["steps"]]
    assert from_steps(program, steps).examples == to_dataset(program, ROWS).examples


def test_a_program_that_always_raises_stops_at_once():
    rows = [row("raises") for _ in range(50)]
    with pytest.raises(tf.EvaluationError, match="mine"):
        to_dataset(Fails().using(lm=ScriptedLM(unreliable)), rows)


def test_too_many_failures_stop_it():
    with pytest.raises(tf.EvaluationError, match="max_errors=2"):
        to_dataset(Fails().using(lm=ScriptedLM(unreliable)), [row("words") for _ in range(20)], max_errors=2)


def test_what_is_paid_for_is_not_asked_again(tmp_path):
    lm = ScriptedLM(adds, cache=True)
    with tf.context(cache=str(tmp_path / "cache.sqlite")):
        first = to_dataset(TwoSteps().using(lm=lm), ROWS, metric=exact)
        paid = len(lm.requests)
        assert to_dataset(TwoSteps().using(lm=lm), ROWS, metric=exact) == first
    assert len(lm.requests) == paid


STUDENT = TwoSteps()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"trainset": []}, tf.DataError, "empty"),
        ({"trainset": [tf.Example(question="x")]}, tf.DataError, "with_inputs"),
        ({"trainset": [tf.Example(query="x").with_inputs("query")]}, tf.DataError, "query"),
        ({"threshold": 0.5}, tf.UsageError, "needs a metric"),
        ({"metric": lambda: 1}, tf.MetricError, "cannot be called"),
        ({"samples": 0}, tf.UsageError, "samples"),
        ({"teacher": "gpt"}, tf.UsageError, "teacher"),
        ({"teacher": []}, tf.UsageError, "empty list"),
        ({"teacher": tf.Predict("question -> poem")}, tf.UsageError, "one predictor"),
        ({"teacher": tf.Predict("question -> poem"), "learn": "steps"}, tf.UsageError, "shares no predictor"),
        ({"learn": "thoughts"}, tf.UsageError, "learn"),
        ({"learn": "answers"}, tf.UsageError, "one predictor"),
        ({"program": "no program"}, tf.UsageError, "student"),
    ],
)
def test_bad_input_is_an_error_before_any_call(options, error, said):
    lm = ScriptedLM([])
    given = {"program": STUDENT.using(lm=lm), "trainset": [row("x")], **options}

    with tf.context(lm=lm), pytest.raises(error, match=said):
        to_dataset(given.pop("program"), given.pop("trainset"), **given)
    assert lm.requests == []
