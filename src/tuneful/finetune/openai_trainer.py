"""OpenAITrainer: a service trains the model, by OpenAI's fine-tuning API."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tuneful.backends.metered import current_phase, meters
from tuneful.backends.retried import RETRYABLE
from tuneful.errors import (
    DataError,
    LMError,
    LMInvalidRequestError,
    NotConfiguredError,
    StateError,
    TrainingError,
    TrainingStopped,
    UsageError,
)
from tuneful.finetune.alone import alone_in
from tuneful.finetune.job_record import JobRecord
from tuneful.finetune.openai_jobs import FineTuningAPI, JobState
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.training_set import TrainingSet
from tuneful.finetune.tuned_model import HistoryPoint, TunedModel
from tuneful.program.running.portal import portal
from tuneful.progress import Bar, progress_bar
from tuneful.wire.response import Usage

if TYPE_CHECKING:
    from tuneful.backends.http.backend import HTTPBackend

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: US dollars for a million trained tokens, by base model; the first pattern that fits counts. As known in 2025.
PRICES: tuple[tuple[str, float], ...] = (
    ("gpt-4o-mini*", 3.00),
    ("gpt-4o*", 25.00),
    ("gpt-4.1-mini*", 5.00),
    ("gpt-4.1-nano*", 1.50),
    ("gpt-4.1*", 25.00),
    ("gpt-3.5-turbo*", 8.00),
)

#: What the service demands.
FEWEST_EXAMPLES = 10
_LONGEST_SUFFIX = 64
#: Failures in a row after which an exchange is given up; the waits between them grow.
_PATIENCE = 8
#: Seconds between two looks at `stop`, and for one exchange (files are large).
_SLICE_S, _EXCHANGE_S = 0.2, 600.0


class OpenAITrainer(Trainer):
    """Have a service train the model: files are uploaded, a job is begun, and awaited.

    Use it where the base model is one that the service alone has. What is to be learned leaves the machine. A job is
    begun once: killed at any moment, the same call finds it again and waits on, and one that has finished is returned
    at once. A job whose waiting was stopped goes on at the service, and costs; `cancel` ends it.

    Args:
        epochs, batch_size, learning_rate_multiplier: hyper-parameters; "auto" leaves one to the service.
        suffix: a part of the tuned model's name, of up to 64 characters.
        price_per_million: US dollars for a million trained tokens, where the table has none or a wrong one.
        api_base: address of a server that speaks the API, in place of OpenAI's.
        api_key: key in place of the one in OPENAI_API_KEY.
        poll_s: seconds between two looks at a job at first; it grows to `longest_poll_s`.
        longest_poll_s: the longest wait between two looks.

    Raises:
        UsageError: a setting that makes no sense.

    Cost: no model call. Trained tokens are billed: about those of the examples times the epochs. They are charged to
    every meter in force once the job has ended, with their price where it is known; the tuned model's `notes` hold them
    too. Where a budget in dollars is in force, the price must be known, and no job is begun once it is used up.
    """

    def __init__(
        self,
        *,
        epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate_multiplier: float | Literal["auto"] = "auto",
        suffix: str = "",
        price_per_million: float | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        poll_s: float = 5.0,
        longest_poll_s: float = 60.0,
    ) -> None:
        self._hyperparameters = {
            "n_epochs": _checked("epochs", epochs, int),
            "batch_size": _checked("batch_size", batch_size, int),
            "learning_rate_multiplier": _checked("learning_rate_multiplier", learning_rate_multiplier, (int, float)),
        }
        if not isinstance(suffix, str) or len(suffix) > _LONGEST_SUFFIX:
            raise UsageError(f"`suffix` is {suffix!r:.80}; expected a text of at most {_LONGEST_SUFFIX} characters.")
        for name, value in (("poll_s", poll_s), ("longest_poll_s", longest_poll_s)):
            _checked(name, value, (int, float))
        if price_per_million is not None and not 0 <= price_per_million < math.inf:
            raise UsageError(f"`price_per_million` is {price_per_million!r}; expected US dollars of at least 0.")
        self._suffix = suffix
        self._price = price_per_million
        self._api_base, self._api_key = api_base, api_key
        self._poll_s, self._longest_poll_s = poll_s, max(poll_s, longest_poll_s)

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the result."""
        given = {"suffix": self._suffix, "api_base": self._api_base}
        return {"trainer": "openai", **self._hyperparameters, **{k: v for k, v in given.items() if v}}

    def check(self, base_model: str) -> None:
        """Raise UsageError for a model of another provider, and LMAuthError where there is no key. Nothing is sent."""
        self._backend(base_model).request_headers()

    def _backend(self, base_model: str) -> HTTPBackend:
        from tuneful.backends.http.backend import HTTPBackend  # few programs train by a service

        prefix, _, name = base_model.partition("/")
        if prefix != "openai" or not name:
            raise UsageError(
                f"OpenAITrainer cannot train `{base_model}`: it trains models named `openai/...`, such as "
                "`openai/gpt-4o-mini-2024-07-18`. LocalTrainer trains those whose weights are at hand."
            )
        return HTTPBackend(name, api_base=self._api_base, api_key=self._api_key, timeout_s=_EXCHANGE_S)

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
        """Have the model trained, and block until it is; see `Trainer.train`.

        Raises:
            DataError: fewer examples than the service takes. Nothing was sent.
            StateError: the folder holds another training, or one goes on in it.
            BudgetExceeded, NotConfiguredError: a budget is used up, or needs a price that nobody knows.
            TrainingStopped: `stop` said so. The job goes on; the same call waits for it again.
            TrainingError: the job failed, or was cancelled. The next call begins another.
            LMError: the service cannot be reached, or refuses. The next call goes on from there.
        """
        _check_enough(dataset.checked())
        self.check(base_model)
        identity = {
            "base_model": base_model,
            "data": dataset.content_hash(),
            "held_out": held_out.content_hash() if held_out else None,
            "settings": self.settings(),
            "seed": seed,
        }
        with alone_in(folder):
            job = JobRecord.at(folder, identity)
            if job.tuned is not None:
                return TunedModel.from_json(job.tuned)
            if job.remote is None:
                _check_budget(base_model, self.price_of(base_model))
            job.keep_data({"training": dataset, **({"validation": held_out} if held_out else {})})
            return self._finished(job, progress, stop, display=display_progress)

    def _finished(
        self,
        job: JobRecord,
        progress: Callable[[HistoryPoint], None] | None,
        stop: Callable[[], bool] | None,
        *,
        display: bool,
    ) -> TunedModel:
        base_model, seed = job.identity["base_model"], job.identity["seed"]
        backend = self._backend(base_model)
        with progress_bar(None, f"training {base_model}", display=display) as bar:
            run = _Run(self, FineTuningAPI(backend), job, progress, stop, bar)
            try:
                return run.finished(backend.model, base_model, seed)
            except LMError as error:
                error.add_note(f"The data is in {str(job.folder)!r}; the same call goes on from there.")
                raise
            finally:
                portal.run(backend.aclose())

    def cancel(self, folder: str | Path) -> str:
        """End the job of a folder at the service, and return its status then. The next `train` begins another.

        Raises:
            StateError: the folder holds no job that goes on.
            LMError: the service cannot be reached, or the job is over.
        """
        job = JobRecord.read(Path(folder))
        if job is None or job.remote is None:
            raise StateError(f"{str(folder)!r} holds no job that goes on, so there is nothing to cancel.")
        backend = self._backend(job.identity["base_model"])
        try:
            state = portal.run(FineTuningAPI(backend).cancel(job.remote))
        finally:
            portal.run(backend.aclose())
        job.ended(f"job {job.remote} was cancelled")
        return state.status

    def price_of(self, base_model: str) -> float | None:
        """Return the price of a million trained tokens in US dollars, or None where it is not known."""
        if self._price is not None:
            return self._price
        name = base_model.partition("/")[2]
        name = name.split(":")[1] if name.startswith("ft:") else name
        return next((price for pattern, price in PRICES if fnmatchcase(name, pattern)), None)


