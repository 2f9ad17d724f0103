"""Vectors and passages in a folder: read where they lie, written whole or not at all, and a build that can go on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneful.errors import StateError, UsageError
from tuneful.progress import progress_bar
from tuneful.spec.passage import Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Counts = NDArray[np.int32]

FORMAT = 1
_ABOUT, _PLAN, _VECTORS, _COUNTS, _PASSAGES = "index.json", "plan.json", "vectors.f32", "counts.i32", "passages.sqlite"

#: Texts that are embedded, and kept, together.
BATCH = 1000


class StoredPassages(Sequence[Passage]):
    """The passages of a folder, each read when it is asked for."""

    def __init__(self, path: Path, count: int) -> None:
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        weakref.finalize(self, self._db.close)
        self._lock = threading.Lock()
        self._count = count

    def __getitem__(self, row: Any) -> Any:
        with self._lock:
            found = self._db.execute("SELECT text, id, title FROM passage WHERE n = ?", (int(row),)).fetchone()
        if found is None:
            raise IndexError(f"there is no passage {row}")
        text, id_, title = found
        return Passage(text, id=id_, title=title)

    def __len__(self) -> int:
        return self._count


def embedded(
    texts: Sequence[str], embed: Callable[[list[str]], list[Floats]], *, folder: Path | None, title: str, progress: bool
) -> tuple[Floats, Counts]:
    """Return the vectors of all texts, one after another, and how many each has.

    Args:
        texts: what to embed.
        embed: returns for each of some texts the array of its vectors.
        folder: where each batch is kept as soon as it is there, so that a build that was killed goes on; None: memory.
        title: what stands before the progress bar.
        progress: whether a bar shows.
    """
    import numpy as np  # an extra, looked for when the index is made

    def batches(start: int) -> Iterator[tuple[Floats, Counts]]:
        width = _width(folder) if folder is not None else None
        with progress_bar(len(texts), title, display=progress) as bar:
            bar.advance(items=start)
            for begin in range(start, len(texts), BATCH):
                found = embed(list(texts[begin : begin + BATCH]))
                widths = sorted({f.shape[1] for f in found} | ({width} if width else set()))
                if len(widths) > 1 or not widths[0]:
                    raise UsageError(f"the embedder gave vectors of these lengths: {', '.join(map(str, widths))}.")
                if width is None and folder is not None:
                    _note(folder, width=widths[0])
                width = widths[0]
                yield np.concatenate(found), np.array([len(f) for f in found], np.int32)
                bar.advance(items=len(found))

    if folder is None:
        parts = list(batches(0))
        vectors, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        return vectors, counts
    done = _kept(folder, len(texts))
    with (folder / _VECTORS).open("ab") as vector_file, (folder / _COUNTS).open("ab") as count_file:
        for vectors, counts in batches(done):
            vectors.tofile(vector_file)
            vector_file.flush()  # before the counts, which say how much of it is whole
            counts.tofile(count_file)
            count_file.flush()
    return _mapped(folder)


def _kept(folder: Path, count: int) -> int:
    """Return how many texts a build that was ended has embedded, and cut off what is there in part."""
    import numpy as np  # as above

    vectors, counts = folder / _VECTORS, folder / _COUNTS
    for file in (vectors, counts):
        file.touch()
    done = np.fromfile(counts, np.int32)[:count]
    sizes = vectors.stat().st_size
    width = _width(folder)
    if not len(done) or width is None or int(done.sum(dtype=np.int64)) * width * 4 > sizes:
        vectors.write_bytes(b"")
        counts.write_bytes(b"")
        return 0
    os.truncate(vectors, int(done.sum(dtype=np.int64)) * width * 4)
    os.truncate(counts, len(done) * 4)
    return len(done)


def _width(folder: Path) -> int | None:
    return _json(folder / _PLAN).get("width")


def _note(folder: Path, **more: Any) -> None:
    (folder / _PLAN).write_text(json.dumps({**_json(folder / _PLAN), **more}), encoding="utf-8")


def begun(path: Path, plan: dict[str, Any], texts: Iterable[str]) -> Path:
    """Return the folder in which an index for `path` is built: that of an earlier build of the same, if it was ended.

    Raises:
        UsageError: `path` is there, and is no index.
    """
    if path.exists() and not (path / _ABOUT).is_file():
        raise UsageError(f"{str(path)!r} is there and is no index; it is left as it is. Choose another path.")
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d\n" % len(data) + data)
    plan = {"format": FORMAT, **plan, "texts": digest.hexdigest()}
    folder = path.with_name(f".{path.name}.partial")
    if {k: v for k, v in _json(folder / _PLAN).items() if k != "width"} != plan:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        _note(folder, **plan)
    return folder


def write_arrays(folder: Path, vectors: Floats, counts: Counts) -> None:
    """Write vectors that are in memory, or in another folder."""
    vectors.tofile(folder / _VECTORS)
    counts.tofile(folder / _COUNTS)


def finished(folder: Path, path: Path, about: dict[str, Any], passages: Iterable[Passage]) -> None:
    """Write the rest of an index, and put its folder in the place of `path`."""
    (folder / _PASSAGES).unlink(missing_ok=True)
    with closing(sqlite3.connect(folder / _PASSAGES)) as db:
        db.execute("CREATE TABLE passage (n INTEGER PRIMARY KEY, id, title TEXT, text TEXT)")
        rows = ((n, p.id, p.title, p.text) for n, p in enumerate(passages))
        db.executemany("INSERT INTO passage VALUES (?, ?, ?, ?)", rows)
        db.commit()
    (folder / _PLAN).unlink(missing_ok=True)
    (folder / _ABOUT).write_text(json.dumps({"format": FORMAT, **about}, indent=2) + "\n", encoding="utf-8")
    put_in_place(folder, path)


def put_in_place(folder: Path, path: Path) -> None:
    """Make a finished folder the one at `path`; one that is there goes once the new one is in its place."""
    old = path.with_name(f".{path.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if path.exists():
        path.rename(old)
    folder.rename(path)
    if old.exists():
        shutil.rmtree(old)


def opened(path: Path, kind: str) -> tuple[dict[str, Any], Floats, Counts, StoredPassages]:
    """Return what a folder holds: what it says of itself, vectors and counts (left on disk), passages.

    Raises:
        StateError: there is no index, it is of another kind or version, or it is damaged.
    """
    about = _json(path / _ABOUT)
    if about.get("format") != FORMAT or about.get("kind") != kind:
        what = f"a {about.get('kind')} index of format {about.get('format')}" if about else "no index"
        raise StateError(f"{str(path)!r} is {what}; expected a {kind} index of format {FORMAT}. Build it anew.")
    try:
        vectors, counts = _mapped(path, about["width"])
        passages = StoredPassages(path / _PASSAGES, about["passages"])
        whole = len(counts) == len(passages) and int(counts.sum(dtype="int64")) == len(vectors)
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        raise StateError(f"the index {str(path)!r} is damaged: {error}. Build it anew.") from error
    if not whole:
        raise StateError(f"the index {str(path)!r} is damaged: its files do not fit one another. Build it anew.")
    return about, vectors, counts, passages


def _mapped(folder: Path, width: int | None = None) -> tuple[Floats, Counts]:
    import numpy as np  # as above

    counts = np.fromfile(folder / _COUNTS, np.int32)
    vectors = np.memmap(folder / _VECTORS, np.float32, "r").reshape(-1, width or _width(folder) or 1)
    return vectors, counts


def _json(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}
