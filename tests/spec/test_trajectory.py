"""The steps of an agent as a value."""

import json

import pydantic
import pytest

import tuneful as tf
from tuneful.spec.trajectory import SHORTENED_CHARS, Trajectory, TrajectoryStep

STEPS = tuple(TrajectoryStep(f"t{i}", (tf.ToolCall("read", {"page": i}),), (f"{i}" * 1000,)) for i in range(3))


def test_it_is_written_and_read_as_json():
    whole = Trajectory(STEPS)
    assert Trajectory.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    part = whole.within(1, 2)
    assert Trajectory.from_json(json.loads(json.dumps(part.to_json()))) == part


def test_a_prediction_that_holds_one_is_a_row_like_any_other():
    row = tf.Prediction(answer="x", trajectory=Trajectory(STEPS)).to_dict()
    assert row["trajectory"][0]["calls"] == [{"name": "read", "args": {"page": 0}}]
    json.dumps(row)


def test_within_shortens_the_first_steps_and_leaves_out_the_very_first():
    part = Trajectory(STEPS).within(2, 1)
    assert (len(part), part.left_out) == (2, 1)
    assert part[0].observations[0].startswith("1" * SHORTENED_CHARS + " [shortened: 700")
    assert part[1] == STEPS[2]
    assert "the first 1 steps are left out" in str(part)


def test_a_short_observation_stays_whole():
    step = TrajectoryStep("t", (), ("x" * (SHORTENED_CHARS + 10),))
    assert step.shortened() == step


@pytest.mark.parametrize("junk", ["text", 5, [1], {"steps": []}, [{"calls": [{}]}]])
def test_what_is_no_trajectory_is_refused(junk):
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(Trajectory).validate_python(junk)
