"""What a training makes smaller: the loss of the answers' tokens, and of no others."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from tuneful.finetune.encoding import Encoded
from tuneful.finetune.learning_order import in_parts

_IGNORED = -100

#: Longest row of several examples on a CPU, in tokens: attention looks at all pairs of them.
_LONGEST_ROW = 512

#: How far the losses of both ways may differ, as a share: rounding in 32 bits, and in 16.
_ROUNDING, _COARSE_ROUNDING = 1e-5, 2e-2

#: Layers in which a token sees what a mask shows it. Others carry a state from token to token.
_ATTENTION = {"full_attention", "sliding_attention"}


class Objective:
    """The summed loss of the answers of some examples, as a function of a model's weights.

    The prompts of a program start alike (instructions, wording, demos), and a model's work grows with the tokens. So
    decoder-only models get several examples in one row: their common start once, then the rest of each, which sees the
    start and itself. Nothing is padded, and the vocabulary's logits, a large part of a small model's work, are computed
    only where answers are. Models that this does not suit (it is tried out on the first examples) get one example a
    row. Encoder-decoders read the prompt and write the answer.

    Args:
        model: of transformers, on its device.
        pad: token to fill up with; it is never looked at.
        dtype: of the computation.
        tokens_at_once: most tokens that are computed together.
        longest: tokens of the longest example.
    """

    def __init__(self, model: Any, *, pad: int, dtype: Any, tokens_at_once: int, longest: int) -> None:
        self._model, self._pad, self._dtype = model, pad, dtype
        self._tokens_at_once = tokens_at_once
        self._encoder_decoder = bool(model.config.is_encoder_decoder)
        takes = inspect.signature(model.forward).parameters
        self._keeps = "logits_to_keep" in takes
        #: Whether several examples share a row; None: not tried out yet.
        self._in_rows: bool | None = None if "position_ids" in takes and _takes_any_mask(model, longest) else False

    def parts(self, examples: Sequence[Encoded]) -> list[list[Encoded]]:
        """Return examples in parts that are computed one after another; the sum of their losses is that of all."""
        if self._in_rows is None and len(examples) > 1:
            self._in_rows = self._rows_agree(examples[:2])
        if not self._in_rows or not examples:
            return _cut(examples, [len(e) for e in examples], self._tokens_at_once)
        tokens = self._tokens_at_once
        if self._model.device.type == "cpu":
            tokens = min(tokens, _LONGEST_ROW)
        parts = []
        for group in dict.fromkeys(e.group for e in examples):
            alike = [e for e in examples if e.group == group]
            shared = _common_start(alike)
            parts += _cut(alike, [len(e) - shared for e in alike], max(1, tokens - shared))
        return parts

    def loss(self, examples: Sequence[Encoded]) -> Any:
        """Return the loss in nats, summed over the tokens of all answers, as a tensor."""
        return self._loss(self._in_one_row if self._in_rows else self._one_a_row, examples)

    def _loss(self, ask: Any, examples: Sequence[Encoded]) -> Any:
        import torch
        from torch.nn.functional import cross_entropy

        full = self._dtype == torch.float32
        with nullcontext() if full else torch.autocast(self._model.device.type, self._dtype):
            logits, labels = (self._written if self._encoder_decoder else ask)(examples)
        return cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="sum")

    def _rows_agree(self, examples: Sequence[Encoded]) -> bool:
        """Say whether several examples in a row have the loss that they have alone."""
        import torch

        training = self._model.training
        self._model.eval()
        with torch.inference_mode():
            alone = sum(self._loss(self._one_a_row, [e]).item() for e in examples)
            together = self._loss(self._in_one_row, examples).item()
        self._model.train(training)
        near = _ROUNDING if self._dtype == torch.float32 else _COARSE_ROUNDING
        return bool(abs(alone - together) <= near * alone)

    # --- how a model is asked: inputs -> logits and what should have been written ---

    def _in_one_row(self, examples: Sequence[Encoded]) -> tuple[Any, Any]:
        import torch

        shared = _common_start(examples)
        row = examples[0].prompt[:shared]
        positions, owners = list(range(shared)), [0] * shared
        places: list[int] = []
        for number, example in enumerate(examples, 1):
            own = example.prompt[shared:] + example.answer[:-1]
            places += range(len(row) + len(own) - len(example.answer), len(row) + len(own))
            row = row + own
            positions += range(shared, shared + len(own))
            owners += [number] * len(own)
        owner = self._tensor(owners)
        seen = ((owner == 0) | (owner[:, None] == owner)).tril()
        mask = torch.zeros(seen.shape, dtype=self._model.dtype, device=seen.device)
        mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)
        inputs = {
            "input_ids": self._tensor([row]),
            "attention_mask": mask[None, None],
            "position_ids": self._tensor([positions]),
        }
        if self._keeps:
            logits = self._model(**inputs, logits_to_keep=self._tensor(places), use_cache=False).logits
        else:
            logits = self._model(**inputs, use_cache=False).logits[:, places]
        return logits, self._tensor([[t for e in examples for t in e.answer]])

    def _one_a_row(self, examples: Sequence[Encoded]) -> tuple[Any, Any]:
        longest = max(map(len, examples))
        written = max(len(e.answer) for e in examples)
        rows = [[self._pad] * (longest - len(e)) + e.prompt + e.answer for e in examples]  # they end together
        labels = [[_IGNORED] * (written - len(e.answer)) + e.answer for e in examples]
        inputs: dict[str, Any] = {"input_ids": self._tensor(rows)}
        if any(len(e) < longest for e in examples):
            mask = self._tensor([[0] * (longest - len(e)) + [1] * len(e) for e in examples])
            inputs |= {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
        if self._keeps:
            inputs["logits_to_keep"] = written + 1
        logits = self._model(**inputs, use_cache=False).logits
        return logits[:, -written - 1 : -1], self._tensor(labels)

    def _written(self, examples: Sequence[Encoded]) -> tuple[Any, Any]:
        longest = max(len(e.prompt) for e in examples)
        written = max(len(e.answer) for e in examples)
        rows = [e.prompt + [self._pad] * (longest - len(e.prompt)) for e in examples]
        mask = [[1] * len(e.prompt) + [0] * (longest - len(e.prompt)) for e in examples]
        labels = self._tensor([e.answer + [_IGNORED] * (written - len(e.answer)) for e in examples])
        logits = self._model(
            input_ids=self._tensor(rows),
            attention_mask=self._tensor(mask),
            decoder_input_ids=self._model.prepare_decoder_input_ids_from_labels(labels=labels),
            use_cache=False,
        ).logits
        return logits, labels

    def _tensor(self, rows: Any) -> Any:
        import torch

        return torch.tensor(rows, device=self._model.device)


def _takes_any_mask(model: Any, longest: int) -> bool:
    """Say whether who sees whom in a row can be decided by a mask."""
    config = model.config
    if config.is_encoder_decoder or config._attn_implementation not in ("sdpa", "eager"):
        return False
    window = getattr(config, "sliding_window", None) or longest
    kinds = set(getattr(config, "layer_types", None) or ())
    return not getattr(model, "_is_stateful", False) and kinds <= _ATTENTION and longest <= window


def _common_start(examples: Sequence[Encoded]) -> int:
    """Return how many tokens all prompts start with, their last ones left out: answers begin after those."""
    first, most = examples[0].prompt, min(len(e.prompt) for e in examples) - 1
    return next((i for i in range(most) if any(e.prompt[i] != first[i] for e in examples)), most)


def _cut(examples: Sequence[Encoded], lengths: list[int], tokens: int) -> list[list[Encoded]]:
    return [[examples[i] for i in part] for part in in_parts(range(len(examples)), lengths, tokens)]