@dataclass
class _Run:
    """One call of `train`, from what the folder holds to a tuned model."""

    trainer: OpenAITrainer
    api: FineTuningAPI
    job: JobRecord
    progress: Callable[[HistoryPoint], None] | None
    stop: Callable[[], bool] | None
    bar: Bar
    history: dict[int, HistoryPoint] = field(default_factory=dict)
    silent: bool = False  # the service tells no events

    def finished(self, model: str, base_model: str, seed: int) -> TunedModel:
        """Return what comes of the job, which is begun where it was not."""
        remote = self.job.remote or self._begun_before() or self._begin(model, seed)
        state = self._over(remote)
        if state.status != "succeeded" or not state.model:
            what = {"failed": "failed", "cancelled": "was cancelled"}.get(state.status, "ended without a model")
            told = f"job {remote}, which trained `{base_model}`, {what}{': ' if state.problem else ''}{state.problem}"
            self.job.ended(told)
            raise TrainingError(
                f"{told}. What was uploaded is in {str(self.job.folder)!r}. The next call begins another job.",
                folder=str(self.job.folder),
            )
        tuned = TunedModel(
            f"openai/{state.model}",
            base_model,
            folder=str(self.job.folder),
            digest=state.id,
            history=tuple(self.history[step] for step in sorted(self.history)),
            notes=tuple(self._notes(state, base_model).items()),
        )
        self.job.finished(tuned)
        notes = dict(tuned.notes)
        for meter in meters():
            used = Usage(prompt_tokens=notes.get("trained_tokens", 0), cost_usd=notes.get("cost_usd"))
            meter.settle(base_model, used, current_phase())
        return tuned

    def _notes(self, state: JobState, base_model: str) -> dict[str, Any]:
        notes: dict[str, Any] = {"job": state.id}
        if self.trainer._api_base:
            notes["api_base"] = self.trainer._api_base
        if state.trained_tokens is not None:
            notes["trained_tokens"] = state.trained_tokens
            if (price := self.trainer.price_of(base_model)) is not None:
                notes["cost_usd"] = state.trained_tokens * price / 1e6
        return notes

    # --- beginning, once ---

    def _begun_before(self) -> str | None:
        """Return the job that an earlier call may have begun without hearing of it, or None."""
        if not self.job.begun:
            return None
        found = self._patiently(lambda: self.api.find(self.job.name, self.job.begun or 0.0))
        return None if found is None else self.job.is_at(found.id)

    def _begin(self, model: str, seed: int) -> str:
        for part, name in self.job.data().items():
            if part not in self.job.files:
                self.job.uploaded(part, self._uploaded(name))
        body = {"model": model, "seed": seed, **{f"{part}_file": file for part, file in self.job.files.items()}}
        if self.trainer._suffix:
            body["suffix"] = self.trainer._suffix
        if given := {k: v for k, v in self.trainer._hyperparameters.items() if v != "auto"}:
            body["method"] = {"type": "supervised", "supervised": {"hyperparameters": given}}
        self.job.begins()
        attempts = 0

        async def attempt() -> JobState:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and (found := await self.api.find(self.job.name, self.job.begun or 0.0)) is not None:
                return found  # an exchange that failed had begun it
            try:
                return await self.api.create(self.job.name, body)
            except RETRYABLE:
                raise  # and may have begun it: where all attempts fail, the next call looks for it
            except LMError as error:
                self.job.ended(f"no job was begun: {error}")
                raise

        return self.job.is_at(self._patiently(attempt).id)

    def _uploaded(self, name: str) -> str:
        content = (self.job.folder / name).read_bytes()
        return self._patiently(lambda: self.api.upload(name, content))

    # --- waiting ---

    def _over(self, remote: str) -> JobState:
        """Return the state of a job once nothing more will come of it."""
        wait_s, told = self.trainer._poll_s, ""
        while True:
            try:
                state = self._patiently(lambda: self.api.state(remote))
            except LMInvalidRequestError as error:
                if error.status == 404:
                    self.job.ended(f"the service no longer has job {remote}")
                raise
            if state.status != told:
                _log.info("job %s is %s", remote, state.status)
            told = state.status
            self._hear(state)
            if state.over:
                return state
            self._wait(wait_s)
            wait_s = min(1.5 * wait_s, self.trainer._longest_poll_s)

    def _hear(self, state: JobState) -> None:
        """Take over the points of the history that are new. They decide nothing, so what fails here is only told."""
        if self.silent:
            return
        try:
            points = portal.run(self.api.points(state, self.history))
        except RETRYABLE as error:
            _log.warning("the events of job %s cannot be read now: %s", state.id, error)
            return
        except LMError as error:
            _log.warning("the service tells no events of job %s, so there is no history: %s", state.id, error)
            self.silent = True
            return
        for point in points:
            self.history[point.step] = point
            self.bar.advance(lambda p=point: "" if p.loss is None else f"loss {p.loss:.4f}")  # type: ignore[misc]
            if self.progress is not None:
                self.progress(point)

    def _patiently(self, exchange: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Repeat an exchange that fails for a passing reason: much hangs on it."""
        wait_s, failures = self.trainer._poll_s, 0
        while True:
            self._wait(0.0)
            try:
                return portal.run(exchange())
            except RETRYABLE as error:
                failures += 1
                if failures >= _PATIENCE:
                    raise
                _log.info("the fine-tuning API failed (%s); again in %.1f s", error, wait_s)
                self._wait(max(wait_s, error.retry_after_s or 0.0))
                wait_s = min(2 * wait_s, self.trainer._longest_poll_s)

    def _wait(self, seconds: float) -> None:
        """Wait, in pieces, unless the training is to stop."""
        end = time.monotonic() + seconds
        while True:
            if self.stop is not None and self.stop():
                goes_on = (
                    f"Job {self.job.remote} goes on at the service, and costs: the same call waits for it again, and "
                    "`cancel(folder)` ends it."
                    if self.job.remote
                    else "The same call goes on from there."
                )
                raise TrainingStopped(f"the training was asked to stop. {goes_on}", folder=str(self.job.folder))
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_SLICE_S, left))


def _checked(name: str, value: Any, kind: Any) -> Any:
    if value == "auto" and name not in ("poll_s", "longest_poll_s"):
        return value
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
        expected = "a whole number of at least 1" if kind is int else "a number above 0"
        raise UsageError(f"`{name}` is {value!r}; expected {expected}{', or auto' if 'poll' not in name else ''}.")
    return value


def _check_enough(dataset: TrainingSet) -> None:
    if len(dataset) < FEWEST_EXAMPLES:
        raise DataError(
            f"the service takes no fewer than {FEWEST_EXAMPLES} examples, and there are {len(dataset)}. "
            f"{dataset.summary()} Nothing was sent."
        )


def _check_budget(model: str, price: float | None) -> None:
    """Raise where a budget in force does not let a job begin."""
    for meter in meters():
        meter.check()
        if price is None and meter.budget.usd is not None:
            raise NotConfiguredError(
                f"the budget has a limit in dollars, but the price of training `{model}` is not known. Give it: "
                "OpenAITrainer(price_per_million=...), or limit tokens or seconds. Nothing was sent."
            )
