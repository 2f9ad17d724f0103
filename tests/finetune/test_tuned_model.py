"""A tuned model as a value."""

import json

import pytest

import tuneful as tf
from tuneful.finetune.tuned_model import HistoryPoint, TunedModel, plain_base

TUNED = TunedModel(
    "openai/ft:gpt-4.1-nano:me::1",
    "openai/gpt-4.1-nano",
    digest="job-1",
    history=(HistoryPoint(0, held_out_loss=2.5), HistoryPoint(1, 2.25, 2.0, 0.5, 300)),
    notes=(("kept_step", 1), ("left_out", {"examples that are too long": 2})),
)


def test_it_is_the_same_after_a_file(tmp_path):
    TUNED.save(tmp_path / "tuned.json")

    assert TunedModel.load(tmp_path / "tuned.json") == TUNED
    assert [p.name for p in tmp_path.iterdir()] == ["tuned.json"]


def test_it_is_an_lm():
    lm = TUNED.lm(api_key="key", temperature=0.5)

    assert (lm.model, lm.sampling.temperature) == ("openai/ft:gpt-4.1-nano:me::1", 0.5)


def test_the_plain_base_is_what_all_began_with(tmp_path):
    def tuned(name, base):
        folder = tmp_path / name
        (folder / "model").mkdir(parents=True)
        TunedModel(f"transformers/{folder}/model", base, folder=str(folder)).save(folder / "tuned_model.json")
        return f"transformers/{folder}/model"

    once = tuned("once", "transformers/org/base")
    twice = tuned("twice", once)

    assert plain_base(twice) == plain_base(once) == "transformers/org/base"
    assert plain_base("local/smollm2") == "local/smollm2"
    assert plain_base(f"transformers/{tmp_path}/once") == f"transformers/{tmp_path}/once"  # no model itself
    assert plain_base(f"transformers/{tmp_path}/once/other") == f"transformers/{tmp_path}/once/other"


def test_a_lora_is_the_lms_own(write_lora, base_file, tmp_path):
    pytest.importorskip("xllamacpp")
    lora = write_lora(tmp_path / "lora.gguf")
    lm = TunedModel(f"local/{base_file}", f"local/{base_file}", lora=str(lora)).lm()

    assert lm.endpoint != tf.LM(f"local/{base_file}").endpoint


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"format": 1, "model": "x"}'])
def test_another_file_is_a_typed_error(tmp_path, content):
    (tmp_path / "tuned.json").write_text(content)

    with pytest.raises(tf.StateError):
        TunedModel.load(tmp_path / "tuned.json")


def test_a_later_format_is_named():
    body = {**TUNED.to_json(), "format": 9}

    with pytest.raises(tf.StateError, match="format 9"):
        TunedModel.from_json(json.loads(json.dumps(body)))
