"""LocalTrainer: trains on this machine, with transformers, all weights or a LoRA."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuneful.backends.transformers.chat import ChatTokens
from tuneful.errors import TrainingStopped, UsageError
from tuneful.finetune.alone import alone_in
from tuneful.finetune.base_model import BaseModel, check_installed, find_base
from tuneful.finetune.device import device_of, dtype_of, left_as_found
from tuneful.finetune.encoding import encode
from tuneful.finetune.learning_order import LearningOrder
from tuneful.finetune.lora import LoRA
from tuneful.finetune.memory import check_room, out_of_memory_explained
from tuneful.finetune.numbers import check_count, check_not_negative, check_positive, check_share
from tuneful.finetune.objective import Objective
from tuneful.finetune.processes import Processes, joined
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.training import Schedule, Training
from tuneful.finetune.training_folder import TrainingFolder
from tuneful.finetune.training_set import TrainingSet
from tuneful.finetune.tuned_model import HistoryPoint, TunedModel
from tuneful.progress import progress_bar

#: Seconds between two looks at `stop` of a training that waits for another one.
_TURN_S = 0.2

#: Settings that decide the result; the others decide only how much time and memory it takes.
_DECISIVE = (
    "epochs",
    "learning_rate",
    "batch_size",
    "max_tokens",
    "warmup",
    "weight_decay",
    "max_grad_norm",
    "held_out_per_epoch",
    "patience",
    "dtype",
)


class LocalTrainer(Trainer):
    """Trains on this machine: decoder-only and encoder-decoder models, on a CPU or a GPU, a LoRA or all weights.

    >>> trainer = LocalTrainer(epochs=2, batch_size=4)
    >>> trainer.settings()["lora"]["rank"]
    8

    Only the answers' tokens count in the loss (AdamW, warmup, linear decay). Every step is reproducible from the seed,
    checkpoints are whole, and a training that was killed goes on from the last one to the same result. With held-out
    examples the weights with the lowest held-out loss are kept, the base model's own among them.

    Under `torchrun --nproc-per-node N` the N processes share every batch, each on its own GPU, for the same result.

    A LoRA over a GGUF file (`local/smollm2`) is served by the embedded model; anything else by
    `tf.LM("transformers/FOLDER")`. It is not for a model that a service holds: see `OpenAITrainer`.

    Args:
        lora: True, a `LoRA(...)`, or False for all weights.
        epochs: how often each example is learned; may have a fraction.
        learning_rate: at its highest; None: 5e-4 for a LoRA, 5e-5 for all weights.
        batch_size: examples of a step.
        max_tokens: longest example, prompt and answer; longer ones are left out and counted, never cut.
        tokens_at_once: tokens that are computed together: the smaller, the less memory; the result is the same up to
            rounding.
        warmup: share of the steps in which the learning rate rises, from 0 up to 1.
        weight_decay: of AdamW.
        max_grad_norm: longer gradients are cut to this length.
        held_out_per_epoch: how often in an epoch the held-out loss is measured.
        patience: measurements without a new lowest held-out loss after which the training ends; None: never.
        checkpoint_every_s: seconds between checkpoints; more where they would take over a twentieth of the time.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        dtype: "auto" (bfloat16 on a GPU, float32 on a CPU), "float32" or "bfloat16". What is trained is in float32.
        gradient_checkpointing: compute activations twice to keep fewer: half of the memory for a third more time.
        threads: threads that compute on a CPU. None: cores less one. They wait for one another at every layer, so one
            too many on a busy machine slows a step by a factor of five and more; with `OMP_WAIT_POLICY=PASSIVE` in the
            environment it does not.

    Cost: no model calls. On a CPU about `tokens x trained layers' weights x 4` multiplications for a LoRA, `x 6` for
        all weights.
    """

    travels = True

    def __init__(
        self,
        lora: bool | LoRA = True,
        *,
        epochs: float = 3,
        learning_rate: float | None = None,
        batch_size: int = 8,
        max_tokens: int = 2048,
        tokens_at_once: int = 4096,
        warmup: float = 0.1,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        held_out_per_epoch: int = 2,
        patience: int | None = None,
        checkpoint_every_s: float = 60.0,
        device: str = "auto",
        dtype: str = "auto",
        gradient_checkpointing: bool = False,
        threads: int | None = None,
    ) -> None:
        if not isinstance(lora, (bool, LoRA)):
            raise UsageError(f"`lora` is {lora!r}; expected True, False or LoRA(...).")
        self.lora = LoRA() if lora is True else lora or None
        rate = learning_rate if learning_rate is not None else 5e-4 if self.lora else 5e-5
        for name, value in (("epochs", epochs), ("learning_rate", rate), ("max_grad_norm", max_grad_norm)):
            check_positive(name, value)
        for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens), ("tokens_at_once", tokens_at_once)):
            check_count(name, value)
        check_count("held_out_per_epoch", held_out_per_epoch)
        for name, count in (("patience", patience), ("threads", threads)):
            if count is not None:
                check_count(name, count)
        check_share("warmup", warmup)
        check_not_negative("weight_decay", weight_decay)
        check_not_negative("checkpoint_every_s", checkpoint_every_s)
        if dtype not in ("auto", "float32", "bfloat16"):
            raise UsageError(f"`dtype` is {dtype!r}; expected 'auto', 'float32' or 'bfloat16'.")
        self.epochs, self.learning_rate, self.batch_size = epochs, rate, batch_size
        self.max_tokens, self.tokens_at_once, self.warmup = max_tokens, tokens_at_once, warmup
        self.weight_decay, self.max_grad_norm = weight_decay, max_grad_norm
        self.held_out_per_epoch, self.patience = held_out_per_epoch, patience
        self.checkpoint_every_s, self.device, self.dtype = checkpoint_every_s, device, dtype
        self.gradient_checkpointing, self.threads = gradient_checkpointing, threads

    def settings(self) -> dict[str, Any]:
        """Return what decides the result; what decides only time and memory is not part of it."""
        lora = None if self.lora is None else asdict(self.lora)
        return {"trainer": "local", "lora": lora, **{name: getattr(self, name) for name in _DECISIVE}}

    def check(self, base_model: str) -> None:
        """Raise MissingExtraError, UsageError or NotConfiguredError where this base cannot be trained so."""
        check_installed()
        base = find_base(base_model)
        base.config()
        device_of(self.device)
        if self.lora is not None:
            self.lora.check(base)

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
        """Train; see `Trainer.train`."""
        dataset.checked()
        self.check(base_model)
        device = device_of(self.device)
        task = _Task(dataset, held_out or TrainingSet(), find_base(base_model), TrainingFolder(folder), device, seed)
        with joined(on_gpu=device.startswith("cuda")) as processes, self._held(task, processes):
            if processes.first:
                task.folder.claim(self._identity(task), task.dataset, task.held_out)
            processes.wait()
            if task.folder.finished() is None:
                with (
                    _alone(stop or _never, task.folder.path),
                    out_of_memory_explained(task.folder.path),
                    left_as_found(device, self.threads),
                ):
                    display = display_progress and processes.first
                    self._train(task, processes, progress or _nobody, stop or _never, display=display)
            processes.wait()
        tuned = task.folder.finished()
        assert tuned is not None
        return tuned

    def _held(self, task: _Task, processes: Processes) -> AbstractContextManager[Any]:
        return alone_in(task.folder.path) if processes.first else nullcontext()

    def _identity(self, task: _Task) -> dict[str, Any]:
        return {
            "base model": task.base.name,
            "training set": task.dataset.content_hash(),
            "held-out set": task.held_out.content_hash(),
            "settings": self.settings(),
            "seed": task.seed,
        }

    def _train(
        self,
        task: _Task,
        processes: Processes,
        progress: Callable[[HistoryPoint], None],
        stop: Callable[[], bool],
        *,
        display: bool,
    ) -> None:
        import torch

        dtype = dtype_of(self.dtype, task.device) if self.lora else torch.float32
        model, tokens = task.base.load(dtype=dtype, seed=task.seed)
        limit = min(self.max_tokens, getattr(model.config, "max_position_embeddings", None) or self.max_tokens)
        examples = encode(task.dataset, tokens, max_tokens=limit, name="examples")
        held_out = encode(task.held_out, tokens, max_tokens=limit, name="held-out examples")
        self._make_trainable(model, task)
        objective = self._objective(model, tokens, task.device, max(examples.lengths + held_out.lengths))
        order = LearningOrder(examples.lengths, batch_size=self.batch_size, epochs=self.epochs, seed=task.seed)
        schedule, place = self._schedule(order, task.seed), task.folder.path
        training = Training(
            model, objective, examples, held_out, order=order, schedule=schedule, folder=place, processes=processes
        )
        training.resume()
        with progress_bar(training.steps, "Training", display=display) as bar:
            bar.advance(items=training.standing.step)

            def tell(point: HistoryPoint) -> None:
                if point.step:
                    bar.advance(lambda: f"loss {point.loss:.3f}")
                progress(point)

            training.run(tell, stop)
        if processes.first:
            left_out = examples.dropped + held_out.dropped
            task.folder.finish(model, tokens, task.base, self.lora, training, left_out)
            training.clear()

    def _make_trainable(self, model: Any, task: _Task) -> None:
        """Add what is trained, where that is not the model itself, and move it to its device."""
        import torch

        if self.lora is not None:
            torch.manual_seed(task.seed)
            self.lora.add_to(model, task.base)
        if self.gradient_checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", None)  # the older transformers have the other
            (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
        check_room(model, task.device, folder=task.folder.path)
        model.to(task.device)

    def _objective(self, model: Any, tokens: ChatTokens, device: str, longest: int) -> Objective:
        pad = tokens.tokenizer.pad_token_id
        return Objective(
            model,
            pad=tokens.end if pad is None else pad,
            dtype=dtype_of(self.dtype, device),
            tokens_at_once=self.tokens_at_once,
            longest=longest,
        )

    def _schedule(self, order: LearningOrder, seed: int) -> Schedule:
        return Schedule(
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            measured_every=max(1, round(order.steps_per_epoch / self.held_out_per_epoch)),
            patience=self.patience,
            checkpoint_every_s=self.checkpoint_every_s,
            seed=seed,
        )


@dataclass(frozen=True, slots=True)
class _Task:
    """What one call of `train` is about."""

    dataset: TrainingSet
    held_out: TrainingSet
    base: BaseModel
    folder: TrainingFolder
    device: str
    seed: int


#: Chance and threads are the whole process's: two trainings at once would disturb each other's.
_training = threading.Lock()


@contextmanager
def _alone(stop: Callable[[], bool], folder: Path) -> Iterator[None]:
    """Wait until no other training of this process goes on. Raises TrainingStopped where it is to stop before that."""
    while not _training.acquire(timeout=_TURN_S):
        if stop():
            raise TrainingStopped("the training was stopped while it waited for another one.", folder=str(folder))
    try:
        yield
    finally:
        _training.release()


def _nobody(point: HistoryPoint) -> None:
    """Hear nothing."""


def _never() -> bool:
    return False
