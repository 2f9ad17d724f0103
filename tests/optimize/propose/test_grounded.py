"""Grounded: a summary of the data, then instructions for each predictor that may have others."""

import tuneful as tf
from tuneful.optimize import space
from tuneful.optimize.propose.grounded import Grounded
from tuneful.optimize.trial import Brief


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")


def brief_of(program, rows):
    return Brief(
        program.parameters(), {p: q.signature for p, q in program.named_predictors()}, rows, 0, student=program
    )


def written(grounded, brief, texts, sets=()):
    """Do the jobs, and return them with the last state."""
    texts, state, jobs = iter(texts), grounded.start(brief), []
    while new := grounded.jobs(brief, state, sets):
        said = [{"summary": f"Part {state['read']}."} if j.name == "data summary" else next(texts) for j in new]
        state = grounded.done(brief, state, list(zip(new, said, strict=True)))
        jobs += new
    return jobs, state


def test_every_batch_is_read_with_the_summary_so_far_and_the_last_summary_is_shown(rows):
    brief = brief_of(TwoSteps(), rows(25))
    jobs, _ = written(Grounded(1, view_data_batch_size=10), brief, [None, None])

    assert [j.inputs["earlier"] for j in jobs[:3]] == ["", "Part 0.", "Part 1."]
    shown = "\n".join(j.inputs["examples"] for j in jobs[:3])
    assert all(f"question: q{i}\n" in shown for i in range(25))
    assert [j.inputs["data_summary"] for j in jobs[3:]] == ["Part 2.", "Part 2."]


def test_proposals_become_the_options_of_their_predictor_and_what_failed_is_left_out(rows):
    program = TwoSteps()
    brief = brief_of(program, rows(5))
    own = program.say.signature.instructions
    texts = [None, {"instructions": "Think."}, {"instructions": own}, {"instructions": "Say."}]
    grounded = Grounded(2, data_aware_proposer=False)
    jobs, state = written(grounded, brief, texts)
    axes = grounded.axes(brief, state)

    assert [j.inputs["step"] for j in jobs] == ["think", "think", "say", "say"]
    assert space.candidate(axes, {"think.instructions": 1, "say.instructions": 1}) == {
        "think.instructions": "Think.",
        "say.instructions": "Say.",
    }
    assert space.size(axes) == 4


def test_proposals_are_shown_runs_of_different_sets_and_different_tips(rows):
    brief = brief_of(TwoSteps(), rows(5))
    sets = [{}, *({"say.demos": [{"question": f"run {i}", "answer": "a"}]} for i in range(2))]
    jobs, _ = written(Grounded(3, data_aware_proposer=False), brief, [None] * 6, sets)
    say = [j.inputs for j in jobs if j.inputs["step"] == "say"]

    assert [j["examples"].split("\n")[1] for j in say] == ["question: run 0", "question: run 1", "question: run 0"]
    assert len({j["tip"] for j in say}) == 3
    assert all("question: q" in j.inputs["examples"] for j in jobs if j.inputs["step"] == "think")


def test_where_nothing_may_change_nobody_is_asked(rows):
    frozen = brief_of(TwoSteps().freeze("*.instructions"), rows(5))

    assert written(Grounded(2), frozen, [])[0] == []
    assert written(Grounded(0), brief_of(TwoSteps(), rows(5)), [])[0] == []
