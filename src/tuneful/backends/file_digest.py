"""Identity of weights: a hash of the content of their files, so that other weights are another model to every key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

#: A file is read whole up to this size (bytes). Of a larger one as many pieces are read, evenly spread, as this holds:
#: training changes a model's weights everywhere.
_WHOLE = 1 << 29
_PIECE = 1 << 20


def digest_of(paths: Sequence[Path]) -> str:
    """Return a hash of the content of some files: 24 characters. Files that have not changed are not read again."""
    parts = []
    for path in paths:
        facts = path.stat()
        parts.append(_content(path, facts.st_size, facts.st_mtime_ns))
    return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()[:24]


@lru_cache(maxsize=1024)
def _content(path: Path, size: int, _mtime_ns: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    step = _PIECE if size <= _WHOLE else size // (_WHOLE // _PIECE)
    with path.open("rb") as file:
        for at in range(0, size, step):
            file.seek(at)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()[:24]
