"""No row is run with a demo that was made from it, and every row with all others."""

import re

import tuneful as tf
from tuneful.optimize.leave_out import Origins, without_own
from tuneful.testing import ScriptedLM


class TwoSteps(tf.Module):
    """Its second step sees nothing of the row itself."""

    def __init__(self):
        self.shorten = tf.Predict("question -> summary")
        self.reply = tf.Predict("summary -> answer")

    def forward(self, question):
        return self.reply(summary=self.shorten(question=question).summary)


class InLanguage(tf.Module):
    def __init__(self):
        self.shorten = tf.Predict("language, question -> summary")
        self.reply = tf.Predict("language, summary -> answer")

    def forward(self, language, question):
        return self.reply(language=language, summary=self.shorten(language=language, question=question).summary)


def shown(program, rows, example, *runs):
    """What both steps show, for an example, after runs on rows: (row, summary)."""
    origins = Origins(rows)
    signatures = {path: p.signature for path, p in program.named_predictors()}
    for row, summary in runs:
        inputs = {"language": "en", "summary": summary} if "language" in row else {"summary": summary}
        origins.note([{"path": "reply", "inputs": inputs}], row, signatures)
    ready = without_own(program, example, origins.places(program))
    return [[demo["summary"] for demo in p.demos] for p in ready.predictors()]


def test_the_demo_of_a_later_step_is_left_out_for_the_row_that_it_was_made_from(rows):
    data, program = rows(5), TwoSteps()
    program.reply.demos = [{"summary": "s1", "answer": "a1"}, {"summary": "s2", "answer": "a2"}]
    runs = [(data[1], "s1"), (data[2], "s2")]

    assert shown(program, data, data[1], *runs) == [[], ["s2"]]
    assert shown(program, data, data[3], *runs) == [[], ["s1", "s2"]]


def test_a_field_that_all_rows_share_makes_no_demo_a_rows_own():
    data = [
        tf.Example(language="en", question=f"q{i}", answer="yes").with_inputs("language", "question") for i in range(5)
    ]
    program = InLanguage()
    program.shorten.demos = [{"language": "en", "question": "q1", "summary": "s1"}]
    program.reply.demos = [{"language": "en", "summary": "s1", "answer": "yes"}]

    assert shown(program, data, data[1], (data[1], "s1")) == [[], []]
    assert shown(program, data, data[2], (data[1], "s1")) == [["s1"], ["s1"]]
    assert shown(program, data, data[1], (data[1], "s1"), (data[2], "s1")) == [[], ["s1"]]  # as much the other row's


def test_an_answer_that_a_run_does_not_tell_is_known_by_the_rows_label():
    data = [
        tf.Example(language="en", question=f"q{i}", answer=f"a{i}").with_inputs("language", "question")
        for i in range(5)
    ]
    program = InLanguage()
    program.reply.demos = [{"language": "en", "summary": "s1", "answer": "a1"}]

    assert shown(program, data, data[1]) == [[], []]
    assert shown(program, data, data[2]) == [[], ["s1"]]


def test_rows_that_stand_there_twice_see_neither_demo(rows):
    data, program = [*rows(3), *rows(3)], TwoSteps()
    program.shorten.demos = [{"question": "q1", "summary": "s1"}]

    assert shown(program, data, data[4]) == [[], []]


def test_an_answer_that_only_its_own_demo_gives_away_is_no_gain(rows, metric):
    """A model that writes down the number of the question, and then can only copy what its demos say of that number."""

    def copy(request):
        said = request.messages[-1].content
        if "[[ ## question ## ]]" in said:
            return f"[[ ## summary ## ]]\ns{re.search(r'q([0-9]+)', said)[1]}"
        number = re.search(r"s([0-9]+)", said)[1]
        copied = any(m.role == "user" and re.search(rf"s{number}\b", m.content) for m in request.messages[:-1])
        return f"[[ ## answer ## ]]\n{f'a{number}' if copied or int(number) % 2 else 'wrong'}"

    for teleprompter in (
        tf.BootstrapFewShot(metric, max_labeled_demos=0),
        tf.KNNFewShot(2, vectorizer=lengths, metric=metric),
    ):
        with tf.context(lm=ScriptedLM(copy)):
            report = teleprompter.compile(TwoSteps(), trainset=rows(40)).report
        assert report.comparison.n == 40
        assert (report.baseline.mean, report.best.mean) == (0.5, 0.5)


def test_a_student_that_was_compiled_on_the_rows_it_is_compared_on_has_no_head_start(rows, metric):
    """Its demos give the answers of held-out rows away: they are left out there for it too."""

    def copy(request):
        number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
        copied = any(m.content.split()[-1] == f"q{number}" for m in request.messages[1:-1] if m.role == "user")
        return f"[[ ## answer ## ]]\n{f'a{number}' if copied else 'wrong'}"

    student = tf.Predict("question -> answer")
    student.demos = rows(30, start=500)
    with tf.context(lm=ScriptedLM(copy)):
        report = tf.BootstrapFewShot(metric).compile(student, trainset=rows(30), valset=rows(30, start=500)).report

    assert report.baseline.mean == 0.0


def lengths(texts):
    return [[len(text), 1.0] for text in texts]
