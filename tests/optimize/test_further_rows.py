"""A search that chooses nothing by its rows is compared on them too, without the demos that were made from them."""

import tuneful as tf
from tuneful.testing import Landscape, SimulatedLM


def compiled(rows, metric, lm, seed=0, **given):
    with tf.context(lm=lm):
        return tf.BootstrapFewShot(metric=metric).compile(
            tf.Predict("question -> answer"), trainset=rows(40), seed=seed, **given
        )


def simulated(rows, gain, seed):
    return SimulatedLM(rows(40), Landscape(base=0.4, any_demo=gain, difficulty=0.3, seed=seed))


def test_all_rows_are_compared_on_and_none_sees_its_own_demo(rows, metric):
    lm = simulated(rows, 0.4, 1)
    program = compiled(rows, metric, lm)
    report = program.report
    assert (report.search_rows, report.held_out_rows, report.comparison.n) == (20, 20, 40)
    assert "of the search rows too" in str(report)
    shown = [d["question"] for d in report.candidate["demos"]]
    for request in lm.requests:
        asked = request.messages[-1].content.split()[-1]
        assert asked not in {m.content.split()[-1] for m in request.messages[:-1] if m.role == "user"}, shown


def test_a_valset_is_all_that_is_compared_on(rows, metric):
    report = compiled(rows, metric, simulated(rows, 0.4, 1), valset=rows(30, 300)).report
    assert report.comparison.n == 30


def test_a_search_that_selects_is_compared_on_held_out_rows_alone(rows, metric):
    with tf.context(lm=simulated(rows, 0.4, 1)):
        made = tf.BootstrapFewShotWithRandomSearch(metric=metric, num_candidate_programs=2).compile(
            tf.Predict("question -> answer"), trainset=rows(40)
        )
    assert made.report.comparison.n == 20


def test_noise_is_still_no_gain_and_a_gain_is_found_more_often(rows, metric):
    noise = [compiled(rows, metric, simulated(rows, 0.0, seed), seed).report for seed in range(30)]
    assert sum(not report.improved for report in noise) >= 28
    gains = [compiled(rows, metric, simulated(rows, 0.35, seed), seed).report for seed in range(12)]
    assert sum(report.improved for report in gains) >= 8
