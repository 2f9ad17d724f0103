"""LoRA: small updates beside the frozen weights of a base, for which peft holds the layers and the file format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneful.errors import UsageError
from tuneful.finetune.base_model import BaseModel
from tuneful.finetune.lora_gguf import check_architecture, write_lora_gguf
from tuneful.finetune.numbers import check_count, check_positive, check_share

_CONFIG = "default"


@dataclass(frozen=True, slots=True)
class LoRA:
    """Low-rank updates beside frozen weights: a few megabytes, of which several predictors can each have their own.

    Args:
        rank: columns of each update; more can learn more.
        alpha: updates are multiplied by `alpha / rank`.
        dropout: share of an update's inputs that a step leaves out, from 0 up to 1.
        targets: names of the layers, such as ("q_proj", "v_proj"); "all-linear" is all but the vocabulary's.

    Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        check_count("rank", self.rank)
        check_positive("alpha", self.alpha)
        check_share("dropout", self.dropout)
        if not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(self.targets))

    def check(self, base: BaseModel) -> None:
        """Raise UsageError where a LoRA over this base could not be served."""
        if base.kind == "gguf":
            check_architecture(base.architecture)
        if base.kind == "random":
            raise UsageError(
                f"a LoRA over random weights (`{base.name}`) could not be served: nobody else has those weights. "
                "Train all of them: LocalTrainer(lora=False)."
            )

    def add_to(self, model: Any, base: BaseModel) -> None:
        """Put updates into a model, and freeze everything else. They begin as nothing."""
        import torch
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.targets if isinstance(self.targets, str) else list(self.targets),
            task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
            base_model_name_or_path=base.source,
            inference_mode=False,
        )
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            raise UsageError(f"a LoRA with these `targets` does not fit `{base.name}`: {error}") from error
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(torch.float32)

    def save(self, model: Any, folder: Path) -> None:
        """Write the updates of a model into a folder as peft does."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        config = model.peft_config[_CONFIG]
        config.inference_mode = True
        config.save_pretrained(str(folder))
        weights = {
            f"base_model.model.{n}": w.cpu()
            for n, w in get_peft_model_state_dict(model, save_embedding_layers=False).items()
        }
        save_file(weights, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})

    def save_gguf(self, model: Any, path: Path, architecture: str) -> None:
        """Write the updates of a model into a file for llama.cpp."""
        from peft import get_peft_model_state_dict

        config = model.config
        write_lora_gguf(
            path,
            {
                name: weight.float().cpu().numpy()
                for name, weight in get_peft_model_state_dict(model, save_embedding_layers=False).items()
            },
            architecture=architecture,
            alpha=self.alpha,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
        )
