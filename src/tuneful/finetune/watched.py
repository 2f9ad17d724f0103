"""A training under the meters in force: it is charged to them, and stops at a checkpoint where one of them says so."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from pathlib import Path

from tuneful.backends.metered import current_phase, meters
from tuneful.errors import TrainingStopped
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.training_set import TrainingSet
from tuneful.finetune.tuned_model import HistoryPoint, TunedModel
from tuneful.program.running.portal import portal
from tuneful.wire.response import Usage


async def train_here(
    trainer: Trainer,
    dataset: TrainingSet,
    base_model: str,
    *,
    folder: Path,
    held_out: TrainingSet | None,
    seed: int,
) -> TunedModel:
    """Train in a worker thread of this process; the arguments are those of `Trainer.train`.

    Raises:
        BudgetExceeded: a budget was used up. As when it is cancelled, the training is at a checkpoint then.
    """
    watch = _Watch(base_model)
    try:
        return await portal.in_thread(
            lambda: trainer.train(
                dataset,
                base_model,
                folder=folder,
                held_out=held_out,
                seed=seed,
                progress=watch.note,
                display_progress=True,
                stop=watch.over,
            )
        )
    except TrainingStopped:
        watch.check()  # a budget has a word of its own
        raise
    except CancelledError:
        watch.cancelled.set()
        raise


class _Watch:
    """Charges a training to the meters in force, and says when it must stop."""

    def __init__(self, base: str) -> None:
        self._meters, self._phase, self._base = meters(), current_phase(), base
        self.cancelled = threading.Event()

    def note(self, point: HistoryPoint) -> None:
        for meter in self._meters:
            meter.settle(self._base, Usage(prompt_tokens=point.tokens), self._phase)

    def over(self) -> bool:
        return self.cancelled.is_set() or any(meter.over for meter in self._meters)

    def check(self) -> None:
        for meter in self._meters:
            meter.check()
