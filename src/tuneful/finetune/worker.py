"""The worker's side of a training that runs in another process. Executors find its functions by their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuneful.errors import TrainingError
from tuneful.evaluate.worker import Account, Errand, accounted
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.training_set import TrainingSet
from tuneful.finetune.tuned_model import TunedModel
from tuneful.finetune.watched import train_here

#: Name of a file by which a worker sees that a folder of the driver's is at hand here too.
MARK = ".driver"

#: Bytes of a tuned model that are sent back at the most. More belongs on a path that all can write to.
MOST_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class TrainingErrand(Errand):
    """One training; see `Trainer.train` for what is not told here.

    Args:
        folder: the driver's, absolute.
        mark: what its file `MARK` says.
    """

    trainer: Trainer
    dataset: TrainingSet
    base_model: str
    held_out: TrainingSet | None
    seed: int
    folder: str
    mark: str


@dataclass(frozen=True, kw_only=True)
class CheckErrand(Errand):
    """One look at whether a worker can train some models."""

    trainer: Trainer
    base_models: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """What a worker has made.

    Args:
        tuned: the model, with paths of the worker's.
        files: its files, by their paths in the training's folder; None where the driver has that folder too.
    """

    tuned: TunedModel
    files: dict[str, bytes] | None


def run(errand: TrainingErrand) -> Account:
    """Train, and block until it is done. Failures of any kind are in the account."""
    return accounted(errand, lambda: _made(errand))


def check(errand: CheckErrand) -> Account:
    """Look whether all of it can be trained here. What is wrong is in the account."""
    return accounted(errand, lambda: _checked(errand))


async def _checked(errand: CheckErrand) -> bool:
    for base in errand.base_models:
        errand.trainer.check(base)
    return True


async def _made(errand: TrainingErrand) -> Made:
    """Train in the driver's folder where it is at hand, and otherwise in one of the worker's, from its checkpoint."""
    folder, shared = _folder_of(errand)
    tuned = await train_here(
        errand.trainer, errand.dataset, errand.base_model, folder=folder, held_out=errand.held_out, seed=errand.seed
    )
    return Made(tuned, None if shared else _files(folder))


def _folder_of(errand: TrainingErrand) -> tuple[Path, bool]:
    """Return where to train, and whether that is the driver's own folder."""
    own = Path(errand.folder)
    try:
        if (own / MARK).read_text(encoding="utf-8") == errand.mark:
            return own, True
    except OSError:  # it is not here
        pass
    return Path(".tuneful/trainings").resolve() / own.name, False


def _files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in found)
    if size > MOST_BYTES:
        raise TrainingError(
            f"the tuned model has {size / 1e9:.1f} GB, more than is sent back from a worker. It is there, in "
            f"{str(folder)!r}. Give a `folder` on a path that driver and workers share, or train a LoRA.",
            folder=str(folder),
        )
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
