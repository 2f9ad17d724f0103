"""Cache: answers that were paid for once. Memory over an SQLite file; what is in it is JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakSet

from tuneful.backends.rebuilt import Rebuilt
from tuneful.errors import UsageError, nearest
from tuneful.wire.response import Response

if TYPE_CHECKING:
    from tuneful.store.answers import Answers

Mode = Literal["off", "read", "readwrite", "record", "replay"]
MODES: tuple[str, ...] = get_args(Mode)

DEFAULT_PATH = ".tuneful/cache.sqlite"


class Cache(Rebuilt):
    """Answers by request: the same question to the same model costs once.

    >>> cache = Cache(None)
    >>> cache.hits, cache.misses, len(cache)
    (0, 0, 0)

    Args:
        path: the SQLite file, made at the first use and shared safely by any number of processes; None keeps
            everything in memory.
        mode: "readwrite"; "read" answers from the cache and keeps nothing new; "record" asks anew and replaces what
            was kept; "replay" answers from the cache only, and raises `CacheMissError` where it cannot; "off".
        max_bytes: bound on the file; beyond it the oldest answers are dropped, a tenth at a time.
        memory_bytes: bound on the text kept in memory, the least recently used going first.

    What is never kept: errors, truncated and filtered answers. A key covers the whole request, the endpoint and the
    number of the sample; API keys are in none of them.
    """

    def __init__(
        self,
        path: str | Path | None = DEFAULT_PATH,
        *,
        mode: Mode = "readwrite",
        max_bytes: int = 4_000_000_000,
        memory_bytes: int = 32_000_000,
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"there is no cache mode {mode!r}.{nearest(mode, MODES)} Modes: {', '.join(MODES)}.")
        self.mode: Mode = mode
        self._file: Answers | None = None
        if path is not None:
            from tuneful.store.answers import Answers  # loads sqlite3, which a program without a cache never needs

            self._file = Answers(path, max_bytes)
        self._may_fail = str(path) == DEFAULT_PATH  # nobody asked for that file
        self._memory: OrderedDict[str, tuple[Response, int]] = OrderedDict()
        self._memory_bytes = memory_bytes
        self._used = 0
        self._lock = threading.Lock()
        self._writer: _Writer | None = None
        _made.add(self)
        self.hits = 0
        self.misses = 0

    @property
    def path(self) -> Path | None:
        """The file."""
        return self._file.path if self._file is not None else None

    @property
    def answers(self) -> bool:
        """Whether the mode lets the cache answer."""
        return self.mode in ("read", "readwrite", "replay")

    @property
    def keeps(self) -> bool:
        """Whether the mode lets the cache keep new answers."""
        return self.mode in ("readwrite", "record")

    # --- looking up and keeping ---

    def find(self, keys: Sequence[str]) -> list[Response | None]:
        """Return the kept answer for each key (one sample each), or None. Counts hits and misses."""
        found = self.peek(keys)
        hits = sum(f is not None for f in found)
        self.count(hits, len(found) - hits)
        return found

    def peek(self, keys: Sequence[str]) -> list[Response | None]:
        """Do what `find` does, and count nothing."""
        return [self._one(key) for key in keys]

    def count(self, hits: int, misses: int) -> None:
        """Count lookups; negative where a miss turned out to be a hit, since a call in flight answered it."""
        with self._lock:
            self.hits += hits
            self.misses += misses

    def remembered(self, key: str) -> Response | None:
        """Return the answer that memory holds under a key, or None. Counts nothing."""
        with self._lock:
            entry = self._memory.get(key)
            if entry is None:
                return None
            self._memory.move_to_end(key)
            return entry[0]

    def _one(self, key: str) -> Response | None:
        response = self.remembered(key)
        if response is not None:
            return response
        file = self._file
        if file is None:
            return None
        try:
            body = file.get(key)
        except OSError as error:
            self._lost(error)
            return None
        if body is None:
            return None
        response = _response(key, body)
        self._remember(key, response, len(body))
        return response

    async def keep(self, answers: Sequence[tuple[str, Response]]) -> None:
        """Keep answers (one sample each). They are in the file when this returns: a crash loses nothing paid for."""
        rows = []
        for key, response in answers:
            body = _text(response)
            self._remember(key, Response(response.choices, response.usage, response.model, hit=True), len(body))
            rows.append((key, body))
        file = self._file
        if file is None:
            return
        try:
            if asyncio._get_running_loop() is None:  # on a thread that blocks for its answer
                file.put(rows, replace=self.mode == "record")
            else:
                await self._group(file).write(rows)
        except OSError as error:
            self._lost(error)

    def _group(self, file: Answers) -> _Writer:
        replace = self.mode == "record"
        with self._lock:
            if self._writer is None or not self._writer.serves(file, replace=replace):
                self._writer = _Writer(file, replace=replace)
            return self._writer

    def _remember(self, key: str, response: Response, size: int) -> None:
        size += 800  # of objects around the text
        with self._lock:
            old = self._memory.pop(key, None)
            self._used += size - (old[1] if old else 0)
            self._memory[key] = (response, size)
            while self._used > self._memory_bytes and len(self._memory) > 1:
                _, (_, dropped) = self._memory.popitem(last=False)
                self._used -= dropped

    def _lost(self, error: Exception) -> None:
        """Raise for a file that somebody asked for; go on in memory, and say so once, where nobody did."""
        if not self._may_fail:
            raise UsageError(
                f"the cache file {str(self.path)!r} cannot be used: {error}. Give another path, make the folder "
                "writable, or turn the cache off: tf.configure(cache=False)."
            ) from error
        with self._lock:
            said, self._file = self._file is None, None
        if not said:
            sys.stderr.write(
                f"tuneful: answers are cached in memory only, since {DEFAULT_PATH} cannot be used ({error}). "
                "Set another path by tf.configure(cache='PATH'), or cache=False.\n"
            )

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._lost(error)

    # --- the whole of it ---

    def __bool__(self) -> bool:
        return True  # an empty cache is a cache all the same

    def __len__(self) -> int:
        with self._usable():
            if self._file is not None:
                return len(self._file)
        return len(self._memory)

    def _rows(self) -> Iterator[tuple[str, str]]:
        with self._usable():
            if self._file is not None:
                yield from self._file.rows()
                return
        with self._lock:
            kept = [(k, r) for k, (r, _) in self._memory.items()]
        yield from ((k, _text(r)) for k, r in kept)

    def export(self, path: str | Path) -> int:
        """Write every answer to a JSON-lines file, and return how many. A test that replays it needs no network."""
        count = 0
        with Path(path).open("w", encoding="utf-8") as out:
            for key, body in self._rows():
                out.write(f'{{"key": {json.dumps(key)}, "response": {body}}}\n')
                count += 1
        return count

    def load(self, path: str | Path) -> int:
        """Take over the answers of a file that `export` wrote, and return how many. Answers already here stay.

        Raises UsageError for a file that is none; nothing of it is taken then.
        """
        rows = _exported(Path(path))
        with self._usable():
            if self._file is not None:
                self._file.put(rows)
                return len(rows)
        for key, body in rows:
            if key not in self._memory:
                self._remember(key, _response(key, body), len(body))
        return len(rows)

    def clear(self) -> None:
        """Forget every answer, in memory and in the file."""
        with self._lock:
            self._memory.clear()
            self._used = 0
        with self._usable():
            if self._file is not None:
                self._file.clear()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._file is not None:
            self._file.close()

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else repr(str(self.path))
        return f"Cache({where}, mode={self.mode!r}, {self.hits} hits, {self.misses} misses)"


def _text(response: Response) -> str:
    """Return a response as JSON text, which a file in UTF-8 can hold: half of a character pair goes in escaped."""
    body = json.dumps(response.to_json(), ensure_ascii=False)
    if not body.isascii():
        try:
            body.encode()
        except UnicodeEncodeError:
            return json.dumps(response.to_json())
    return body


def _response(key: str, body: str) -> Response:
    try:
        return _checked(json.loads(body))
    except _NO_ANSWER as error:
        raise UsageError(f"the cache holds something that is no answer, under {key}: {error!r}. Clear it.") from error


def _exported(path: Path) -> list[tuple[str, str]]:
    """Return the rows of an exported file."""
    rows: list[tuple[str, str]] = []
    number = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):  # noqa: B007 (the message says where it was)
                entry = json.loads(line)
                rows.append((_key(entry["key"]), _text(_checked(entry["response"]))))
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} cannot be read: {error.strerror}. It is a file that `export` wrote."
        ) from error
    except _NO_ANSWER as error:
        where = f"line {number} of {str(path)!r}" if number else repr(str(path))
        raise UsageError(f"{where} is no exported answer ({error!r}). Nothing was taken from it.") from error
    return rows


#: What reading something that is no answer raises.
_NO_ANSWER = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def _key(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the key {value!r:.80} is no text")
    return value


def _checked(body: Any) -> Response:
    """Return the response in a JSON value that anybody may have written."""
    response = Response.from_json(body, hit=True)
    if not all(isinstance(c.text, str) for c in response.choices):
        raise TypeError("the text of an answer is no text")
    return response


class _Writer:
    """Group commit: rows that come while a commit runs go into the next one together."""

    def __init__(self, file: Answers, *, replace: bool) -> None:
        self._file = file
        self._replace = replace
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[list[tuple[str, str]], asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def serves(self, file: Answers, *, replace: bool) -> bool:
        """Whether it writes to this file in this way, for the running loop."""
        same_loop = self._loop is asyncio._get_running_loop()
        return same_loop and self._file is file and self._replace == replace

    async def write(self, rows: list[tuple[str, str]]) -> None:
        """Return when the rows are in the file."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((rows, done))
        if self._task is None:
            self._task = asyncio.ensure_future(self._drain())
        await done

    async def _drain(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            rows = [row for part, _ in group for row in part]
            error: Exception | None = None
            try:
                await self._loop.run_in_executor(None, lambda rows=rows: self._file.put(rows, replace=self._replace))  # type: ignore[misc]
            except Exception as failed:  # noqa: BLE001 (raised by each of those who wait for this commit)
                error = failed
            for _, done in group:
                if not done.done():
                    if error is None:
                        done.set_result(None)
                    else:
                        done.set_exception(error)
        self._task = None


_made: WeakSet[Cache] = WeakSet()


def _after_fork() -> None:
    for cache in list(_made):
        cache._lock = threading.Lock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
