"""Trainer: training set and base model in, tuned model out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tuneful.finetune.tuned_model import HistoryPoint, TunedModel

if TYPE_CHECKING:
    from tuneful.finetune.training_set import TrainingSet


class Trainer(ABC):
    """Makes a tuned model of a base model. Its constructor takes settings alone, and loads nothing.

    A subclass gives `settings`, `check` and `train`. `LocalTrainer` trains on this machine, `OpenAITrainer` asks a
    service to.

    Attributes:
        travels: whether a worker of an executor may train in its place: one that computes, can be pickled, and holds no
            key.
    """

    travels: ClassVar[bool] = False

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return everything that decides the result, as JSON: part of journal keys and of a checkpoint's identity."""

    @abstractmethod
    def check(self, base_model: str) -> None:
        """Raise what is known to be wrong before anything is spent.

        Raises:
            MissingExtraError: a library is not installed.
            UsageError: no such base model, or one that this trainer cannot train.
        """

    @abstractmethod
    def train(
        self,
        dataset: TrainingSet,
        base_model: str,
        *,
        folder: Path,
        held_out: TrainingSet | None = None,
        seed: int = 0,
        progress: Callable[[HistoryPoint], None] | None = None,
        display_progress: bool = False,
        stop: Callable[[], bool] | None = None,
    ) -> TunedModel:
        """Train, and block until it is done: whoever has an event loop calls it in a worker thread.

        It goes on where an earlier run in the same folder was killed or stopped, if data, base, settings and seed are
        the same, and returns at once what such a run has finished.

        Args:
            dataset: what to learn.
            base_model: what to start from, in the words of `tf.LM`.
            folder: where checkpoints and the result go; one folder for one training.
            held_out: examples whose loss is measured on the way, and never learned from.
            seed: of everything that is left to chance.
            progress: is told each point, in the thread that trains.
            display_progress: whether to show a bar where a person can see it.
            stop: is asked between steps; True ends the training at a checkpoint, with TrainingStopped.

        Raises:
            DataError: no examples, or none that fit.
            StateError: the folder holds another training, or one goes on in it.
            TrainingStopped: `stop` said so. The same call goes on from there.
            TrainingError: the training failed; says what was kept and what to change.
        """
