"""Submission: batches that are paid for once, whatever breaks in between.

What is to be submitted is written down before anything is sent, under a name that the provider is told as well. So a
process that finds a batch of unknown fate, its own or that of one that was killed, can ask the provider about it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from tuneful.backends.batch.api import BatchAPI, BatchState, Outcome
from tuneful.backends.batch.settings import Batch
from tuneful.backends.retried import RETRYABLE
from tuneful.errors import LMInvalidRequestError, LMServerError, TunefulError, UsageError
from tuneful.store.batches import Batches, BatchRow
from tuneful.wire.response import Response

T = TypeVar("T")

#: Failures in a row of one exchange before it is given up. The waits between them grow as those of polling.
_PATIENCE = 10
#: Seconds that a process may take to submit. A batch that is still not submitted then is anybody's.
_LEASE_S = 3600.0

#: Batches that this process is submitting.
_submitting: set[str] = set()


class Submission:
    """Takes batches to the provider and their answers home, and keeps the file of open batches.

    Args:
        api: the provider.
        table: the file.
        settings: how long to wait.
        log: the logger that is told.
    """

    def __init__(self, api: BatchAPI, table: Batches, settings: Batch, log: logging.Logger) -> None:
        self._api = api
        self._table = table
        self._settings = settings
        self._log = log

    async def claim(self, keys: Sequence[str], forget: set[str]) -> list[BatchRow]:
        """Return the batch of each request, the last of them perhaps new: to be submitted by the caller, or dropped.

        What is in `forget` counts as used up. Raises UsageError if the file cannot be used; so do the other methods.
        """
        new = uuid.uuid4().hex
        _submitting.add(new)
        rows: list[BatchRow] = []
        try:
            rows = await self._in_file(lambda: self._table.claim(new, keys, forget))
        finally:
            if not any(row.new for row in rows):
                _submitting.discard(new)
        return rows

    async def drop(self, name: str) -> None:
        """Give up a batch that the provider does not have."""
        await self._in_file(lambda: self._table.drop(name))
        self.release(name)

    def release(self, name: str) -> None:
        """Note that this process does not submit a batch, or not any more."""
        _submitting.discard(name)

    async def forget(self, keys: set[str]) -> None:
        """Forget requests whose answers were handed over."""
        await self._in_file(lambda: self._table.forget(keys))

    # --- there ---

    async def upload(self, name: str, lines: bytes) -> str:
        """Upload the lines of a batch and return the file's name. On failure or cancellation the batch is dropped."""
        try:
            file = await self._patiently(lambda: self._api.upload(name, lines))
            if await self._in_file(lambda: self._table.get(name)) is None:
                raise LMServerError(f"another process took over batch {name}, which was not submitted for long.")
        except BaseException:  # nothing was begun, so nobody must wait for it
            self._table.drop(name)
            raise
        return file

    async def create(self, name: str, file: str) -> str:
        """Begin a batch, once, although an exchange that failed may have begun it; return the provider's name.

        Must not be cancelled: nobody would know whether it was begun, until somebody asks for the same requests.
        """
        begun, attempts = time.time(), 0

        async def attempt() -> BatchState:
            nonlocal attempts
            attempts += 1
            found = await self._api.find(name, begun) if attempts > 1 else None
            return found or await self._api.create(name, file)

        try:
            state = await self._patiently(attempt)
        except RETRYABLE:
            raise  # the provider may have it all the same: whoever asks next looks for it
        except TunefulError:
            await self.drop(name)
            raise
        await self._in_file(lambda: self._table.submitted(name, state.remote))
        self.release(name)
        return state.remote

    async def find(self, name: str) -> str | None:
        """Find out what became of a batch that somebody was about to submit. None: nothing, and it is dropped."""
        while True:
            row = await self._in_file(lambda: self._table.get(name))
            if row is None or row.remote is not None:
                return None if row is None else row.remote
            if not _is_being_submitted(row):
                break
            self._log.info("batch %s is being submitted by process %d", name, row.pid)
            await asyncio.sleep(self._settings.poll_s)
        state = await self._patiently(lambda: self._api.find(name, row.written))
        if state is None:
            await self.drop(name)
            return None
        await self._in_file(lambda: self._table.submitted(name, state.remote))
        return state.remote

    # --- and back ---

    async def outcomes(self, name: str, remote: str, numbers: Mapping[str, int]) -> dict[str, Outcome]:
        """Wait for the end of a batch and return the outcome of every request in it, by its key.

        Those that failed are forgotten: whoever asks for them again submits them again.

        Args:
            name: our name of it.
            remote: the provider's.
            numbers: requests that must have an outcome, and the number of the line of each.
        """
        begun = time.perf_counter()
        try:
            state = await self._over(remote)
            outcomes = await self._patiently(lambda: self._api.outcomes(state))
        except LMInvalidRequestError as error:
            if error.status != 404:
                raise
            await self.drop(name)
            raise LMServerError(
                f"the provider no longer has batch {remote} or its answers ({error}). Its requests are asked again.",
                model=error.model,
                status=404,
            ) from error
        row = await self._in_file(lambda: self._table.get(name))
        for key, number in {**(row.numbers if row else {}), **numbers}.items():
            if key not in outcomes:
                outcomes[key] = self._api.unanswered(state, number)
        failed = {key for key, outcome in outcomes.items() if not isinstance(outcome, Response)}
        await self.forget(failed)
        self._log.info(
            "batch %s is %s: %d answered, %d failed; waited %.0f s",
            *(remote, state.status, len(outcomes) - len(failed), len(failed), time.perf_counter() - begun),
        )
        return outcomes

    async def _over(self, remote: str) -> BatchState:
        """Return the state of a batch once nothing more will come of it."""
        wait_s, told = self._settings.poll_s, None
        while True:
            state = await self._patiently(lambda: self._api.state(remote))
            if state.over:
                return state
            if state != told:
                self._log.info(
                    "batch %s is %s: %d of %d requests done, %d of them failed",
                    *(remote, state.status, state.completed + state.failed, state.total, state.failed),
                )
            told = state
            await asyncio.sleep(wait_s)
            wait_s = self._settings.longer(wait_s)

    # --- what may fail ---

    async def _patiently(self, exchange: Callable[[], Awaitable[T]]) -> T:
        """Repeat an exchange that fails for a passing reason: many answers hang on it."""
        wait_s, failures = self._settings.poll_s, 0
        while True:
            try:
                return await exchange()
            except RETRYABLE as error:
                failures += 1
                if failures >= _PATIENCE:
                    raise
                self._log.info("the batch API failed (%s); again in %.1f s", error, wait_s)
                await asyncio.sleep(max(wait_s, error.retry_after_s or 0.0))
                wait_s = self._settings.longer(wait_s)

    async def _in_file(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except (sqlite3.Error, OSError) as error:
            raise UsageError(
                f"the file of open batches {str(self._table.path)!r} cannot be used: {error}. Give another path: "
                "tf.LM(..., batch=tf.Batch(path=...))."
            ) from error


def _is_being_submitted(row: BatchRow) -> bool:
    """Whether some process, perhaps this one, is about to submit a batch."""
    if row.pid == os.getpid():
        return row.id in _submitting
    return time.time() - row.written < _LEASE_S and _runs(row.pid)


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there is no harmless signal there: only the lease tells
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and is somebody else's
        return True
    return True
