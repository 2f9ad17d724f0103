"""What a training starts from: which weights and which tokenizer a name means, and whether they can be trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from tuneful.backends.http.providers import PROVIDERS
from tuneful.backends.local.find import find_model
from tuneful.backends.local.gguf_file import read_metadata
from tuneful.backends.transformers.chat import ChatTokens
from tuneful.backends.transformers.quiet import quiet
from tuneful.errors import MissingExtraError, NotConfiguredError, UsageError

_ARCHITECTURE = "general.architecture"
_SPLITTING = "tokenizer.ggml.pre"
_ADDS_BOS = "tokenizer.ggml.add_bos_token"

#: Vocabularies whose every digit is a token, by `tokenizer.ggml.pre`: a way of splitting texts that the reader of
#: transformers does not know.
_SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"})

#: What llama.cpp takes where a file has no chat template.
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What a base model's name means.

    Args:
        name: the name as it was given.
        kind: "gguf" (a file of llama.cpp, whose weights are read and de-quantized), "checkpoint" (a folder of
            transformers, or a name on its hub), or "random" (the configuration and the tokenizer of such a
            checkpoint, with random weights).
        source: path of the file or the folder, or the name on the hub.
    """

    name: str
    kind: Literal["gguf", "checkpoint", "random"]
    source: str

    @property
    def architecture(self) -> str:
        """The architecture in the words of GGUF: "llama", "qwen2", ...; "" for another kind."""
        return str(self._facts().get(_ARCHITECTURE, "")) if self.kind == "gguf" else ""

    def config(self) -> Any:
        """Return the configuration of transformers. Raises UsageError where it cannot be trained."""
        path = Path(self.source)
        file = path if path.is_file() else path / "config.json"
        return deepcopy(_config_of(self, file.stat().st_mtime_ns if file.is_file() else 0))

    def load(self, *, dtype: Any, seed: int = 0) -> tuple[Any, ChatTokens]:
        """Return model and tokenizer, on the CPU.

        Args:
            dtype: of the weights.
            seed: of random weights.
        """
        with _reading_once() if self.kind == "gguf" else nullcontext():
            return self._model(dtype, seed), self.tokens()

    def _model(self, dtype: Any, seed: int) -> Any:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

        config = self.config()
        automatic = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with quiet(), _explained(self):
            if self.kind == "random":
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    model = automatic.from_config(config, dtype=dtype)
            else:
                model = automatic.from_pretrained(**self.arguments(), config=config, dtype=dtype)
        if self.kind == "gguf":  # it is in full numbers now, though it would still refuse to be saved
            model.hf_quantizer = None
            del model.config.quantization_config
        return model

    def tokens(self) -> ChatTokens:
        """Return what makes tokens of chats, the same tokens as where the tuned model will be served."""
        from transformers import AutoTokenizer

        with quiet(), _explained(self):
            tokenizer = AutoTokenizer.from_pretrained(**self.arguments())
        encoder_decoder = bool(self.config().is_encoder_decoder)
        if self.kind == "gguf" and not encoder_decoder:
            _as_llama_cpp(tokenizer, self._facts())
        return ChatTokens(tokenizer, encoder_decoder=encoder_decoder)

    def _facts(self) -> dict[str, Any]:
        return read_metadata(Path(self.source), (_ARCHITECTURE, _SPLITTING, _ADDS_BOS))

    def arguments(self) -> dict[str, Any]:
        """Return what transformers is asked with."""
        path = Path(self.source)
        if self.kind == "gguf":
            return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        return {"pretrained_model_name_or_path": self.source}


@lru_cache(maxsize=8)
def _config_of(base: BaseModel, _version: int) -> Any:
    from transformers import AutoConfig

    with quiet(), _explained(base):  # of a GGUF file this takes seconds: the whole vocabulary is read with it
        config = AutoConfig.from_pretrained(**base.arguments())
    _check_trainable(base, config)
    return config


