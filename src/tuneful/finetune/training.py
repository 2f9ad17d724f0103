"""One training, step by step: it can be stopped or killed at any step and goes on to the same weights.

What a step does depends on the weights, on the optimizer's memory, on the number of the step and on the seed, and on
nothing else: the order of the examples and the learning rate are functions of the step, and chance (dropout) is seeded
anew at each. So the checkpoint holds the weights, the optimizer's memory and the number, and the curve after a kill is
the one that would have been, to the last digit where the arithmetic is reproducible (on a CPU with as many threads).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneful.errors import TrainingError, TrainingStopped
from tuneful.finetune import checkpoint
from tuneful.finetune.encoding import EncodedSet
from tuneful.finetune.learning_order import LearningOrder
from tuneful.finetune.objective import Objective
from tuneful.finetune.processes import Processes
from tuneful.finetune.tuned_model import HistoryPoint

_CHECKPOINT = "checkpoint.safetensors"

#: Share of the time that writing checkpoints may take; those of large models come later than asked for.
_MOST_WRITING = 0.05


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a training proceeds.

    Args:
        learning_rate: at its highest.
        warmup: share of the steps in which it rises from 0; from there it falls to 0 at the last step, in a line.
        weight_decay: of AdamW.
        max_grad_norm: longer gradients are cut to this length.
        measured_every: steps between two measurements of the held-out loss.
        patience: measurements without a new best loss after which it ends, or None.
        checkpoint_every_s: seconds between two checkpoints.
        seed: of chance within the steps.
    """

    learning_rate: float
    warmup: float
    weight_decay: float
    max_grad_norm: float
    measured_every: int
    patience: int | None
    checkpoint_every_s: float
    seed: int

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of step `step` (from 0) of so many."""
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        return self.learning_rate * (steps - step) / max(1, steps - rising)


@dataclass(slots=True)
class Standing:
    """How far a training is: what a checkpoint holds beside the tensors."""

    step: int = 0
    history: list[HistoryPoint] = field(default_factory=list)
    best_step: int | None = None
    best_loss: float = math.inf
    seconds: float = 0.0
    measured_since_best: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "step": self.step,
            "history": [p.to_json() for p in self.history],
            "best_step": self.best_step,
            "best_loss": None if self.best_step is None else self.best_loss,
            "seconds": self.seconds,
            "measured_since_best": self.measured_since_best,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Standing:
        """Return what `to_json` gave."""
        best = body["best_loss"]
        changed = {
            "history": [HistoryPoint(**p) for p in body["history"]],
            "best_loss": math.inf if best is None else best,
        }
        return cls(**{**body, **changed})


class Training:
    """A model on its way from one set of weights to another.

    Args:
        model: of transformers, on its device; its parameters that require gradients are trained.
        objective: what is made smaller.
        examples, held_out: what it learns from, and what its loss is measured on.
        order: which examples each step learns from.
        schedule: the rest.
        folder: where checkpoints go.
        processes: who trains it together.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        examples: EncodedSet,
        held_out: EncodedSet,
        *,
        order: LearningOrder,
        schedule: Schedule,
        folder: Path,
        processes: Processes,
    ) -> None:
        import torch

        self._processes = processes
        self._model, self._objective = model, objective
        self._examples, self._held_out = examples.examples, held_out.examples
        self._order, self._schedule, self._folder = order, schedule, folder
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(self._weights.values(), weight_decay=schedule.weight_decay)
        self._written_at = time.monotonic()
        self._writing_s = 0.0
        self.standing = Standing()

    @property
    def steps(self) -> int:
        """Steps of the whole training, unless it ends early."""
        return self._order.steps

    @property
    def ended_early(self) -> bool:
        """Whether the held-out loss has not fallen for too long."""
        patience = self._schedule.patience
        return patience is not None and self.standing.measured_since_best >= patience

    def run(self, told: Callable[[HistoryPoint], None], stop: Callable[[], bool]) -> None:
        """Take all steps that are left, and leave the model with the weights that were best on the held-out set."""
        standing = self.standing
        if self._held_out and not standing.history:
            started = time.monotonic()
            self._note(HistoryPoint(0, held_out_loss=self._measured()), started, told)
        while standing.step < self.steps and not self.ended_early:
            if self._processes.agree(stop()):
                self._keep()
                raise TrainingStopped(
                    f"the training was stopped after step {standing.step:,} of {self.steps:,}. The same call goes on "
                    f"from its checkpoint in {str(self._folder)!r}.",
                    folder=str(self._folder),
                )
            started = time.monotonic()
            loss, tokens = self._step(standing.step)
            standing.step += 1
            due = standing.step % self._schedule.measured_every == 0 or standing.step == self.steps
            measured = self._measured() if self._held_out and due else None
            self._note(HistoryPoint(standing.step, loss, measured, tokens=tokens), started, told)
            if self._is_time():
                self._keep()
        self._processes.wait()  # for the best weights to be written
        if standing.best_step is not None:
            self._take_over(checkpoint.read(self._best(standing.best_step))[0])

    def resume(self) -> bool:
        """Go back to the checkpoint in the folder. Returns whether there was one."""
        import torch

        file = self._folder / _CHECKPOINT
        if not file.is_file():
            return False
        tensors, facts = checkpoint.read(file)
        self.standing = Standing.from_json(facts)
        self._take_over({n.removeprefix("weight/"): t for n, t in tensors.items() if n.startswith("weight/")})
        for name, weight in self._weights.items() if self.standing.step else ():  # it remembers nothing before a step
            self._optimizer.state[weight] = {
                "step": torch.tensor(float(self.standing.step)),
                "exp_avg": tensors[f"mean/{name}"].to(weight.device),
                "exp_avg_sq": tensors[f"square/{name}"].to(weight.device),
            }
        return True

    def facts(self) -> dict[str, Any]:
        """Return what there is to say of the result beside its history."""
        standing = self.standing
        return {
            "steps": standing.step,
            "kept_step": standing.step if standing.best_step is None else standing.best_step,
            "ended_early": standing.step < self.steps,
            "trained_weights": sum(w.numel() for w in self._weights.values()),
            "device": str(self._model.device),
        }

    def clear(self) -> None:
        """Delete the checkpoints: the result is written."""
        for file in (*self._folder.glob("best-*.safetensors"), self._folder / _CHECKPOINT):
            file.unlink(missing_ok=True)

    # --- one step ---

    def _step(self, step: int) -> tuple[float, int]:
        """Learn from one batch. Returns the mean loss of its answers' tokens before that, and all its tokens."""
        import torch

        torch.manual_seed(self._schedule.seed * 1_000_003 + step)
        self._model.train()
        batch = [self._examples[i] for i in self._order.batch(step)]
        written = sum(len(e.answer) for e in batch)
        total = 0.0
        for part in self._objective.parts(self._processes.share(batch)):
            loss = self._objective.loss(part)
            (loss / written).backward()
            total += loss.item()
        mean = self._processes.sum(total) / written
        self._processes.sum_gradients(self._weights.values())
        length = torch.nn.utils.clip_grad_norm_(self._weights.values(), self._schedule.max_grad_norm).item()
        if not math.isfinite(mean + length):
            raise TrainingError(
                f"the training has diverged: at step {step + 1:,} its loss is {mean:g}, and its gradient {length:g} "
                f"long. Lower `learning_rate` ({self._schedule.learning_rate:g}) or train in float32, in a new folder.",
                folder=str(self._folder),
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.rate(step, self.steps)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return mean, sum(map(len, batch))

    def _measured(self) -> float:
        """Return the mean loss of the held-out answers' tokens."""
        import torch

        self._model.eval()
        mine = self._processes.share(self._held_out)
        with torch.inference_mode():
            total = sum(self._objective.loss(part).item() for part in self._objective.parts(mine))
        return self._processes.sum(total) / sum(len(e.answer) for e in self._held_out)

    def _note(self, point: HistoryPoint, started: float, told: Callable[[HistoryPoint], None]) -> None:
        standing = self.standing
        standing.seconds += time.monotonic() - started
        point = HistoryPoint(point.step, point.loss, point.held_out_loss, round(standing.seconds, 3), point.tokens)
        standing.history.append(point)
        if point.held_out_loss is not None:
            if point.held_out_loss < standing.best_loss:
                if self._processes.first:
                    checkpoint.write(self._best(point.step), self._weights, {})
                standing.best_step, standing.best_loss = point.step, point.held_out_loss
                standing.measured_since_best = 0
            else:
                standing.measured_since_best += 1
        if self._processes.first:
            told(point)

    # --- checkpoints ---

    def _best(self, step: int) -> Path:
        return self._folder / f"best-{step}.safetensors"

    def _is_time(self) -> bool:
        pause = max(self._schedule.checkpoint_every_s, self._writing_s / _MOST_WRITING)
        return time.monotonic() - self._written_at >= pause

    def _keep(self) -> None:
        """Write a checkpoint, and then drop the best weights of which it does not speak."""
        if not self._processes.first:
            return
        started = time.monotonic()
        state = self._optimizer.state
        tensors = {f"weight/{name}": weight for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            if weight in state:
                tensors[f"mean/{name}"] = state[weight]["exp_avg"]
                tensors[f"square/{name}"] = state[weight]["exp_avg_sq"]
        checkpoint.write(self._folder / _CHECKPOINT, tensors, self.standing.to_json())
        for file in self._folder.glob("best-*.safetensors"):
            if file != self._best(self.standing.best_step or 0):
                file.unlink()
        self._written_at = time.monotonic()
        self._writing_s = self._written_at - started

    def _take_over(self, tensors: Mapping[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(tensors[name])
