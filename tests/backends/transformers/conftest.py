"""Small checkpoints with random weights, made as transformers makes them."""

from __future__ import annotations

import shutil
import warnings

import pytest

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = ["the quick brown fox jumps over the lazy dog", "what is the capital of France? Paris", "yes and no, 1 2 3"]


def _tokenizer(folder, specials, end, template, decoder="bytes"):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    if decoder == "bytes":
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        alphabet = [chr(c) for c in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(WORDS * 3, trainer)
    found = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end, pad_token=specials[0])
    found.chat_template = template
    found.save_pretrained(folder)
    return found


def _llama(folder, seed=0):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = _tokenizer(folder, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", CHATML)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokens) + 6,  # padded, as many checkpoints are
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _t5(folder, decoder="words"):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokens = _tokenizer(folder, ("<pad>", "</s>"), "</s>", None, decoder)
    torch.manual_seed(1)
    config = T5Config(
        vocab_size=len(tokens),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        initializer_factor=3.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def _adapter(folder, base, seed):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM", base_model_name_or_path=str(base)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers in words that it has put aside
        tuned = get_peft_model(model, config)
    torch.manual_seed(seed)
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.4)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def quiet():
    """Making checkpoints shows bars on the terminal."""
    torch = pytest.importorskip("torch")

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices: two threads would wait for one another
    logging = pytest.importorskip("transformers").utils.logging
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def llama(tmp_path_factory, quiet):
    return _llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def t5(tmp_path_factory, quiet):
    return _t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def t5_bytes(tmp_path_factory, quiet):
    return _t5(tmp_path_factory.mktemp("t5_bytes"), "bytes")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory, llama):
    return [_adapter(tmp_path_factory.mktemp(f"adapter{i}"), llama, i) for i in range(2)]


@pytest.fixture
def copied(llama, tmp_path):
    """A copy of the checkpoint that a test may change."""
    return shutil.copytree(llama, tmp_path / "copied")
