"""Moving a compiled program to another LM."""

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM


def answering(share, model="old", *, demos_help=0.0):
    """A model that is right on a share of the rows, and on more of them where its prompt has demos."""

    def answer(request):
        number = int(request.messages[-1].content.rsplit("q", 1)[-1].split()[0].strip('"'))
        helped = demos_help if len(request.messages) > 2 else 0.0
        right = (number * 37) % 100 < 100 * (share + helped)
        return f"[[ ## answer ## ]]\n{f'a{number}' if right else 'wrong'}"

    return ScriptedLM(answer, model=model)


def moved(rows, metric, old, new, **given):
    program = tf.Predict("question -> answer").using(lm=old)
    settings = {"propose": False, "adapters": (), "embedder": None, "trainset": rows(60), "valset": rows(100, 100)}
    return program, tf.recompile(program, new, metric=metric, **settings | given)


def test_a_program_that_is_as_good_on_the_new_model_moves(rows, metric):
    old, new = answering(0.7), answering(0.7, "new")
    program, made = moved(rows, metric, old, new)
    assert made.report.verdict == "not worse"
    assert made.lm is new
    assert program.lm is old


def test_where_the_new_model_is_weaker_the_program_stays(rows, metric):
    old, new = answering(0.9), answering(0.5, "new")
    _, made = moved(rows, metric, old, new)
    assert made.lm is old
    assert made.report.verdict == "no gain"
    assert "the program as it was is returned" in made.report.advice
    assert made.report.baseline.mean == pytest.approx(0.9, abs=0.02)


def test_a_weaker_model_is_helped_by_what_the_old_one_answers(rows, metric):
    old, new = answering(0.9), answering(0.4, "new", demos_help=0.5)
    _, made = moved(rows, metric, old, new)
    assert made.lm is new
    assert made.demos
    assert made.report.verdict == "not worse"


def test_what_cannot_be_told_says_how_many_rows_would(rows, metric):
    old, new = answering(0.9), answering(0.88, "new")
    program = tf.Predict("question -> answer").using(lm=old)
    made = tf.recompile(
        program, new, trainset=rows(20), valset=rows(30, 100), metric=metric, propose=False, adapters=(), embedder=None,
        max_bootstrapped_demos=0, max_labeled_demos=1,
    )  # fmt: skip
    assert made.lm is old
    assert made.report.verdict == "not distinguishable"
    assert "rows would tell" in made.report.advice


def test_any_teleprompter_may_search_on_the_new_model(rows, metric):
    old, new = answering(0.6), answering(0.4, "new", demos_help=0.5)
    program = tf.Predict("question -> answer").using(lm=old)
    teleprompter = tf.BootstrapFewShotWithRandomSearch(metric=metric, num_candidate_programs=2)
    made = tf.recompile(program, new, trainset=rows(60), valset=rows(100, 100), teleprompter=teleprompter)
    assert made.report.verdict == "better"
    assert made.lm is new


def test_a_second_time_nothing_is_paid(rows, metric, tmp_path):
    old, new = answering(0.7), answering(0.7, "new")
    with tf.context(journal=tmp_path / "journal.sqlite"):
        moved(rows, metric, old, new, run="move")
        asked = len(old.requests) + len(new.requests)
        _, made = moved(rows, metric, old, new, run="move")
    assert len(old.requests) + len(new.requests) == asked
    assert made.lm is new


def test_equal_scores_on_few_rows_do_not_show_that_a_model_is_as_good(rows, metric):
    verdicts = {}
    for n in (3, 30, 72, 73):
        old, new = answering(1), answering(1, "new")
        _, made = moved(rows, metric, old, new, valset=rows(n, 100))
        verdicts[n] = (made.report.verdict, made.lm is new)

    assert verdicts == {
        **dict.fromkeys((3, 30, 72), ("not distinguishable", False)),
        73: ("not worse", True),
    }
    assert made.report.comparison.interval == pytest.approx((-0.05, 0.05), abs=1e-3)


def test_without_rows_to_hold_out_nothing_is_moved_and_no_model_called(rows, metric):
    old, new = answering(1), answering(1, "new")
    with pytest.raises(tf.UsageError, match="held-out rows, and there are none"):
        moved(rows, metric, old, new, trainset=rows(10), valset=None)
    assert not old.requests
    assert not new.requests


def test_it_needs_a_metric_or_a_teleprompter(rows, metric):
    program = tf.Predict("question -> answer")
    with pytest.raises(tf.UsageError, match="a `metric`, or a `teleprompter`"):
        tf.recompile(program, answering(1), trainset=rows(40))
    with pytest.raises(tf.UsageError, match="a `metric`, or a `teleprompter`"):
        tf.recompile(program, answering(1), trainset=rows(40), metric=metric, teleprompter=tf.Tune(metric))


def test_what_the_earlier_search_found_good_is_tried_first(rows, metric, tmp_path):
    """The runner-up of the old search is what the new model needs; the journal has it, the program does not."""

    def answers(mark, model):
        def answer(request):
            number = int(request.messages[-1].content.rsplit("q", 1)[-1].split()[0].strip('"'))
            right = (number * 37) % 100 < (95 if mark in request.messages[0].text else 30)
            return f"[[ ## answer ## ]]\n{f'a{number}' if right else 'wrong'}"

        return ScriptedLM(answer, model=model)

    writes = ScriptedLM(lambda r: f"[[ ## instructions ## ]]\n{['Think.', 'Take care.'][r.sampling.rollout_id % 2]}")
    old, new = answers("Think", "old"), answers("care", "new")
    with tf.context(journal=tmp_path / "journal.sqlite"):
        made = tf.COPRO(writes, metric, breadth=3, depth=1).compile(
            tf.Predict("question -> answer").using(lm=old), trainset=rows(60), valset=rows(60, 100), run="first"
        )
        assert made.signature.instructions == "Think."
        again = (
            tf.Predict("question -> answer").using(lm=old).with_parameters({"instructions": "Think."})
        )  # from a file
        moved = tf.recompile(
            again, new, trainset=rows(60), valset=rows(100, 100), metric=metric, history="first", run="second",
            propose=False, adapters=(), embedder=None, max_bootstrapped_demos=0, max_labeled_demos=0,
        )  # fmt: skip
    assert moved.signature.instructions == "Take care."
    assert moved.report.verdict == "not worse"
