"""The folder of one training: what it is a training of, its data, its checkpoints and its result.

training.json           what is trained on what, with which settings: another training does not go on here
train.jsonl             the examples, and held_out.jsonl
checkpoint.safetensors  while it is under way, with best-STEP.safetensors
model/                  the result, as transformers or peft write it
lora.gguf               the result for llama.cpp, where it is a LoRA over a GGUF file
tuned_model.json        the `TunedModel`; once it is there, the training is done
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from tuneful.backends.file_digest import digest_of
from tuneful.backends.transformers.chat import ChatTokens
from tuneful.backends.transformers.quiet import quiet
from tuneful.errors import StateError
from tuneful.finetune.base_model import BaseModel
from tuneful.finetune.lora import LoRA
from tuneful.finetune.training import Training
from tuneful.finetune.training_set import TrainingSet
from tuneful.finetune.tuned_model import RESULT, TunedModel

_IDENTITY = "training.json"


class TrainingFolder:
    """The folder of one training.

    Args:
        path: where it is; it is made when it is claimed.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser().resolve()

    def claim(self, identity: dict[str, Any], dataset: TrainingSet, held_out: TrainingSet) -> None:
        """Take the folder for a training, and write its data there; or go on with the same one.

        Raises:
            StateError: another training is in it. Nothing was changed.
        """
        file = self.path / _IDENTITY
        identity = json.loads(json.dumps(identity))  # as it will be read
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                found = {}
            if found != identity:
                other = ", ".join(k for k in identity if found.get(k) != identity[k])
                raise StateError(
                    f"{str(self.path)!r} holds another training: its {other} differ. Give each training a folder of "
                    "its own, or delete this one."
                )
            return
        dataset.save(self.path / "train.jsonl", "tool")
        if held_out:
            held_out.save(self.path / "held_out.jsonl", "tool")
        partial = file.with_name(f".{file.name}.partial")
        partial.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
        partial.replace(file)

    def finished(self) -> TunedModel | None:
        """Return what the training has made, or None where it is not done."""
        file = self.path / RESULT
        return TunedModel.load(file) if file.is_file() else None

    def finish(
        self,
        model: Any,
        tokens: ChatTokens,
        base: BaseModel,
        lora: LoRA | None,
        training: Training,
        left_out: Counter[str],
    ) -> TunedModel:
        """Write the trained model in the form in which it will be served."""
        gguf = self.path / "lora.gguf" if lora is not None and base.kind == "gguf" else None
        target = self.path / "model"
        partial = self.path / ".model.partial"
        for folder in (partial, target):
            shutil.rmtree(folder, ignore_errors=True)
        partial.mkdir()
        if lora is None:
            model.to(base.config().dtype or model.dtype)  # as many bits as the base has
            with quiet():
                model.save_pretrained(str(partial))
            tokens.tokenizer.save_pretrained(str(partial))
        else:
            lora.save(model, partial)
        partial.rename(target)
        if gguf is not None and lora is not None:
            lora.save_gguf(model, gguf, base.architecture)
        weights = [gguf] if gguf else sorted(target.glob("*.safetensors"))
        tuned = TunedModel(
            model=base.name if gguf else f"transformers/{target}",
            base=base.name,
            lora=None if gguf is None else str(gguf),
            folder=str(self.path),
            digest=digest_of(weights),
            history=tuple(training.standing.history),
            notes=tuple({**training.facts(), "left_out": dict(left_out)}.items()),
        )
        tuned.save(self.path / RESULT)
        return tuned
