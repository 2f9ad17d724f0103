"""What a name after `transformers/` means: found, checked and told apart before anything is loaded."""

import importlib.util
import json
import shutil
import sys

import pytest

import tuneful as tf
from tuneful.backends.transformers import engine
from tuneful.backends.transformers.checkpoint import find_checkpoint

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed"),
]


@pytest.fixture(autouse=True)
def unloaded(monkeypatch):
    """Fail the test if a model is loaded."""
    monkeypatch.setattr(engine, "_engines", engines := {})
    yield
    assert engines == {}


def folder_of(path, *, decoder="ByteLevel", size=1000, **config):
    """Make a folder that looks like a checkpoint."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 2048, **config}))
    (path / "tokenizer.json").write_text(json.dumps({"decoder": {"type": decoder}, "model": {}}, indent=1))
    (path / "model.safetensors").write_bytes(b"w" * size)
    return path


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "checkpoint")


# --- mistakes ---


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_a_library_the_error_holds_the_command(monkeypatch, folder, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == missing else find_spec(name, *a))
    with pytest.raises(tf.MissingExtraError, match=r"pip install 'tuneful\[finetune\]'") as caught:
        tf.LM(f"transformers/{folder}")
    assert caught.value.package == missing


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "~/nowhere/at/all", "a/b/c", "C:\\models\\x"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(tf.NotConfiguredError, match=r"there is no folder .*no name on the hub"):
        tf.LM(f"transformers/{name}")


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(tf.NotConfiguredError, match=r"no config\.json"):
        tf.LM(f"transformers/{tmp_path}")


def test_a_file_of_llama_cpp_is_sent_to_llama_cpp(tmp_path):
    with pytest.raises(tf.UsageError, match=r"tf\.LM\('local/"):
        tf.LM(f"transformers/{tmp_path}/model.gguf")


def test_a_config_that_is_no_json_is_an_error(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(tf.UsageError, match="no JSON file"):
        tf.LM(f"transformers/{folder}")


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "int4"},
        {"device": "tpu"},
        {"batch_size": 0},
        {"context_tokens": True},
        {"threads": 0},
        {"bach_size": 2},
    ],
)
def test_settings_that_do_not_exist_are_refused(folder, options):
    with pytest.raises(tf.UsageError, match=next(iter(options))):
        tf.LM(f"transformers/{folder}", **options)


def adapter_of(path, base):
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "peft_type": "LORA"}))
    (path / "adapter_model.safetensors").write_bytes(b"a")
    return path


@pytest.mark.parametrize(
    ("base", "error", "told"),
    [
        (None, tf.UsageError, "does not say over which model"),
        ("/models/x.gguf", tf.UsageError, "lora="),
        ("/nowhere/base", tf.NotConfiguredError, "nowhere"),
    ],
)
def test_an_adapter_needs_a_base_that_can_be_served(tmp_path, base, error, told):
    with pytest.raises(error, match=told):
        tf.LM(f"transformers/{adapter_of(tmp_path / 'adapter', base)}")


def test_an_adapter_over_an_adapter_is_refused(tmp_path, folder):
    inner = adapter_of(tmp_path / "inner", str(folder))
    with pytest.raises(tf.UsageError, match="over another adapter"):
        tf.LM(f"transformers/{adapter_of(tmp_path / 'outer', str(inner))}")


# --- identity ---


def test_the_content_of_a_checkpoint_tells_it_apart_and_not_its_place(folder, tmp_path):
    first = tf.LM(f"transformers/{folder}")
    assert str(tmp_path) not in first.endpoint
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert tf.LM(f"transformers/{moved}").endpoint == first.endpoint
    (moved / "notes.txt").write_text("nothing that decides an answer")
    assert tf.LM(f"transformers/{moved}").endpoint == first.endpoint
    (moved / "model.safetensors").write_bytes(b"v" * 1000)
    assert tf.LM(f"transformers/{moved}").endpoint != first.endpoint


def test_an_adapter_is_another_model_than_its_base_and_finds_a_base_beside_it(tmp_path, folder):
    base = tf.LM(f"transformers/{folder}")
    beside = adapter_of(tmp_path / "adapter", "../checkpoint")
    assert find_checkpoint(str(beside)).source == str(beside / "../checkpoint")
    lm = tf.LM(f"transformers/{beside}")
    assert base.endpoint in lm.endpoint
    assert lm.endpoint != base.endpoint


def test_a_saved_program_knows_its_checkpoint_and_moves_with_it(tmp_path, folder):
    program = tf.Predict("a -> b").using(lm=tf.LM(f"transformers/{folder}"))
    program.save(tmp_path / "program.json")
    assert '"transformers/checkpoint"' in (tmp_path / "program.json").read_text()
    sent = tmp_path / "sent"
    sent.mkdir()
    for name in ("program.json", "checkpoint"):
        shutil.move(tmp_path / name, sent / name)
    loaded = tf.Predict("a -> b")
    loaded.load(sent / "program.json")
    assert loaded.lm.endpoint == program.lm.endpoint
    (sent / "checkpoint" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(tf.StateError, match="other weights"):
        tf.Predict("a -> b").load(sent / "program.json")
    shutil.rmtree(sent / "checkpoint")
    with pytest.raises(tf.StateError, match=r"(?s)no folder .*copy the model"):
        tf.Predict("a -> b").load(sent / "program.json")


def test_a_name_on_the_hub_is_saved_as_its_name():
    lm = tf.LM("transformers/nobody/no-such-model-135M")
    assert lm.state == "transformers/nobody/no-such-model-135M"
    assert "nobody/no-such-model-135M@main" in lm.endpoint


# --- what it can do ---


def test_what_a_model_takes_is_read_from_its_files(folder, tmp_path):
    able = tf.LM(f"transformers/{folder}").capabilities
    assert (able.grammar, able.json_schema, able.small, able.context_tokens) == ("lark", True, True, 2048)
    assert tf.LM(f"transformers/{folder}", context_tokens=99).capabilities.context_tokens == 99
    words = folder_of(tmp_path / "words", decoder="Metaspace", model_type="t5", n_positions=512)
    able = tf.LM(f"transformers/{words}").capabilities
    assert (able.grammar, able.json_schema) == ("", False)


def test_without_llguidance_there_are_no_grammars(monkeypatch, folder):
    find_spec = importlib.util.find_spec
    absent = lambda name, *a: None if name == "llguidance" else find_spec(name, *a)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    assert tf.LM(f"transformers/{folder}").capabilities.grammar == ""


@pytest.mark.parametrize(
    ("name", "small"), [("meta/Thing-8B-it", False), ("meta/Thing-1.5b", True), ("t5-large", True), ("x/y-70B", False)]
)
def test_how_large_a_model_on_the_hub_is_stands_in_its_name(name, small):
    assert tf.LM(f"transformers/{name}").capabilities.small is small


def test_what_it_does_not_take_is_refused_before_any_call(folder):
    lm = tf.LM(f"transformers/{folder}")
    with pytest.raises(tf.UsageError, match="takes no `reasoning_effort`"):
        lm("Hello", reasoning_effort="high")
    with pytest.raises(tf.UsageError, match="takes no extra fields"):
        tf.LM(f"transformers/{folder}", extra_body={"x": 1}, num_retries=0)("Hello")


def test_making_an_lm_does_not_import_torch(folder):
    import subprocess

    code = f"import sys, tuneful as tf; tf.LM('transformers/{folder}'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")
