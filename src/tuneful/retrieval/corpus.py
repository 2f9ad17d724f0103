"""What a corpus may be: texts, mappings and passages, in a list or streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

from tuneful.errors import DataError, UsageError
from tuneful.progress import progress_bar
from tuneful.spec.passage import Passage


def passages_of(corpus: Iterable[Any]) -> Iterator[Passage]:
    """Yield the passages of a corpus, each with an id: its own, or its position where no passage brings one.

    Args:
        corpus: texts, mappings with `text` and perhaps `title` and `id`, or passages; also a generator, which is read
            once and as it is needed.

    Raises:
        DataError: something is no passage, two have one id, or some have an id and others have none.
        UsageError: the corpus is one text, or nothing that can be iterated over.
    """
    if isinstance(corpus, (str, bytes, Mapping)) or not isinstance(corpus, Iterable):
        raise UsageError(f"a corpus is a list or another iterable of passages, got {corpus!r:.80}.")
    seen: set[str | int] = set()
    for position, item in enumerate(corpus):
        passage = Passage.of(item)
        if position and (passage.id is None) == bool(seen):
            raise DataError(
                f"passage {position} has {'no' if seen else 'an'} id, unlike those before it: {passage.text!r:.60}. "
                "Give every passage an id, or none (then the id is the position)."
            )
        if passage.id is None:
            yield Passage(passage.text, id=position, title=passage.title)
            continue
        if passage.id in seen:
            raise DataError(f"two passages have the id {passage.id!r}; the second is {passage.text!r:.60}.")
        seen.add(passage.id)
        yield passage


def shown_passages(corpus: Iterable[Any], title: str, *, progress: bool) -> Iterator[Passage]:
    """Yield the passages of a corpus, and show how far they are: `title` stands before the bar."""
    total = len(corpus) if isinstance(corpus, Sized) else None
    with progress_bar(total, title, display=progress) as bar:
        for passage in passages_of(corpus):
            yield passage
            bar.advance()


def hash_of_corpus(passages: Iterable[tuple[Any, ...]], *more: Any) -> str:
    """Return a hash of passages, each as (text, title, id), and of what else decides what is found among them."""
    digest = hashlib.sha256(ascii(more).encode())
    for passage in passages:
        digest.update(ascii(passage).encode())
    return digest.hexdigest()[:24]


def checked_query(query: Any, k: Any) -> None:
    """Raise UsageError for a query that is no text, or a k that is no number of passages."""
    if not isinstance(query, str):
        raise UsageError(f"a query is a text, got {query!r:.80}.")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise UsageError(f"`k` is {k!r}; it is the number of passages, a whole number of at least 1.")
