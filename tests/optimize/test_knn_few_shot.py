"""KNNFewShot: for each input the demos that are most like it, bootstrapped once."""

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM


def place(texts):
    """A vectorizer by the number of a question: near numbers are near."""
    numbers = [int(t.rsplit("q", 1)[1].split()[0]) for t in texts]
    return [[1.0, n / 1000, (n / 1000) ** 2] for n in numbers]


def number_of(message):
    return int(message.text.rsplit("q", 1)[1].split()[0])


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> hint")
        self.answer = tf.Predict("question, hint -> answer")

    def forward(self, question):
        return self.answer(question=question, hint=self.think(question=question).hint)


def script(request):
    number = request.messages[-1].content.rsplit("q", 1)[-1].split()[0]
    if "hint ## ]]" in request.messages[-1].content:
        near = any(abs(number_of(m) - int(number)) <= 3 for m in request.messages[:-1] if m.role == "user")
        return f"[[ ## answer ## ]] {'a' if near or int(number) % 2 else 'wrong'}{number}"
    return f"[[ ## hint ## ]] hint for q{number}"


def shown(request):
    return [number_of(m) for m in request.messages[:-1] if m.role == "user" and "q" in m.text]


def test_every_step_is_shown_its_nearest_rows_and_the_gain_is_found(rows, metric):
    trainset = [e for i, e in enumerate(rows(120)) if i % 3 == 0]
    valset = [e for i, e in enumerate(rows(120)) if i % 3 == 1]
    with tf.context(lm=ScriptedLM(script)):
        teleprompter = tf.KNNFewShot(3, vectorizer=place, metric=metric, max_labeled_demos=0)
        compiled = teleprompter.compile(TwoSteps(), trainset=trainset, valset=valset)

    assert compiled.report.verdict == "better"
    lm = ScriptedLM(script)
    compiled.using(lm=lm)(question="q50")
    assert [sorted(shown(r)) for r in lm.requests][0] == [45, 51, 57]  # even rows fail, and have no label for `hint`


def test_a_row_without_a_good_run_is_shown_by_its_labels(rows, metric):
    lm = ScriptedLM(lambda r: "[[ ## answer ## ]] wrong")
    with tf.context(lm=lm):
        teleprompter = tf.KNNFewShot(2, vectorizer=place, metric=metric)
        compiled = teleprompter.compile(tf.Predict("question -> answer"), trainset=rows(12))
        compiled(question="q5")

    assert shown(lm.requests[-1])[-1] == 5
    assert "a5" in lm.requests[-1].messages[-2].text
    assert "0 runs kept of 12 tried" in str(compiled.report)


def test_a_call_of_the_compiled_program_bootstraps_nothing(rows, metric):
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return place(texts)

    lm = ScriptedLM(script)
    with tf.context(lm=lm):
        teleprompter = tf.KNNFewShot(2, rows(12), counted, metric=metric, max_labeled_demos=0)
        compiled = teleprompter.compile(TwoSteps())  # the constructor's rows, as in DSPy
        before = len(lm.requests)
        calls.clear()
        compiled(question="q5")
        compiled(question="q6")

    assert len(lm.requests) - before == 4
    assert sorted(calls) == [1, 1, 1, 1, 6, 6]  # two predictors, the rows of each once


def test_the_pool_is_saved_with_the_program(rows, metric, tmp_path):
    with tf.context(lm=ScriptedLM(script)):
        compiled = tf.KNNFewShot(2, rows(12), place, metric=metric).compile(TwoSteps())
        compiled.save(tmp_path / "p.json")
        loaded = TwoSteps()
        loaded.set_embedder(place)
        loaded.load(tmp_path / "p.json")

        assert loaded.render(question="q5", hint="h") == compiled.render(question="q5", hint="h")
    with pytest.raises(tf.StateError, match="set_embedder"):
        TwoSteps().load(tmp_path / "p.json")


def test_without_bootstrapping_no_model_is_called_and_labels_are_picked(rows):
    lm = ScriptedLM(lambda r: "[[ ## answer ## ]] x")
    with tf.context(lm=lm):
        teleprompter = tf.KNNFewShot(2, vectorizer=place, max_bootstrapped_demos=0)
        compiled = teleprompter.compile(tf.Predict("question -> answer"), trainset=rows(12))

    assert lm.requests == []
    assert len(compiled.demo_pool.rows) == 12


