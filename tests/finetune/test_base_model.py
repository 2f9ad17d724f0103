"""What a training starts from."""

import json
import sys

import pytest

import tuneful as tf
from tuneful.finetune.base_model import check_installed, find_base


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("openai/gpt-4o-mini", tf.UsageError, "`openai` serves it elsewhere"),
        ("smollm2", tf.UsageError, "no base model that can be trained here"),
        ("local/none.gguf", tf.NotConfiguredError, "no model file"),
        ("", tf.UsageError, "no base model"),
    ],
)
def test_a_name_of_no_base_is_a_typed_error(name, error, words):
    with pytest.raises(error, match=words):
        find_base(name)


def test_a_folder_may_be_named_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")

    assert find_base(str(tmp_path)).kind == "checkpoint"
    assert find_base(f"transformers/{tmp_path}").source == str(tmp_path)
    assert find_base(f"random/{tmp_path}").kind == "random"
    assert find_base("transformers/t5-small").source == "t5-small"  # on the hub


def test_an_adapter_is_no_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")

    with pytest.raises(tf.UsageError, match="adapter over another model"):
        find_base(f"transformers/{tmp_path}")


def test_an_empty_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(tf.NotConfiguredError, match=r"no config\.json"):
        find_base(f"transformers/{tmp_path}")


def test_a_missing_library_is_named_with_its_install_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else sys)

    with pytest.raises(tf.MissingExtraError, match=r"`peft`.*\n.*pip install 'tuneful\[finetune\]'"):
        check_installed()


# --- what only the configuration tells ---


def configured(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))
    return find_base(f"transformers/{folder}")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "vit"}, "`vit`, which writes no text"),
        ({"model_type": "nonesuch"}, "transformers does not read it"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "awq"}}, r"quantized \(awq\)"),
    ],
)
def test_what_cannot_be_trained_says_why(tmp_path, config, words):
    pytest.importorskip("torch")
    with pytest.raises(tf.UsageError, match=words):
        configured(tmp_path, **config).config()


def test_a_gguf_file_of_an_unknown_architecture_says_so(tmp_path, write_gguf):
    pytest.importorskip("torch")
    file = write_gguf(tmp_path / "odd.gguf", {}, "odd")

    with pytest.raises(tf.UsageError, match="architecture odd"):
        find_base(f"local/{file}").config()


def test_a_name_that_the_hub_does_not_give_says_so(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(tf.NotConfiguredError, match="cannot be loaded from 'no/such'"):
        find_base("transformers/no/such").config()


@pytest.mark.model
def test_random_weights_come_from_the_seed(tiny_llama):
    torch = pytest.importorskip("torch")
    base = find_base(f"random/{tiny_llama}")
    before = torch.random.get_rng_state()
    one, other, another = (base.load(dtype=torch.float32, seed=s)[0].lm_head.weight for s in (1, 1, 2))

    assert torch.equal(one, other)
    assert not torch.equal(one, another)
    assert torch.equal(before, torch.random.get_rng_state())  # nobody else's chance has changed
