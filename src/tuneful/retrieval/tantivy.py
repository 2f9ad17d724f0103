"""TantivyBM25: ranked word search for large corpora, through the search engine tantivy, in a folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tuneful.errors import DataError, MissingExtraError, StateError, UsageError
from tuneful.retrieval.corpus import checked_query, hash_of_corpus, shown_passages
from tuneful.retrieval.vector_folder import put_in_place
from tuneful.spec.passage import Passage

if TYPE_CHECKING:
    import tantivy

#: What a folder says that it holds, and the version of its layout.
_KIND, _FORMAT, _ABOUT = "tantivy", 1, "index.json"
#: Memory that a build may fill before it writes, in bytes, and the most threads that it takes.
_HEAP, _THREADS = 128_000_000, 4
#: Hits that are looked at beyond k, among which equal ones are put in order.
_BEYOND = 16


class TantivyBM25:
    """A retriever by words like `BM25`, for corpora of many hundred thousand passages: any `(query, k) -> passages`.

    >>> find = TantivyBM25(["Paris is the capital of France.", "The Nile is a river in Africa."])
    >>> find("capital of France", k=1)[0].text
    'Paris is the capital of France.'

    Use it where `BM25` takes too long, in building or in searching; it finds the same for all practical purposes. Where
    an index must be one file, or nothing may be installed, use `BM25`.

    Words are cut, folded and stemmed as in `BM25` (English), and a passage need not hold all of them. Passages without
    any word of the query are not returned, so there may be fewer than k; a k larger than the corpus is no error. Among
    equals, the earlier passage comes first.

    Args:
        corpus: texts, mappings with `text` and perhaps `title` and `id`, or `Passage`s; a generator is read as it is
            needed.
        path: a folder to keep the index in, written whole or not at all; an index that is there is replaced.
            `TantivyBM25.load` opens it. By default a folder that goes with the object.
        title_weight: how many times a word in a title counts.
        progress: whether a bar shows, where a person can see it.

    Raises:
        MissingExtraError: tantivy is not installed.
        DataError: the corpus is empty, or two passages have one id.
        UsageError: `path` is there and is no index.

    Cost: no model call.

    Source: Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond", with k1 = 1.2 and
    b = 0.75. Deviations from `BM25`: an idf that is never below 0, and so common words count, a little; a title is
    searched as if it stood `title_weight` times before the text.
    """

    def __init__(
        self,
        corpus: Iterable[Any],
        path: str | Path | None = None,
        *,
        title_weight: int = 2,
        progress: bool = True,
    ) -> None:
        if isinstance(title_weight, bool) or not isinstance(title_weight, int) or not 0 <= title_weight <= 100:
            raise UsageError(f"`title_weight` is {title_weight!r}; expected a whole number from 0 to 100.")
        _need("An index of tantivy's")
        passages = shown_passages(corpus, "TantivyBM25", progress=progress)
        if path is None:
            self._open(_built(self._temporary(), passages, title_weight))
        else:
            _replace(Path(path), lambda folder: _built(folder, passages, title_weight))
            self._open(Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open an index that was kept in a folder. It is read from there, not into memory.

        Raises:
            MissingExtraError: tantivy is not installed.
            StateError: there is no index, it is of another version, or it is damaged.
        """
        index = cls.__new__(cls)
        index._open(Path(path))
        return index

    def save(self, path: str | Path) -> None:
        """Write the index to a folder, whole or not at all.

        Raises:
            UsageError: `path` is there and is no index.
        """
        _replace(Path(path), lambda folder: shutil.copytree(self._folder, folder, dirs_exist_ok=True))

    #: Whether the folder goes with the object.
    _own = False

    def _temporary(self) -> Path:
        self._own = True
        folder = Path(tempfile.mkdtemp(prefix="tuneful-index-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _open(self, folder: Path) -> None:
        _need(f"The index {str(folder)!r}")
        import tantivy  # an extra, looked for above

        about = _about(folder)
        try:
            index = tantivy.Index.open(str(folder))
            index.register_tokenizer("words", _analyzer())
            index.config_reader("manual")  # nobody changes it, so no thread need watch it
            self._searcher = index.searcher()
        except (ValueError, OSError) as error:
            raise _damaged(folder, error) from error
        if self._searcher.num_docs != about["passages"]:
            raise _damaged(folder, f"it has {self._searcher.num_docs} passages, and should have {about['passages']}")
        self._folder, self._schema, self._words = folder, index.schema, _analyzer()

    def __call__(self, query: str, k: int = 3) -> list[Passage]:
        """Return at most k passages, the best first.

        Raises:
            UsageError: the query is no text, or k is below 1.
            StateError: the index was damaged after it was opened.
        """
        checked_query(query, k)
        from tantivy import Occur, Query  # an extra, looked for when the index was made

        words = dict.fromkeys(self._words.analyze(_sound(query)))
        if not words:
            return []
        terms = [(Occur.Should, Query.term_query(self._schema, "words", word, "freq")) for word in words]
        try:
            return [self._passage(hit).scored(score) for score, hit in self._best(Query.boolean_query(terms), k)]
        except (ValueError, OSError) as error:
            raise _damaged(self._folder, error) from error

    def _best(self, query: tantivy.Query, k: int) -> list[tuple[float, tantivy.DocAddress]]:
        """Return the k best hits; those that score the same in the order of the corpus, which the engine forgets."""
        most = min(k + _BEYOND, len(self))
        hits = self._searcher.search(query, most, count=False).hits
        while most < len(self) and len(hits) == most and hits[-1][0] == hits[k - 1][0]:
            most = min(8 * most, len(self))
            hits = self._searcher.search(query, most, count=False).hits
        positions = self._searcher.fast_field_values("position", [hit for _, hit in hits])
        order = sorted(range(len(hits)), key=lambda i: (-hits[i][0], positions[i]))
        return [hits[i] for i in order[:k]]

    def _passage(self, hit: tantivy.DocAddress) -> Passage:
        text, title, id_ = json.loads(bytes(self._searcher.doc(hit)["passage"][0]))
        return Passage(text, id=id_, title=title)

    def __len__(self) -> int:
        return self._searcher.num_docs

    @cached_property
    def _content(self) -> str:
        from tantivy import Query  # as above

        hits = self._searcher.search(Query.all_query(), len(self), count=False).hits
        positions = self._searcher.fast_field_values("position", [hit for _, hit in hits])
        order = sorted(range(len(hits)), key=lambda i: int(positions[i] or 0))
        rows = (json.loads(bytes(self._searcher.doc(hits[i][1])["passage"][0])) for i in order)
        return hash_of_corpus(rows, _about(self._folder)["title_weight"])

    def content_hash(self) -> str:
        """Return a hash of the passages and of how titles count: the identity of the index in journals."""
        return self._content

    def __deepcopy__(self, memo: dict[int, Any]) -> TantivyBM25:
        return self  # an index never changes, so the copies of a program share it

    def __getstate__(self) -> Path | dict[str, bytes]:
        if not self._own:  # another process opens it where it lies
            return self._folder
        return {file.name: file.read_bytes() for file in _files(self._folder)}

    def __setstate__(self, state: Path | dict[str, bytes]) -> None:
        if isinstance(state, Path):
            self._open(state)
            return
        folder = self._temporary()
        for name, data in state.items():
            (folder / name).write_bytes(data)
        self._open(folder)


def _need(what: str) -> None:
    if importlib.util.find_spec("tantivy") is None:
        raise MissingExtraError("tantivy", "tantivy", what)


def _analyzer() -> tantivy.TextAnalyzer:
    """Return what makes words of a text: of letters and digits, without case and accents, stemmed."""
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer  # as above

    words = TextAnalyzerBuilder(Tokenizer.simple())
    return words.filter(Filter.lowercase()).filter(Filter.ascii_fold()).filter(Filter.stemmer("english")).build()


def _built(folder: Path, passages: Iterator[Passage], title_weight: int) -> Path:
    """Build an index in an empty folder, and return the folder. Raises DataError where there is no passage."""
    import tantivy  # as above

    first = next(passages, None)
    if first is None:
        raise DataError("TantivyBM25 needs a corpus of at least one passage, got none.")
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("words", tokenizer_name="words", index_option="freq")
    fields.add_bytes_field("passage", stored=True)
    fields.add_unsigned_field("position", fast=True)
    index = tantivy.Index(fields.build(), path=str(folder))
    index.register_tokenizer("words", _analyzer())
    writer = index.writer(_HEAP, _threads())
    count = 0
    try:
        for count, passage in enumerate(chain([first], passages), 1):
            writer.add_document(_row(passage, count, title_weight))
        writer.commit()
    finally:
        writer.wait_merging_threads()  # they write into the folder, also where the corpus broke off
    sizes = {file.name: file.stat().st_size for file in _files(folder)}
    about = {"format": _FORMAT, "kind": _KIND, "passages": count, "title_weight": title_weight, "files": sizes}
    (folder / _ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def _row(passage: Passage, position: int, title_weight: int) -> tantivy.Document:
    from tantivy import Document  # as above

    row = Document()
    row.add_text("words", "\n".join([*[_sound(passage.title)] * title_weight, _sound(passage.text)]))
    row.add_bytes("passage", json.dumps([passage.text, passage.title, passage.id]).encode())
    row.add_unsigned("position", position)
    return row


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _THREADS)


def _sound(text: str) -> str:
    """Return a text as the engine takes it: a surrogate that stands alone is no character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix != ".lock")


def _about(folder: Path) -> Mapping[str, Any]:
    """Return what a folder says of its index. Raises StateError where it holds none, or not all of it."""
    about: Any = None
    with suppress(OSError, ValueError):
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    if not isinstance(about, dict) or (about.get("kind"), about.get("format")) != (_KIND, _FORMAT):
        raise StateError(
            f"there is no index of this version in {str(folder)!r}. Build it: TantivyBM25(corpus, "
            f"path={str(folder)!r})."
        )
    for name, size in about["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise _damaged(folder, f"the file {name} is not whole")
    return about


def _damaged(folder: Path, why: object) -> StateError:
    return StateError(
        f"the index {str(folder)!r} is damaged: {why}. Build it anew: TantivyBM25(corpus, path={str(folder)!r})."
    )


def _replace(path: Path, write: Any) -> None:
    """Write a new folder and put it in the place of `path`, unless writing fails. Raises UsageError for no index."""
    if path.exists() and not (path / _ABOUT).is_file():
        raise UsageError(f"{str(path)!r} is there and is no index; it is left as it is. Choose another path.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
        put_in_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