def test_another_function_is_not_answered_from_the_journal(rows, metric, tmp_path):
    def backwards(texts):
        return [[-x for x in vector] if i else vector for i, vector in enumerate(place(texts))]

    def compared(vectorizer):
        lm = ScriptedLM(script)
        vectorizer.__name__ = "embed"
        with tf.context(lm=lm, journal=str(tmp_path / "j.sqlite")):
            teleprompter = tf.KNNFewShot(2, rows(12), vectorizer, metric=metric, max_bootstrapped_demos=0)
            teleprompter.compile(tf.Predict("question -> answer"), valset=rows(5, start=50), run="r")
        return len(lm.requests)

    def forwards(texts):
        return place(texts)

    assert compared(forwards) == 10
    assert compared(forwards) == 0
    assert compared(backwards) == 5  # those of the original are known


def test_the_student_is_not_changed(rows, metric):
    student = TwoSteps()
    with tf.context(lm=ScriptedLM(script)):
        tf.KNNFewShot(2, rows(12), place, metric=metric).compile(student)

    assert student.answer.demo_pool.rows == ()
    assert student.answer.demo_pool.vectorizer is None


def test_a_program_with_a_pool_teaches_without_showing_a_row_its_own_answer(rows, metric):
    with tf.context(lm=ScriptedLM(script)):
        teacher = tf.KNNFewShot(2, rows(12), place, metric=metric).compile(TwoSteps())
        lm = ScriptedLM(script)
        with tf.context(lm=lm):
            tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(
                TwoSteps(), teacher=teacher, trainset=rows(12)
            )

    assert all(number_of(r.messages[-1]) not in shown(r) for r in lm.requests)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"vectorizer": None}, {"vectorizer": 3}, {"max_rounds": 0}])
def test_what_cannot_work_is_refused_before_any_call(rows, wrong):
    with pytest.raises(tf.UsageError):
        tf.KNNFewShot(**{"k": 2, "trainset": rows(3), "vectorizer": place, **wrong})


def test_no_rows_at_all_are_refused():
    with tf.context(lm=ScriptedLM([])), pytest.raises(tf.DataError, match="empty"):
        tf.KNNFewShot(2, vectorizer=place).compile(TwoSteps())


def no_vectors(texts):
    return None


@pytest.mark.parametrize(
    "vectorizer",
    [
        no_vectors,
        lambda texts: [[1.0, 2.0]],
        lambda texts: [["near", "far"] for _ in texts],
        lambda texts: [[float("nan"), 1.0] for _ in texts],
        lambda texts: [[] for _ in texts],
        lambda texts: [[1.0] * (i + 1) for i, _ in enumerate(texts)],
    ],
)
def test_a_vectorizer_that_gives_no_vectors_is_told_before_any_call(rows, metric, vectorizer):
    lm = ScriptedLM(lambda r: "[[ ## answer ## ]]\na1")
    name = vectorizer.__name__.strip("<>")
    with tf.context(lm=lm, cache=False), pytest.raises(tf.UsageError, match=f"a vectorizer returns .*{name}"):
        tf.KNNFewShot(2, vectorizer=vectorizer, metric=metric).compile(
            tf.Predict("question -> answer"), trainset=rows(24)
        )
    assert lm.requests == []


def test_what_it_is_compared_with_and_gives_back_is_the_student_with_its_own_embedder(metric):
    """The model copies the last demo's answer, so all depends on who picks the demos."""
    asked = [tf.Example(question=f"{c} {i}?", answer=c).with_inputs("question") for i in range(8) for c in "abcd"]
    new = [tf.Example(question=f"{c} {i}?", answer=c).with_inputs("question") for i in range(20, 25) for c in "abcd"]

    def copying(request):
        last = ["", *(m.text for m in request.messages if m.role == "assistant")][-1]
        return last or "[[ ## answer ## ]] z"

    def good(texts):
        return [[float(f"{c} " in text) for c in "abcd"] + [0.01] for text in texts]

    def useless(texts):
        return [[1.0, 0.5] for _ in texts]

    with tf.context(lm=ScriptedLM(copying)):
        student = tf.KNNFewShot(2, asked, good, max_bootstrapped_demos=0).compile(tf.Predict("question -> answer"))
        measured = tf.Evaluate(devset=new, metric=metric)(student).score
        again = tf.KNNFewShot(2, asked, useless, metric=metric, max_bootstrapped_demos=0)
        compiled = again.compile(student, valset=new)

        assert compiled.report.verdict not in ("better", "not worse")
        assert 100 * compiled.report.baseline.mean == measured == 100
        assert tf.Evaluate(devset=new, metric=metric)(compiled).score == measured
