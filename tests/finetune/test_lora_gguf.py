"""A LoRA as a file for llama.cpp."""

import pytest

import tuneful as tf
from tuneful.backends.local.gguf_file import read_metadata
from tuneful.finetune.lora_gguf import check_architecture, write_lora_gguf

np = pytest.importorskip("numpy")
gguf = pytest.importorskip("gguf")


def write(path, names, architecture="llama"):
    weights = {}
    for name in names:
        weights[f"{name}.lora_A.weight"] = np.arange(2 * 8, dtype=np.float32).reshape(2, 8)
        weights[f"{name}.lora_B.weight"] = np.arange(8 * 2, dtype=np.float32).reshape(8, 2)
    write_lora_gguf(path, weights, architecture=architecture, alpha=4, layers=2, heads=2, kv_heads=2)
    return {t.name: t.data for t in gguf.GGUFReader(path).tensors}


def test_layers_have_llama_cpps_names_and_queries_and_keys_its_order(tmp_path):
    found = write(tmp_path / "lora.gguf", ["model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj"])

    assert set(found) == {
        f"{name}.weight.{part}" for name in ("blk.1.attn_q", "blk.0.ffn_down") for part in ("lora_a", "lora_b")
    }
    in_order = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert np.array_equal(found["blk.0.ffn_down.weight.lora_b"], in_order)
    # Two heads of four rows: the halves (0, 1) and (2, 3) of each lie beside one another.
    assert np.array_equal(found["blk.1.attn_q.weight.lora_b"], in_order[[0, 2, 1, 3, 4, 6, 5, 7]])
    facts = ("general.type", "adapter.type", "adapter.lora.alpha", "general.architecture")
    assert read_metadata(tmp_path / "lora.gguf", facts) == dict(zip(facts, ("adapter", "lora", 4.0, "llama")))
    assert [p.name for p in tmp_path.iterdir()] == ["lora.gguf"]


def test_other_architectures_keep_their_order(tmp_path):
    found = write(tmp_path / "lora.gguf", ["model.layers.1.self_attn.q_proj"], "qwen2")

    assert np.array_equal(found["blk.1.attn_q.weight.lora_b"], np.arange(16, dtype=np.float32).reshape(8, 2))


def test_an_architecture_that_is_not_known_is_a_typed_error():
    with pytest.raises(tf.UsageError, match=r"`mamba`.*transformers/FOLDER_OR_NAME"):
        check_architecture("mamba")


def test_a_layer_without_a_name_is_a_typed_error(tmp_path):
    with pytest.raises(tf.UsageError, match=r"no layer for.*odd_proj"):
        write(tmp_path / "lora.gguf", ["model.layers.0.odd_proj"])
    assert not (tmp_path / "lora.gguf").exists()
