"""A picture from a field of a signature to the body of the request, and what stops it before."""

import base64
import importlib.util
import json
import sys
from pathlib import Path

import pytest

import tuneful as tf
from tuneful.spec.media import Audio, Image
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities

_file = Path(__file__).parents[1] / "backends" / "conftest.py"
_spec = importlib.util.spec_from_file_location("loopback_end_to_end", _file)
_loopback = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_loopback)
server = _loopback.server

PNG = b"\x89PNG\r\n\x1a\n and the rest"


class Caption(tf.Signature):
    """Say what is to be seen."""

    image: Image = tf.InputField()
    others: list[Image] = tf.InputField(default=[])
    caption: str = tf.OutputField()


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "cat.png").write_bytes(PNG)
    return Image.from_path(tmp_path / "cat.png")


def test_a_picture_reaches_the_server(server, picture):
    server.script = [server.completion("[[ ## caption ## ]]\nA cat.")]
    caption = tf.Predict(Caption)
    caption.demos = [tf.Example(image=Image("https://example.com/dog.png"), caption="A dog.")]
    lm = tf.LM("openai/gpt-4o-mini", api_base=server.url, api_key="k")
    assert caption(image=picture, others=["https://example.com/bird.png"], lm=lm).caption == "A cat."

    demo, answer, turn = server.bodies[0]["messages"][1:]
    assert [part["type"] for part in demo["content"]] == ["text", "image_url"]
    assert demo["content"][1]["image_url"]["url"] == "https://example.com/dog.png"
    assert answer["content"].startswith("[[ ## caption ## ]]\nA dog.")
    text, cat, bird = turn["content"]
    assert text["text"].startswith('[[ ## image ## ]]\n<image 1>\n\n[[ ## others ## ]]\n["<image 2>"]')
    assert cat["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert bird["image_url"]["url"] == "https://example.com/bird.png"


def test_a_program_with_pictures_in_its_demos_is_saved_and_loaded(tmp_path, picture):
    caption = tf.Predict(Caption)
    caption.demos = [tf.Example(image=picture, others=[picture], caption="A cat.")]
    caption.save(tmp_path / "caption.json")
    loaded = tf.Predict(Caption)
    loaded.load(tmp_path / "caption.json")
    with tf.context(lm=ScriptedLM([])):
        renderings = [p.render(image="https://example.com/dog.png").messages for p in (caption, loaded)]
    assert renderings[0] == renderings[1]
    assert [len(m.media) for m in renderings[0]] == [0, 2, 0, 1]


def test_what_would_be_sent_can_be_looked_at_before_there_is_a_picture():
    with tf.context(lm=ScriptedLM([])):
        assert "{image}" in str(tf.Predict(Caption).render())


def test_the_same_picture_is_asked_about_once_and_another_one_anew(picture):
    lm = ScriptedLM(lambda request: f"[[ ## caption ## ]]\n{len(lm.requests)}", cache=True)
    caption = tf.Predict(Caption)
    with tf.context(lm=lm, cache=tf.Cache(None)):
        answers = [caption(image=i).caption for i in (picture, picture, Image.from_bytes(PNG + b"!"))]
    assert answers == ["1", "1", "2"]


@pytest.mark.parametrize("taken", [frozenset(), frozenset({"audio"})])
def test_a_model_known_not_to_take_pictures_is_not_asked(picture, taken):
    lm = ScriptedLM(["unused"], capabilities=Capabilities(media=taken))
    with pytest.raises(tf.UsageError, match=r"takes no image values.*No call was made"):
        tf.Predict(Caption)(image=picture, lm=lm)
    assert lm.requests == []


@pytest.mark.parametrize("taken", [None, frozenset({"image"})])
def test_a_model_that_takes_them_or_of_which_nothing_is_known_is_asked(picture, taken):
    lm = ScriptedLM(["[[ ## caption ## ]] A cat."], capabilities=Capabilities(media=taken))
    assert tf.Predict(Caption)(image=picture, lm=lm).caption == "A cat."


@pytest.mark.parametrize("value", ["cat.png", "/etc/passwd", 3, Audio("https://a.b/c.mp3")])
def test_what_is_no_picture_is_an_input_error_before_any_call(value):
    lm = ScriptedLM(["unused"])
    with pytest.raises(tf.InputError, match="`image` must be Image"):
        tf.Predict(Caption)(image=value, lm=lm)
    assert lm.requests == []


def test_the_trace_and_its_errors_hold_no_bytes(picture):
    big = Image.from_bytes(PNG + b"x" * 100_000)
    lm = ScriptedLM(["[[ ## caption ## ]] A cat."])
    with tf.context(lm=lm):
        prediction = tf.Predict(Caption)(image=big)
    assert len(repr(prediction.trace.steps[0].inputs)) < 200
    assert json.dumps(tf.Example(prediction.trace.steps[0].inputs).to_dict())
