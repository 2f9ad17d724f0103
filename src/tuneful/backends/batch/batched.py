"""Batched: a backend that gathers requests and asks for all of them at once, later, at half the price.

What is submitted is written down first (`tuneful.store.batches`), so that a run that was stopped waits for the batches
that it has paid for, and submits nothing twice.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import sqlite3
import weakref
from collections.abc import AsyncIterator, Collection, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tuneful.backends.base import Backend, Wrapper
from tuneful.backends.batch.api import BatchAPI, Outcome
from tuneful.backends.batch.settings import Batch
from tuneful.backends.batch.submission import Submission
from tuneful.backends.http.providers import PROVIDERS
from tuneful.backends.metered import meters
from tuneful.errors import BudgetExceeded, LMServerError, TunefulError, UsageError
from tuneful.store.batches import Batches, BatchRow
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response, Usage

if TYPE_CHECKING:
    from tuneful.backends.http.backend import HTTPBackend

_log = logging.getLogger(__name__)

#: Seconds for which an answer is remembered after it was handed over, so that a kill does not lose it on its way into
#: the response cache.
_KEPT_S = 10.0


def batched(source: Backend, model: str, batch: bool | Batch) -> Batched:
    """Return a backend whose requests go out in batches.

    Raises:
        UsageError: the model's provider has no batch API, or `batch` is no setting of one.
    """
    if not isinstance(batch, (bool, Batch)):
        raise UsageError(f"`batch` is True or a tf.Batch(...), got {batch!r:.80}.")
    if source.batch_price is None:
        having = ", ".join(name for name, p in PROVIDERS.items() if p.batch_price is not None)
        raise UsageError(
            f"`{model}` has no batch API that tuneful knows of. These providers have one: {having}. "
            "Leave `batch` out, or use a model of theirs."
        )
    return Batched(source, batch if isinstance(batch, Batch) else Batch())  # type: ignore[arg-type]


class _Line:
    """One request that is waited for."""

    __slots__ = ("batch", "billed", "key", "outcome", "text", "waiting")

    def __init__(self, key: str, text: bytes, outcome: asyncio.Future[Outcome | TunefulError]) -> None:
        self.key, self.text, self.outcome = key, text, outcome
        self.waiting = 0  # how many wait for it
        self.billed = False  # whether one of them got the bill
        self.batch: _Open | None = None


class _Open:
    """One batch that this process waits for."""

    def __init__(self, row: BatchRow) -> None:
        self.id, self.remote, self.new = row.id, row.remote, row.new
        self.numbers = dict(row.numbers)
        self.lines: dict[str, _Line] = {}
        self.watched = 0  # lines that somebody waits for
        self.creating = False  # the provider may have it by now or not: no time to be cancelled
        self.task: asyncio.Task[None]

    def add(self, lines: Collection[_Line]) -> None:
        """Wait for these lines as well."""
        for line in lines:
            line.batch = self
            self.lines[line.key] = line
            self.watched += line.waiting > 0


class Batched(Wrapper):
    """Puts each request into the batch that is being gathered, and waits for its answer.

    Identical requests that are open at the same time are one line of a batch, paid once. When all that wait for a
    batch are cancelled, one that was not submitted is dropped; one that was is left running, since it is paid for, and
    whoever asks for the same next gets its answers.

    Args:
        inner: the backend whose address, key and layout are used.
        settings: how.
    """

    def __init__(self, inner: HTTPBackend, settings: Batch) -> None:
        super().__init__(inner)
        self.settings = settings
        self._api = BatchAPI(inner, settings.completion_window, settings.longest_poll_s)
        self._table = Batches(settings.path)
        self._submission = Submission(self._api, self._table, settings, _log)
        self._handed: set[str] = set()  # answers handed over, still in the table
        weakref.finalize(self, _forget, self._table, self._handed)  # at the end of the process at the latest
        self._known: tuple[Capabilities | None, Capabilities] = None, Capabilities()
        self._begin(None)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._lines: dict[str, _Line] = {}  # every request that is waited for
        self._gathering: dict[str, _Line] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._open: dict[str, _Open] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """Those of the inner backend; and it wants as many requests at once as fit into a batch."""
        inner = self.inner.capabilities
        if self._known[0] is not inner:  # at first, and after a probe
            self._known = inner, replace(inner, in_flight=self.settings.most_requests)
        return self._known[1]

    async def complete(self, request: Request) -> Response:
        """Answer one request, which takes minutes to hours.

        Raises:
            LMError: a branch of it that says what failed.
            BudgetExceeded: the seconds of a budget in force are over. The batch goes on; a later run gets its answers.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # what waited on another loop has ended with it
            self._begin(loop)
        key = request.key(self.endpoint)
        line = self._lines.get(key)
        if line is None:
            line = _Line(key, self._api.line(key, request), loop.create_future())
            self._gather(line)
        limits = [(m.budget.seconds - m.seconds, m.budget) for m in meters() if m.budget.seconds is not None]
        left_s, budget = min(limits, key=lambda limit: limit[0], default=(None, None))
        alarm = asyncio.timeout(left_s)
        try:
            async with alarm:
                return await self._waited(line)
        except TimeoutError as error:
            if not alarm.expired():
                raise  # the batch expired
            raise BudgetExceeded(
                f"{budget} is used up while a batch was waited for. What was submitted goes on at the provider: run "
                "again with more seconds to get its answers.",
                limit="seconds",
            ) from error

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer one request in one piece: a batch cannot be heard while it is written."""
        async for part in Backend.stream(self, request):
            yield part

    async def _waited(self, line: _Line) -> Response:
        line.waiting += 1
        if line.batch is not None and line.waiting == 1:
            line.batch.watched += 1
        try:
            outcome = await asyncio.shield(line.outcome)
        finally:
            line.waiting -= 1
            if not line.waiting and not line.outcome.done():
                self._left(line)
        if not isinstance(outcome, Response):
            raise _twin(outcome) from outcome.__cause__
        if line.billed:
            return replace(outcome, usage=Usage())  # the first one paid for it
        line.billed = True
        return outcome

    def _left(self, line: _Line) -> None:
        """Nobody waits for a line any more."""
        batch = line.batch
        if self._gathering.pop(line.key, None) is not None:
            self._bytes -= len(line.text)
            del self._lines[line.key]
        elif batch is not None:
            batch.watched -= 1
            if not batch.watched and not batch.creating:
                self._close(batch)
                batch.task.cancel()

    # --- gathering ---

    def _gather(self, line: _Line) -> None:
        most = self.settings
        if self._bytes + len(line.text) > most.most_bytes:
            self._send()
        self._lines[line.key] = self._gathering[line.key] = line
        self._bytes += len(line.text)
        if self._timer is not None:
            self._timer.cancel()
        if len(self._gathering) >= most.most_requests:
            self._send()
        else:
            self._timer = asyncio.get_running_loop().call_later(most.gather_s, self._send)

    def _send(self) -> None:
        """Close the batch that is being gathered."""
        lines, self._gathering, self._bytes = list(self._gathering.values()), {}, 0
        if self._timer is not None:
            self._timer.cancel()
        if lines:
            self._start(self._place(lines), lines)

    def _start(self, work: Coroutine[Any, Any, None], lines: Collection[_Line]) -> asyncio.Task[None]:
        """Run something that lines wait for (further ones may join them); if it fails, they fail."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(task, lines))
        return task

    def _ended(self, task: asyncio.Task[None], lines: Collection[_Line]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            return
        if error is not None and not lines:
            _log.warning("%s", error)
        for line in list(lines):
            if self._lines.get(line.key) is line:
                del self._lines[line.key]
            if not line.outcome.done():
                if isinstance(error, TunefulError):
                    line.outcome.set_result(error)
                elif error is not None:
                    line.outcome.set_exception(error)
                else:
                    line.outcome.cancel()

    async def _place(self, lines: Collection[_Line]) -> None:
        """Find the batch of each line, or begin one."""
        by_key = {line.key: line for line in lines}
        again = self._handed.intersection(by_key)
        rows = await self._submission.claim(list(by_key), again)
        self._handed -= again
        for row in rows:
            await self._join(row, [by_key[key] for key in row.numbers])

    async def _join(self, row: BatchRow, lines: Collection[_Line]) -> None:
        """Wait for lines of a batch, unless nobody does any more."""
        batch = self._open.get(row.id)
        if batch is not None:
            batch.numbers.update(row.numbers)
            batch.add(lines)
        elif any(line.waiting for line in lines):
            batch = self._open[row.id] = _Open(row)
            batch.add(lines)
            batch.task = self._start(self._serve(batch), batch.lines.values())
            batch.task.add_done_callback(lambda _: self._submission.release(row.id))
        else:
            for line in lines:
                del self._lines[line.key]
            if row.new:
                await self._submission.drop(row.id)

    # --- one batch, from its submission to its answers ---

    async def _serve(self, batch: _Open) -> None:
        try:
            if batch.new:
                await self._submit(batch)
            elif batch.remote is None:
                batch.remote = await self._submission.find(batch.id)
            if batch.remote is None:
                self._again(batch)
                return
            if not batch.new:
                _log.info("batch %s was submitted before: waiting for %d answers", batch.remote, len(batch.lines))
            if batch.watched:
                self._hand_over(batch, await self._submission.outcomes(batch.id, batch.remote, batch.numbers))
        finally:
            self._close(batch)

    async def _submit(self, batch: _Open) -> None:
        """Upload the lines and begin the batch."""
        file = await self._submission.upload(batch.id, b"".join(line.text for line in batch.lines.values()))
        batch.creating = True
        batch.remote = await self._submission.create(batch.id, file)
        batch.creating = False
        _log.info("batch %s submitted: %d requests to %s", batch.remote, len(batch.numbers), self.endpoint)

    def _again(self, batch: _Open) -> None:
        """Begin again with the lines of a batch that does not exist."""
        self._close(batch)
        self._send()
        for line in batch.lines.values():
            if line.waiting:
                line.batch = None
                self._lines[line.key] = self._gathering[line.key] = line
                self._bytes += len(line.text)
        batch.lines.clear()
        self._send()

    def _hand_over(self, batch: _Open, outcomes: dict[str, Outcome]) -> None:
        self._close(batch)
        handed = set()
        for line in batch.lines.values():
            outcome = outcomes.get(line.key) or LMServerError(f"batch {batch.remote} has no answer for this request.")
            line.outcome.set_result(outcome)
            if line.waiting and isinstance(outcome, Response):
                handed.add(line.key)
        self._handed |= handed
        asyncio.get_running_loop().call_later(_KEPT_S, self._forget, handed)

    def _forget(self, keys: set[str]) -> None:
        """Forget answers that were handed over, and have arrived by now."""
        gone = keys & self._handed
        self._handed -= gone
        self._start(self._submission.forget(gone), ())

    def _close(self, batch: _Open) -> None:
        """Let go of a batch; whoever asks for its requests from now on looks into the file."""
        if self._open.get(batch.id) is batch:
            del self._open[batch.id]
            for line in batch.lines.values():
                if self._lines.get(line.key) is line:
                    del self._lines[line.key]

    # --- the rest ---

    async def aclose(self) -> None:
        """Close the file and the connections."""
        _forget(self._table, self._handed)
        self._table.close()
        await self.inner.aclose()


def _forget(table: Batches, handed: set[str]) -> None:
    """Forget what was handed over, when nothing more will be asked here."""
    if not handed:
        return
    try:
        table.forget(handed)
    except (sqlite3.Error, OSError) as error:
        _log.warning(
            "%s still holds requests that were answered (%s): they may be answered from it again", table.path, error
        )
    handed.clear()


def _twin(error: TunefulError) -> TunefulError:
    """Return a copy: each of many waiters raises one of its own, and may add to it."""
    return copy.copy(error)
