"""Ensemble: several programs as one, that is saved, compiled, and taught from."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM

QA = tf.Predict("question -> answer")


def saying(*answers):
    return [QA.using(lm=DummyLM([{"answer": a}])) for a in answers]


def test_the_members_vote():
    assert tf.Ensemble().compile(saying("4", "5", "4"))(question="2+2?").answer == "4"


def test_a_reduce_function_decides_and_may_be_tfs_majority():
    longest = tf.Ensemble(reduce_fn=lambda results: max(results, key=lambda r: len(r.answer)))
    assert longest.compile(saying("4", "four"))(question="2+2?").answer == "four"
    assert tf.Ensemble(reduce_fn=tf.majority).compile(saying("4", "5", "5"))(question="2+2?").answer == "5"


def test_size_asks_some_of_them_the_same_for_the_same_inputs():
    lm = ScriptedLM(lambda r: "[[ ## answer ## ]] x")
    ensemble = tf.Ensemble(size=2, seed=1).compile([QA.using(lm=lm) for _ in range(5)])
    ensemble(question="q1")
    assert len(lm.requests) == 2


def test_one_program_given_twice_is_two_members_with_parameters_of_their_own():
    program = tf.Predict("question -> answer")
    ensemble = tf.Ensemble().compile([program, program])

    assert {p.partition(".")[0] for p in ensemble.parameters()} == {"programs[0]", "programs[1]"}
    assert ensemble.programs[0] is not program


@pytest.mark.parametrize("programs", [[], ["no program"], QA, 5, None])
def test_what_is_no_program_is_refused(programs):
    with pytest.raises(tf.UsageError, match="list of programs"):
        tf.Ensemble().compile(programs)


def test_a_size_above_the_number_of_programs_is_refused():
    with pytest.raises(tf.UsageError, match="size"):
        tf.Ensemble(size=3).compile(saying("a", "b"))


def test_an_ensemble_is_loaded_into_one_that_asks_and_votes_alike(tmp_path):
    def first(results):
        return results[0]

    members = [tf.Predict("question -> answer") for _ in range(3)]
    tf.Ensemble(reduce_fn=first, size=2, seed=1).compile(members).save(tmp_path / "e.json")
    tf.Ensemble(reduce_fn=first, size=2, seed=1).compile(members).load(tmp_path / "e.json")
    for settings in ({}, {"size": 2, "seed": 1}, {"reduce_fn": first}, {"reduce_fn": first, "size": 2, "seed": 4}):
        with pytest.raises(tf.StateError, match=r"made with (reduce_fn='first'|size=2|seed=1)"):
            tf.Ensemble(**settings).compile(members).load(tmp_path / "e.json")
    with pytest.raises(tf.StateError, match=r"programs\[2\]"):
        tf.Ensemble(reduce_fn=first, size=2, seed=1).compile(members[:2]).load(tmp_path / "e.json")


def test_what_an_ensemble_does_not_know_is_told():
    with pytest.raises(tf.UsageError, match="Leave it out: it always is"):
        tf.Ensemble(deterministic=True)


def answering(request):
    """Right for the rows whose number leaves the remainder that the demo in the prompt has."""
    number = int(request.messages[-1].content.rsplit("q", 1)[1].split()[0])
    known = {int(m.text.rsplit("q", 1)[1].split()[0]) % 3 for m in request.messages[1:-1] if m.role == "user"}
    return f"[[ ## answer ## ]] {'a' if number % 3 in known else 'wrong'}{number}"


def test_the_best_candidates_of_a_compile_make_an_ensemble_that_is_saved_and_compiled(rows, metric, tmp_path):
    teleprompter = tf.BootstrapRS(metric=metric, num_candidate_programs=4)
    with tf.context(lm=ScriptedLM(answering)):
        report = teleprompter.compile(QA, trainset=rows(30), valset=rows(30, start=500)).report
        ensemble = tf.Ensemble().compile([c.program for c in report.top(3)])
        ensemble.save(tmp_path / "e.json")
        loaded = tf.Ensemble().compile([QA] * 3).load(tmp_path / "e.json")
        again = tf.LabeledFewShot(k=1).compile(ensemble, trainset=rows(30))

    assert [len(p.demos) for p in loaded.programs] == [len(p.demos) for p in ensemble.programs]
    assert all(len(p.demos) == 1 for p in again.programs)


def test_an_ensemble_teaches_its_members_own_program_only_what_the_vote_chose(rows, metric):
    """Distillation: the student shows runs of the members that were followed, never of one that was outvoted."""

    class Steps(tf.Module):
        def __init__(self):
            self.think = tf.Predict("question -> hint")
            self.answer = tf.Predict("question, hint -> answer")

        def forward(self, question):
            return self.answer(question=question, hint=self.think(question=question).hint)

    def member(name, right):
        def script(request):
            number = request.messages[-1].content.rsplit("q", 1)[-1].split()[0]
            if "hint ## ]]" in request.messages[-1].content:
                return f"[[ ## answer ## ]] {'a' if right else 'wrong'}{number}"
            return f"[[ ## hint ## ]] {name} on q{number}"

        return Steps().using(lm=ScriptedLM(script))

    teacher = tf.Ensemble().compile(
        [member("bad", right=False), member("good", right=True), member("fine", right=True)]
    )
    with tf.context(lm=ScriptedLM(answering)):
        student = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(
            Steps(), teacher=teacher, trainset=rows(12)
        )

    assert [d.hint for d in student.think.demos] == [f"good on q{i}" for i in range(4)]
    assert [d.answer for d in student.answer.demos] == [f"a{i}" for i in range(4)]
