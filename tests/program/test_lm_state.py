"""LMs in saved programs: which model, which weights of the user's own, and where they lie."""

import json
import shutil

import pytest

import tuneful as tf
from tuneful.backends.local import engine


class Program(tf.Module):
    def __init__(self):
        self.sort = tf.Predict("text -> drawer")
        self.reply = tf.Predict("text, drawer -> reply")

    def forward(self, text):
        return self.reply(text=text, drawer=self.sort(text=text).drawer)


@pytest.fixture(autouse=True)
def unloaded(monkeypatch):
    """Fail the test if a model is loaded: neither saving nor loading needs one."""
    monkeypatch.setattr(engine, "_engines", engines := {})
    yield
    assert engines == {}


@pytest.fixture
def tuned(base_file, write_lora, tmp_path):
    """A program whose predictors have LoRAs of their own over one base: one beside the program, one elsewhere."""
    program = Program()
    (tmp_path / "saved").mkdir()
    beside = write_lora(tmp_path / "saved" / "sort.gguf", seed=1)
    elsewhere = write_lora(tmp_path / "reply.gguf", seed=2)
    program.sort.lm = tf.LM(f"local/{base_file}", lora=beside)
    program.reply.lm = tf.LM(f"local/{base_file}", lora=elsewhere, lora_scale=0.5)
    program.save(tmp_path / "saved" / "program.json")
    return program


def saved_lms(folder):
    parameters = json.loads((folder / "program.json").read_text())["parameters"]
    return parameters["sort.lm"], parameters["reply.lm"]


def test_a_program_keeps_which_lora_each_predictor_has(tuned, tmp_path):
    loaded = Program()
    loaded.load(tmp_path / "saved" / "program.json")
    for before, after in zip(tuned.predictors(), loaded.predictors(), strict=True):
        assert after.lm.endpoint == before.lm.endpoint
        assert after.lm.state == before.lm.state


def test_what_lies_beside_the_program_moves_with_it(tuned, tmp_path):
    sort, reply = saved_lms(tmp_path / "saved")
    assert sort["lora"] == "sort.gguf"
    assert reply["lora"] == str(tmp_path / "reply.gguf")
    assert (reply["lora_scale"], "lora_scale" in sort) == (0.5, False)
    shutil.copytree(tmp_path / "saved", tmp_path / "sent")
    shutil.rmtree(tmp_path / "saved")
    loaded = Program()
    loaded.load(tmp_path / "sent" / "program.json")
    assert loaded.sort.lm.state["lora"] == str(tmp_path / "sent" / "sort.gguf")
    assert loaded.sort.lm.endpoint == tuned.sort.lm.endpoint


def test_a_base_beside_the_program_moves_with_it_too(base_file, write_lora, tmp_path):
    program = tf.Predict("a -> b")
    program.lm = tf.LM(f"local/{base_file}", lora=write_lora(tmp_path / "lora.gguf"))
    program.save(tmp_path / "program.json")
    assert json.loads((tmp_path / "program.json").read_text())["parameters"]["lm"]["model"] == "local/base.gguf"
    loaded = tf.Predict("a -> b")
    loaded.load(tmp_path / "program.json")
    assert loaded.lm.endpoint == program.lm.endpoint


def test_a_relative_lora_is_saved_where_it_is(base_file, write_lora, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lora(tmp_path / "lora.gguf")
    program = tf.Predict("a -> b")
    program.lm = tf.LM("local/base.gguf", lora="lora.gguf")
    program.save("made/program.json")
    monkeypatch.chdir("/")
    loaded = tf.Predict("a -> b")
    loaded.load(tmp_path / "made" / "program.json")
    assert loaded.lm.endpoint == program.lm.endpoint


def refused(path, match):
    program = Program()
    with pytest.raises(tf.StateError, match=match):
        program.load(path)
    assert all(p.lm is None for p in program.predictors())


def test_a_missing_lora_is_told_with_its_place(tuned, tmp_path):
    (tmp_path / "saved" / "sort.gguf").unlink()
    refused(
        tmp_path / "saved" / "program.json", r"(?s)no LoRA file.*saved/sort\.gguf.*copy the model.*Nothing was changed"
    )


def test_another_lora_in_its_place_is_told(tuned, write_lora, tmp_path):
    write_lora(tmp_path / "saved" / "sort.gguf", seed=99)
    refused(tmp_path / "saved" / "program.json", r"sort\.gguf' holds other weights than those")


@pytest.mark.parametrize(
    "value", [3, ["local/smollm2"], {"lora": "x"}, {"model": None}, {"model": "local/x", "typo": 1}]
)
def test_a_value_that_describes_no_lm_is_refused(tuned, tmp_path, value):
    path = tmp_path / "saved" / "program.json"
    state = json.loads(path.read_text())
    state["parameters"]["sort.lm"] = value
    path.write_text(json.dumps(state))
    refused(path, "cannot be used")


def test_an_lm_as_a_candidate_of_a_compile_is_the_same_value(tuned):
    values = {path: p.value for path, p in tuned.parameters().items() if p.kind == "lm"}
    other = Program().with_parameters(json.loads(json.dumps(values)))
    assert [p.lm.endpoint for p in other.predictors()] == [p.lm.endpoint for p in tuned.predictors()]
    same = tuned.with_parameters(values)
    assert same.sort.lm is tuned.sort.lm  # nothing is made anew where nothing changes


def test_a_model_without_weights_of_its_own_is_its_name(tmp_path):
    program = tf.Predict("a -> b")
    program.lm = tf.LM("openai/gpt-4o-mini", api_key="secret")
    assert program.lm.state == "openai/gpt-4o-mini"
    program.save(tmp_path / "program.json")
    assert "secret" not in (tmp_path / "program.json").read_text()
