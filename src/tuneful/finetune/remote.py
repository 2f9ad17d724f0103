"""The driver's side of trainings that run in other processes, by the executor in force."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuneful.backends.metered import current_phase, meters
from tuneful.errors import BudgetExceeded
from tuneful.evaluate.sending import E, Sending, engine_in_force
from tuneful.evaluate.worker import Account
from tuneful.finetune import worker
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.training_set import TrainingSet
from tuneful.finetune.tuned_model import RESULT, TunedModel
from tuneful.finetune.watched import train_here
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import settings

_log = logging.getLogger(__name__)


class _TrainingSending(Sending[E]):
    what = "training"
    advice = "Does it need more memory than a worker has? Its checkpoint goes on where it lies."

    def __init__(self, function: Callable[[E], Account], *given: Any) -> None:
        super().__init__(*given)
        self._function = function

    def function(self) -> Callable[[E], Account]:
        """Return what trains."""
        return self._function


async def train(
    trainer: Trainer,
    dataset: TrainingSet,
    base_model: str,
    *,
    folder: Path,
    held_out: TrainingSet | None,
    seed: int,
) -> TunedModel:
    """Train on a worker of the executor in force, or here where there is none; the arguments are `Trainer.train`'s.

    The data travel with the errand. Where the workers share the driver's folder, the training is in it: one whose
    worker was lost goes on from its checkpoint. Otherwise the files of the tuned model come back, and are put there.

    Raises:
        WorkerLostError: worker after worker died with it, or the executor is gone.
        BudgetExceeded: a budget was used up; the training is at a checkpoint.
        What `Trainer.train` raises.
    """
    executor = settings.executor
    if executor is None or not trainer.travels:
        return await train_here(trainer, dataset, base_model, folder=folder, held_out=held_out, seed=seed)
    folder, mark = _marked(folder)
    if (folder / RESULT).is_file():  # of the same data and settings: they are in the folder's name
        return TunedModel.load(folder / RESULT)
    sending: _TrainingSending[worker.TrainingErrand] = _TrainingSending(
        worker.run, await engine_in_force(executor), meters()
    )
    errand = worker.TrainingErrand(
        token=uuid.uuid4().hex,
        phase=current_phase(),
        budget=sending.left(),
        trainer=trainer,
        dataset=dataset,
        base_model=base_model,
        held_out=held_out,
        seed=seed,
        folder=str(folder),
        mark=mark,
    )
    account = await sending.account(errand)
    if sending.lost:
        _log.warning("the training of %s was begun again (%d x), since its worker was lost", base_model, sending.lost)
    if isinstance(account.error, BudgetExceeded):
        sending.left()  # says it in the words of the budget that it is
    if account.error is not None:
        raise account.error
    made: worker.Made = account.result
    return made.tuned if made.files is None else _put(made, folder)


def check(trainer: Trainer, base_models: Sequence[str]) -> None:
    """Raise what is known to be wrong before anything is spent, where the training would be: here, or at a worker.

    To be called in a thread.
    """
    executor = settings.executor
    if executor is None or not trainer.travels:
        for base in base_models:
            trainer.check(base)
        return

    async def asked() -> Account:
        assert executor is not None
        sending: _TrainingSending[worker.CheckErrand] = _TrainingSending(
            worker.check, await engine_in_force(executor), meters()
        )
        return await sending.account(
            worker.CheckErrand(
                token=uuid.uuid4().hex,
                phase=current_phase(),
                budget=sending.left(),
                trainer=trainer,
                base_models=tuple(base_models),
            )
        )

    if (error := portal.run(asked()).error) is not None:
        raise error


def _marked(folder: Path) -> tuple[Path, str]:
    """Put a mark into the folder, by which a worker sees that it is the driver's."""
    found, mark = folder.resolve(), uuid.uuid4().hex
    found.mkdir(parents=True, exist_ok=True)
    (found / worker.MARK).write_text(mark, encoding="utf-8")
    return found, mark


def _put(made: worker.Made, folder: Path) -> TunedModel:
    """Write a worker's files into the driver's folder, and return the tuned model as it is there."""
    there, tuned = made.tuned.folder, made.tuned
    for name, content in (made.files or {}).items():
        if name == RESULT:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    here = replace(
        tuned,
        model=tuned.model.replace(there, str(folder)) if there else tuned.model,
        lora=None if tuned.lora is None else tuned.lora.replace(there, str(folder)),
        folder=str(folder),
    )
    here.save(folder / RESULT)  # the last: whoever is killed before it sends the training again
    return here
