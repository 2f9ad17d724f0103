"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tuneful as tf


@pytest.fixture(autouse=True)
def no_cache() -> Iterator[None]:
    """Answers are cached by default; a test that wants that says so."""
    from tuneful.program.running import runtime

    before = runtime.settings.cache
    tf.configure(cache=False)
    yield
    tf.configure(cache=before)


@pytest.fixture(scope="session")
def write_gguf() -> Callable[..., Path]:
    """Write a GGUF file: some values, and tensors by name (numpy arrays)."""
    gguf = pytest.importorskip("gguf")

    def write(path: Path, tensors: dict[str, Any], architecture: str = "llama", **values: str | float) -> Path:
        writer = gguf.GGUFWriter(path, architecture)
        for name, value in values.items():
            key = name.replace("__", ".")
            writer.add_string(key, value) if isinstance(value, str) else writer.add_float32(key, value)
        for name, array in tensors.items():
            writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


@pytest.fixture(scope="session")
def write_lora(write_gguf: Callable[..., Path]) -> Callable[..., Path]:
    """Write a LoRA of random numbers for llama.cpp."""
    import numpy as np

    def write(
        path: Path,
        *,
        seed: int = 0,
        layers: int = 1,
        width: int = 8,
        rows: int | None = None,
        strength: float = 0.05,
        architecture: str = "llama",
    ) -> Path:
        chance = np.random.default_rng(seed)
        tensors = {}
        for layer in range(layers):
            name = f"blk.{layer}.attn_output.weight"
            tensors[f"{name}.lora_a"] = chance.normal(0, strength, (4, width)).astype(np.float32)
            tensors[f"{name}.lora_b"] = chance.normal(0, strength, (rows or width, 4)).astype(np.float32)
        marks = {"general__type": "adapter", "adapter__type": "lora", "adapter__lora__alpha": 4.0}
        return write_gguf(path, tensors, architecture, **marks)

    return write


@pytest.fixture
def base_file(write_gguf: Callable[..., Path], tmp_path: Path) -> Path:
    """A GGUF file with one weight, for which `write_lora` writes LoRAs: nothing that could be loaded."""
    import numpy as np

    return write_gguf(tmp_path / "base.gguf", {"blk.0.attn_output.weight": np.zeros((8, 8), np.float32)})


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny decoder-only configuration and a tokenizer of bytes that knows chats; no weights."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_llama")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    of_bytes = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    of_bytes.add_special_tokens(["<|pad|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=of_bytes, eos_token="<|im_end|>", pad_token="<|pad|>")
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        attention_dropout=0.1,  # so that chance has a part in every step
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny encoder-decoder configuration and ByT5's tokenizer of bytes; no weights."""
    pytest.importorskip("transformers")
    from transformers import ByT5Tokenizer, T5Config

    folder = tmp_path_factory.mktemp("tiny_t5")
    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokenizer.save_pretrained(folder)
    T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    ).save_pretrained(folder)
    return folder