def find_base(name: str) -> BaseModel:
    """Return what a name means, without loading anything.

    Raises:
        UsageError: the name is of a model elsewhere, or of no model at all.
        NotConfiguredError: there is no such file.
    """
    prefix, slash, rest = name.partition("/")
    if prefix == "local" and slash:
        return BaseModel(name, "gguf", str(find_model(rest)))
    if prefix in ("transformers", "random") and rest:
        kind: Literal["checkpoint", "random"] = "checkpoint" if prefix == "transformers" else "random"
        folder = Path(rest).expanduser()
        return BaseModel(name, kind, _checked_folder(folder) if folder.exists() else rest)
    if name and Path(name).expanduser().is_dir():
        return BaseModel(name, "checkpoint", _checked_folder(Path(name).expanduser()))
    elsewhere = f"`{prefix}` serves it elsewhere; its own fine-tuning may train it." if prefix in PROVIDERS else ""
    raise UsageError(
        f"`{name}` is no base model that can be trained here. {elsewhere} Give `local/smollm2`, `local/PATH.gguf`, "
        "`transformers/FOLDER_OR_NAME`, or `random/FOLDER_OR_NAME` for random weights of that configuration."
    )


def check_installed() -> None:
    """Raise MissingExtraError where a library of the extra is missing. None is imported."""
    for package in ("torch", "transformers", "peft", "gguf"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "finetune", "Training on this machine")


def _checked_folder(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{str(folder)!r} is an adapter over another model (a LoRA). Train from that model: it is named in "
            "adapter_config.json as `base_model_name_or_path`."
        )
    if not (folder / "config.json").is_file():
        raise NotConfiguredError(f"{str(folder)!r} holds no checkpoint of transformers: it has no config.json.")
    return str(folder)


def _check_trainable(base: BaseModel, config: Any) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    )

    known = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING if config.is_encoder_decoder else MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in known:
        raise UsageError(
            f"the base model `{base.name}` is a `{config.model_type}`, which writes no text. Expected a model that "
            "does: decoder-only (Llama, Qwen, ...) or encoder-decoder (T5, BART, ...)."
        )
    quantized = getattr(config, "quantization_config", None)
    if base.kind == "checkpoint" and quantized:
        raise UsageError(
            f"the weights of the base model `{base.name}` are quantized ({_method(quantized)}), and cannot be "
            "trained. Start from its unquantized checkpoint."
        )


def _method(quantized: Any) -> str:
    found = quantized.get("quant_method") if isinstance(quantized, dict) else getattr(quantized, "quant_method", "")
    return str(getattr(found, "value", found))


def _as_llama_cpp(tokenizer: Any, facts: dict[str, Any]) -> None:
    """Have a tokenizer that was read from a GGUF file make the tokens that llama.cpp makes."""
    from tokenizers import pre_tokenizers as pieces

    if facts.get(_SPLITTING) in _SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pieces.Sequence(
            [pieces.Digits(individual_digits=True), pieces.ByteLevel(add_prefix_space=False)]
        )
    template = tokenizer.chat_template or _CHATML
    begins = facts.get(_ADDS_BOS) and "bos_token" not in template  # it adds that to whatever comes
    tokenizer.chat_template = "{{- bos_token }}" + template if begins else template


@contextmanager
def _explained(base: BaseModel) -> Iterator[None]:
    """Turn what transformers says of a base that it cannot read into typed errors."""
    try:
        yield
    except ValueError as error:  # an architecture, a file or a tokenizer that it does not know
        raise UsageError(
            f"the base model `{base.name}` cannot be trained: transformers does not read it: {error}"
        ) from error
    except OSError as error:
        raise NotConfiguredError(
            f"the base model `{base.name}` cannot be loaded from {base.source!r}: {error}\n"
            "Give a folder with config.json, weights and tokenizer, or a name on the hub that can be reached."
        ) from error


@contextmanager
def _reading_once() -> Iterator[None]:
    """Have transformers read a GGUF file once, and name its tensors once, not for every layer: a third of the time."""
    import gguf

    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = lru_cache(maxsize=1)(reader), lru_cache(maxsize=1)(names)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, names
