"""The laws that every teleprompter that selects must keep, on a simulated model. bench/laws.py runs them at length."""

import json
import re

import pytest

import tuneful as tf
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

QA = tf.Predict("question -> answer")


def rows(n, start=0):
    return [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(start, start + n)]


def exact(example, prediction, trace=None):
    return example.answer == prediction.answer


def by_number(texts):
    return [[float(text.rsplit("q", 1)[-1]), 1.0] for text in texts]


def written(request):
    """Write instructions, rules or words for a field: those that help, in one sample of three."""
    text = HELPS if request.sampling.rollout_id % 3 == 1 else f"Attempt {request.sampling.rollout_id}."
    asked = re.findall(r"^\[\[ ## (\w+) ## \]\]\n\{", request.messages[0].text, re.MULTILINE)
    advice = f'{{"program": "{text}"}}'  # by the name of a step
    return "\n\n".join(f"[[ ## {name} ## ]]\n{advice if name == 'advice' else text}" for name in asked)


#: What a prompt model may find that helps, in landscapes where it does.
HELPS = "Be exact."
WRITER = ScriptedLM(written)


def planted(gain):
    return {"any_demo": gain, "instructions": {HELPS: gain}}


#: Each with few candidates and runs, so that the tests are quick.
SELECTING = {
    "bootstrap": (lambda: tf.BootstrapFewShot(metric=exact), 100, 20),
    "random search": (lambda: tf.BootstrapFewShotWithRandomSearch(metric=exact, num_candidate_programs=2), 20, 10),
    "optuna": (lambda: tf.BootstrapFewShotWithOptuna(metric=exact, num_candidate_programs=3), 20, 10),
    "nearest": (lambda: tf.KNNFewShot(k=2, vectorizer=by_number, metric=exact), 20, 10),
    "copro": (lambda: tf.COPRO(WRITER, exact, breadth=3, depth=1), 20, 10),
    "autoprompt": (lambda: tf.AutoPrompt(exact, WRITER, breadth=3, depth=1), 20, 10),
    "rules": (lambda: tf.InferRules(exact, 2, prompt_model=WRITER, max_labeled_demos=0), 20, 10),
    "mipro": (lambda: tf.MIPROv2(exact, WRITER, auto=None, num_candidates=3, num_trials=4), 20, 10),
    "tune": (
        lambda: tf.Tune(exact, prompt_model=WRITER, embedder=None, adapters=(), num_candidates=10, num_instructions=2),
        10,
        5,
    ),
    "simba": (lambda: tf.SIMBA(metric=exact, bsize=8, num_candidates=2, max_steps=2, prompt_model=WRITER), 20, 10),
}


@pytest.fixture(params=SELECTING)
def selecting(request):
    """A teleprompter's factory, and how many runs it gets on noise and on a planted gain."""
    return SELECTING[request.param]


def compiled(teleprompter, landscape, n_search, n_held_out, seed=0, **options):
    search, held_out = rows(n_search), rows(n_held_out, start=500)
    lm = SimulatedLM([*search, *held_out], landscape, **options)
    with tf.context(lm=lm):
        return teleprompter.compile(QA, trainset=search, valset=held_out, seed=seed), lm


def test_law_4_on_pure_noise_the_original_is_returned_at_least_95_times_in_100(selecting):
    make, runs, _ = selecting
    kept = 0
    for seed in range(runs):
        program, _ = compiled(make(), Landscape(base=0.5, difficulty=0.2, seed=seed), 16, 30, seed)
        kept += not program.report.improved

    assert kept >= 0.95 * runs


def test_law_4_a_planted_gain_of_15_points_is_found_at_least_9_times_in_10(selecting):
    make, _, runs = selecting
    found = 0
    for seed in range(runs):
        program, _ = compiled(make(), Landscape(base=0.5, **planted(0.15), seed=seed), 80, 300, seed)
        found += program.report.improved

    assert found >= 0.9 * runs


def test_law_1_the_result_does_not_depend_on_timing_or_concurrency(selecting):
    make, _, _ = selecting

    def state(threads, jitter):
        gains = Landscape(base=0.4, **planted(0.3), demo_spread=0.05, seed=3)
        with tf.context(num_threads=threads):
            program, _ = compiled(make(), gains, 24, 40, seconds=0.001, jitter=jitter)
        return program.dump_state()

    assert state(1, 0.0) == state(16, 1.0) == state(5, 0.5)


def test_law_5_the_student_is_not_mutated_and_the_search_never_sees_a_held_out_row(selecting):
    make, _, _ = selecting
    seen = []

    class Watched(type(make())):
        def init(self, brief):
            seen.append([row.to_dict() for row in brief.trainset])
            return super().init(brief)

        def tell(self, brief, state, results):
            seen.append([dict(outcome.detail) for _, outcomes in results for outcome in outcomes])
            return super().tell(brief, state, results)

    teleprompter = make()
    teleprompter.__class__ = Watched
    before = QA.dump_state()
    program, lm = compiled(teleprompter, Landscape(base=0.3, **planted(0.5)), 20, 60)

    assert program.report.improved
    assert QA.dump_state() == before
    held_out = {row.question for row in rows(60, start=500)}
    assert not any(f'"{question}"' in json.dumps(seen, default=str) for question in held_out)
    shown = "\n".join(m.text for request in lm.requests for m in request.messages[:-1]).split("\n")
    shown += "\n".join(m.text.replace("question: ", "") for r in WRITER.requests for m in r.messages).split("\n")
    assert not held_out & set(shown)
    asked = [m.text.rsplit("\n", 1)[-1] for request in lm.requests for m in request.messages[-1:]]
    assert held_out <= set(asked)  # the comparison does see them
