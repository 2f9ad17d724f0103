"""A checkpoint in memory: weights, tokenizer and adapters. With chat.py the only file that knows transformers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneful.backends.cores import usable_cores
from tuneful.backends.transformers.chat import ChatTokens
from tuneful.backends.transformers.checkpoint import Checkpoint
from tuneful.backends.transformers.quiet import quiet
from tuneful.backends.transformers.settings import TransformersSettings
from tuneful.errors import MissingExtraError, NotConfiguredError, UsageError

#: What of the settings that came with a checkpoint is kept: tokens. How to sample is the request's business.
_TOKENS = ("bos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id")


def use_threads(count: int | None) -> None:
    """Have this thread compute with so many. Threads that begin later keep to what was set before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or max(1, usable_cores() - 1))
    # What is set holds for the thread that sets it, and for those that begin later.
    after = threading.Thread(target=torch.set_num_threads, args=(before,))
    after.start()
    after.join()


class LoadedModel:
    """The model of a checkpoint. One thread generates; the others may make tokens."""

    def __init__(self, checkpoint: Checkpoint, settings: TransformersSettings) -> None:
        import torch
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForSeq2SeqLM,
            AutoTokenizer,
            GenerationConfig,
        )

        self.device = _device(settings.device, torch)
        with quiet(), _explained(checkpoint):
            config = AutoConfig.from_pretrained(checkpoint.source)
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.tokenizer_source)
            self.encoder_decoder = bool(config.is_encoder_decoder)
            automatic = AutoModelForSeq2SeqLM if self.encoder_decoder else AutoModelForCausalLM
            dtype = settings.dtype if settings.dtype != "auto" else "float32" if self.device == "cpu" else "auto"
            self._model, report = automatic.from_pretrained(
                checkpoint.source, config=config, dtype=dtype, output_loading_info=True
            )
            if missing := report["missing_keys"]:  # they would be random
                raise ValueError(f"its files lack {len(missing)} of the weights, such as {min(missing)!r}")
            self._model.eval()
        self._to_device(checkpoint)
        self.chat = ChatTokens(tokenizer, encoder_decoder=self.encoder_decoder)
        own = self._model.generation_config
        self._model.generation_config = GenerationConfig(**{k: getattr(own, k, None) for k in _TOKENS})
        self.ends = {self.chat.end, *_listed(own.eos_token_id), *_listed(tokenizer.eos_token_id)}
        self.vocabulary = len(tokenizer)
        self._pad = next(t for t in (tokenizer.pad_token_id, own.pad_token_id, self.chat.end) if t is not None)
        positions = getattr(config.get_text_config(), "max_position_embeddings", None)
        self.context_tokens = min(filter(None, (settings.context_tokens, positions)))
        self._adapters: dict[Path, str] = {}
        self._tried = 0  # adapters; no name is used twice

    def _to_device(self, checkpoint: Checkpoint) -> None:
        try:
            self._model.to(self.device)
        except (RuntimeError, AssertionError) as error:  # no such device, or no room on it
            raise UsageError(
                f"`{checkpoint.name}` cannot be put on {self.device!r}: {_first_line(error)} Set "
                "device='cpu', or dtype='bfloat16' where memory is short."
            ) from error

    # --- adapters ---

    def use_adapter(self, folder: Path | None) -> None:
        """Generate with an adapter from now on, loading it if it is not loaded; with none for None.

        Raises:
            UsageError: it does not fit the model.
        """
        if folder is not None:
            if folder not in self._adapters:
                self._load_adapter(folder)
            self._model.enable_adapters()
            self._model.set_adapter(self._adapters[folder])
        elif self._adapters:
            self._model.disable_adapters()

    def _load_adapter(self, folder: Path) -> None:
        from safetensors import SafetensorError  # comes with transformers

        name = f"adapter_{self._tried}"
        self._tried += 1
        try:
            with quiet():
                report = self._model.load_adapter(str(folder), adapter_name=name)
            missing = {k for k in report.missing_keys if f".{name}." in k}  # earlier adapters' are listed too
            if odd := missing | set(report.unexpected_keys):
                raise ValueError(f"{len(odd)} of its weights are missing, or are of no layer, such as {min(odd)!r}")
        except (ValueError, RuntimeError, KeyError, OSError, TypeError, SafetensorError) as error:
            if name in getattr(self._model, "peft_config", {}):
                with quiet():
                    self._model.delete_adapter(name)
            raise UsageError(
                f"the adapter {str(folder)!r} cannot be laid over its base: {_first_line(error)} Was it made for this "
                "base, and is it whole?"
            ) from error
        self._model.eval()
        self._adapters[folder] = name

    # --- generating ---

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        choose: Callable[[Any], list[int]],
        is_over: Callable[[], list[bool]],
        most: int,
    ) -> None:
        """Go on with some rows of tokens together.

        Args:
            prompts: tokens so far; of an encoder-decoder, what the encoder reads.
            choose: is told the scores of the next token of each row (rows by vocabulary), and picks the tokens.
            is_over: says after each step which rows are done.
            most: most steps.
        """
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        longest = max(map(len, prompts))
        fill = [[self._pad] * (longest - len(p)) for p in prompts]
        ones = [[1] * len(p) for p in prompts]
        zeros = [[0] * len(f) for f in fill]
        if self.encoder_decoder:  # the encoder reads from the left; an answer is written at the right end
            rows = [[*p, *f] for p, f in zip(prompts, fill, strict=True)]
            mask = [one + zero for one, zero in zip(ones, zeros, strict=True)]
        else:
            rows = [[*f, *p] for p, f in zip(prompts, fill, strict=True)]
            mask = [zero + one for one, zero in zip(ones, zeros, strict=True)]

        def picked(_: Any, scores: Any) -> Any:
            scores[:, self.vocabulary :] = float("-inf")  # more rows than tokens: they stand for nothing
            tokens = torch.tensor(choose(scores), device=scores.device)
            return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)

        def stops(*_: Any) -> Any:
            return torch.tensor(is_over(), device=self.device)

        with torch.inference_mode():
            self._model.generate(
                input_ids=torch.tensor(rows, device=self.device),
                attention_mask=torch.tensor(mask, device=self.device),
                max_new_tokens=most,
                do_sample=False,
                logits_processor=LogitsProcessorList([picked]),
                stopping_criteria=StoppingCriteriaList([stops]),
            )


def _device(wanted: str, torch: Any) -> str:
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _listed(tokens: Any) -> list[int]:
    return [] if tokens is None else list(tokens) if isinstance(tokens, (list, tuple)) else [int(tokens)]


@contextmanager
def _explained(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what transformers says of a checkpoint that it cannot load into typed errors."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise UsageError(f"the weights of `{checkpoint.name}` are damaged: {error}") from error
    except ImportError as error:
        raise MissingExtraError(error.name or "a package", "finetune", f"`{checkpoint.name}`") from error
    except OSError as error:
        raise NotConfiguredError(
            f"`{checkpoint.name}` cannot be loaded from {checkpoint.source!r}: {error}\n"
            "Give a folder with config.json, weights and tokenizer, or a name on the hub that can be reached."
        ) from error
    except (ValueError, RuntimeError, KeyError) as error:  # an architecture, or weights, that it does not know
        raise UsageError(f"`{checkpoint.name}` cannot be loaded: transformers does not read it: {error}") from error
