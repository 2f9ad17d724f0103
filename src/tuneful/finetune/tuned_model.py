"""What a trainer gives back: a model that `tf.LM` takes, and how it came to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuneful.errors import StateError
from tuneful.program.lm import LM

_FORMAT = 1

#: Name of the file in a training's folder that holds what came of it.
RESULT = "tuned_model.json"


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """How far a training was after one step.

    Args:
        step: optimizer steps taken, from 1. 0 is the base model, of which only the held-out loss is known.
        loss: mean loss of the step's completion tokens (nats), or None.
        held_out_loss: mean loss of the held-out completion tokens (nats), where it was measured after this step.
        seconds: time spent in training until then, over all runs of it.
        tokens: tokens of the step, prompts and completions.
    """

    step: int
    loss: float | None = None
    held_out_loss: float | None = None
    seconds: float = 0.0
    tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what is known."""
        return {k: v for k, v in asdict(self).items() if v is not None}


@dataclass(frozen=True, slots=True)
class TunedModel:
    """A trained model, as a value: JSON both ways.

    Args:
        model: its name for `tf.LM`: "local/smollm2" (with `lora`), "transformers/FOLDER", "openai/ft:...".
        base: what it was trained from.
        lora: path of a GGUF file with a LoRA that goes over `model`, or None.
        folder: where the trainer keeps its files, or "" where none are here.
        digest: hash of the weights, or the job's identity where the weights are elsewhere. Equal digests mean equal
            models.
        history: one point a step.
        notes: further facts of the trainer: which step was kept, why it ended, what it cost.
    """

    model: str
    base: str
    lora: str | None = None
    folder: str = ""
    digest: str = ""
    history: tuple[HistoryPoint, ...] = ()
    notes: tuple[tuple[str, Any], ...] = ()

    def lm(self, **options: Any) -> LM:
        """Return it as an LM; `options` are those of `tf.LM`. Nothing is loaded before the first call."""
        own: dict[str, Any] = {"lora": self.lora} if self.lora else {}
        own |= {k: v for k, v in self.notes if k == "api_base"}  # of a service other than the provider's
        return LM(self.model, **{**own, **options})

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON."""
        body: dict[str, Any] = {"format": _FORMAT, "model": self.model, "base": self.base}
        body |= {k: getattr(self, k) for k in ("lora", "folder", "digest") if getattr(self, k)}
        return {**body, "history": [p.to_json() for p in self.history], "notes": dict(self.notes)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TunedModel:
        """Return the value that `to_json` wrote. Raises StateError for anything else."""
        try:
            if body["format"] != _FORMAT:
                raise StateError(f"this tuned model is of format {body['format']!r}; this version reads {_FORMAT}.")
            parts = {k: body[k] for k in ("model", "base", "lora", "folder", "digest") if k in body}
            history = tuple(HistoryPoint(**p) for p in body["history"])
            return cls(**parts, history=history, notes=tuple(body.get("notes", {}).items()))
        except (KeyError, TypeError, AttributeError) as error:
            raise StateError(f"this is no tuned model as `to_json` writes it: {error!r}.") from error

    def save(self, path: str | Path) -> None:
        """Write it to a JSON file, whole or not at all."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> TunedModel:
        """Read what `save` wrote. Raises StateError for a file that holds something else."""
        try:
            body = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise StateError(f"{str(path)!r} is no JSON file: {error}") from error
        return cls.from_json(body)


def plain_base(model: str) -> str:
    """Return what a model was trained from, at the very beginning; the name itself where it is no tuned model.

    >>> plain_base("openai/ft:gpt-4.1-nano-2025-04-14:my-shop::B1x")
    'openai/gpt-4.1-nano-2025-04-14'

    Args:
        model: a name that `tf.LM` takes.
    """
    prefix, _, rest = model.partition("/")
    if prefix == "openai" and rest.startswith("ft:"):
        return f"openai/{rest.split(':')[1]}"
    result = Path(rest).expanduser().parent / RESULT
    if prefix != "transformers" or not result.is_file():
        return model
    tuned = TunedModel.load(result)
    own = tuned.model.partition("/")[2]
    return plain_base(tuned.base) if Path(own).name == Path(rest).name and tuned.base != model else model
