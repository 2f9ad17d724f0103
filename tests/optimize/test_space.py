"""The space of a search: axes, their options, and what a point of them stands for."""

import pytest

import tuneful as tf
from tuneful.optimize import space
from tuneful.optimize.trial import Brief


class Chosen(tf.Module):
    def __init__(self):
        self.k = tf.Choice([1, 3, 5], default=3)
        self.hops = tf.Integer(1, 4, default=2)
        self.many = tf.Integer(1, 1000, log=True)
        self.threshold = tf.Real(0.0, 1.0, default=0.5)
        self.first = tf.Predict("question -> query")
        self.last = tf.Predict("question, query -> answer")

    def forward(self, question):
        return self.last(question=question, query=self.first(question=question).query)


def brief_of(program):
    return Brief(program.parameters(), {p: q.signature for p, q in program.named_predictors()}, (), 0, student=program)


def values(axes, name):
    (axis,) = [a for a in axes if a.name == name]
    return [option.get(name) for option in axis.options]


def test_the_users_numbers_are_axes_that_begin_with_what_is_set():
    axes = space.numbers(brief_of(Chosen()))

    assert values(axes, "k") == [None, 1, 5]
    assert values(axes, "hops") == [None, 1, 3, 4]
    assert values(axes, "many")[1:] == [3, 7, 19, 52, 139, 373, 1000]
    assert values(axes, "threshold")[1:] == pytest.approx([i / 7 for i in range(8)])
    assert all(axis.options[0] == {} for axis in axes)


def test_what_is_frozen_is_no_axis():
    program = Chosen()
    program.freeze("k", "first.*")
    brief = brief_of(program)

    assert "k" not in [a.name for a in space.numbers(brief)]
    assert [a.name for a in space.each(brief, "adapter", ["json", "xml"])] == ["last.adapter"]


def test_a_point_is_a_candidate_that_the_program_takes():
    program = Chosen()
    brief = brief_of(program)
    axes = space.numbers(brief) + space.each(brief, "adapter", ["json"]) + space.sampling(brief, "temperature", [0.7])
    chosen = program.with_parameters(space.candidate(axes, {"k": 2, "last.adapter": 1, "first.sampling": 1}))

    assert chosen.k == 5
    assert chosen.first.sampling.temperature == 0.7
    assert space.candidate(axes, space.origin(axes)) == {}
    for point in space.neighbours(axes, {"k": 1}):
        program.with_parameters(space.candidate(axes, point))


def test_neighbours_differ_in_one_axis_and_the_size_is_that_of_all_points():
    axes = space.sized(
        [space.Axis("a", ({}, {"a": 1})), space.Axis("b", ({}, {"b": 1}, {"b": 2})), space.Axis("c", ({},))]
    )

    assert [a.name for a in axes] == ["a", "b"]
    assert space.size(axes) == 6
    assert space.neighbours(axes, {"a": 1}) == [{"a": 0, "b": 0}, {"a": 1, "b": 1}, {"a": 1, "b": 2}]


def test_what_users_name_is_checked_and_kept_as_values_of_parameters():
    assert space.known_adapters(["json", "json>chat"]) == ("json", "json>chat")
    assert space.known_adapters("xml") == ("xml",)
    assert space.lm_states(["openai/gpt-4o-mini", tf.LM("openai/gpt-4o")]) == ("openai/gpt-4o-mini", "openai/gpt-4o")
    assert space.known_temperatures([0, 0.7]) == (0, 0.7)


@pytest.mark.parametrize(
    "model", ["openay/gpt", tf.LM("openai/m", api_base="http://127.0.0.1:9/v1"), tf.LM("openai/m", temperature=0.3)]
)
def test_a_model_that_its_name_does_not_find_again_is_refused(model):
    with pytest.raises(tf.UsageError):
        space.lm_states([model])


def test_points_on_many_axes_have_each_option_of_what_blends_and_leave_the_rest():
    program = Chosen()
    brief = brief_of(program)
    axes = space.numbers(brief) + space.each(brief, "adapter", ["json", "xml"])
    points = space.spread(axes, 100)

    for axis in space.numbers(brief):
        assert {point[axis.name] for point in points} >= set(range(1, len(axis.options)))
    assert all(point["first.adapter"] == point["last.adapter"] == 0 for point in points)
    assert len({tuple(point.items()) for point in points}) == len(points)
    assert space.spread(axes, 2) == points[:2]
    assert space.spread(axes[:1], 100) == []  # nothing to put together


def test_adapters_to_choose_from_are_names(metric):
    with pytest.raises(tf.UsageError, match="expected names, such as 'json'"):
        tf.Tune(metric, adapters=[tf.JSONAdapter()])
