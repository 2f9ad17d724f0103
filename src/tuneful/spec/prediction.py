"""Prediction: what a program returns; Completions: the n answers behind it, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from tuneful.errors import DataError
from tuneful.spec.example import Example


class Completions:
    """The n answers to one request, as columns: `completions.answer` is a list, `completions[i]` a prediction.

    >>> several = Completions([{"answer": "a"}, {"answer": "b"}])
    >>> several.answer, several[-1].answer, len(several)
    (['a', 'b'], 'b', 2)
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]], signature: Any = None) -> None:
        if not isinstance(rows, Mapping):
            if any(set(row) != set(rows[0]) for row in rows):
                raise DataError(f"completions need the same fields in every row, got {[list(row) for row in rows]}.")
            rows = {k: [row[k] for row in rows] for k in (rows[0] if rows else ())}
        self._columns = {k: list(v) for k, v in rows.items()}
        self.signature = signature
        if len({len(v) for v in self._columns.values()}) > 1:
            sizes = {k: len(v) for k, v in self._columns.items()}
            raise DataError(f"completions need as many values in every column, got {sizes}.")

    def __getattr__(self, name: str) -> list[Any]:
        if name.startswith("_") or name not in self._columns:
            raise AttributeError(name)
        return self._columns[name]

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self._columns[key]
        if not -len(self) <= key < len(self):
            raise IndexError(f"completion {key} of {len(self)}")
        return Prediction({k: v[key] for k, v in self._columns.items()})

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), []))

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def items(self) -> list[tuple[str, list[Any]]]:
        """Return pairs of field name and column."""
        return list(self._columns.items())

    def __repr__(self) -> str:
        return f"Completions({self._columns!r})"


class Prediction(Example):
    """What a program returns: output fields as attributes, its completions, and the trace of its run.

    Compares, adds and divides by its field `score`, where it has one.
    """

    def __init__(self, base: Mapping[str, Any] | Example | None = None, **fields: Any) -> None:
        super().__init__(base, **fields)
        self.__dict__["_completions"] = None
        self.__dict__["_trace"] = None
        self.__dict__["_logprobs"] = None

    @classmethod
    def from_completions(
        cls, completions: Completions | Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]], signature: Any = None
    ) -> Self:
        """Build a prediction whose fields are those of the first completion."""
        if isinstance(completions, list) and len(completions) == 1:  # the usual case; its columns are made if asked for
            made = cls(completions[0])
            made.__dict__["_completions"] = (completions, signature)
            return made
        several = completions if isinstance(completions, Completions) else Completions(completions, signature)
        if not len(several):
            raise DataError("a prediction needs at least one completion.")
        made = cls({k: v[0] for k, v in several.items()})
        made.__dict__["_completions"] = several
        return made

    @property
    def completions(self) -> Completions:
        """All answers, this prediction's own first."""
        found = self.__dict__["_completions"]
        if isinstance(found, tuple):
            found = self.__dict__["_completions"] = Completions(*found)
        return found if found is not None else Completions([self._store])

    @property
    def trace(self) -> Any:
        """The `Trace` of the run that returned this prediction, or None outside a run."""
        return self.__dict__["_trace"]

    @property
    def logprobs(self) -> tuple[tuple[str, float], ...] | None:
        """Pairs (token, log probability) of the answer behind this prediction, or None.

        They are there for what a predictor returned whose LM was asked for them (`logprobs=True`), and are those of
        all that the model wrote: of the labels too, where an adapter has the answer labelled. Of n completions they
        are those of the first.
        """
        found: tuple[tuple[str, float], ...] | None = self.__dict__["_logprobs"]
        return found

    def get_lm_usage(self) -> dict[str, Any]:
        """Return the tokens and calls of the run by model, as JSON values."""
        return {} if self.trace is None else self.trace.usage_by_model()

    def _number(self) -> float:
        if "score" not in self._store:
            raise DataError("this prediction has no field `score` to compute with.")
        return float(self._store["score"])

    def __float__(self) -> float:
        return self._number()

    def __lt__(self, other: Any) -> bool:
        return self._number() < float(other)

    def __le__(self, other: Any) -> bool:
        return self._number() <= float(other)

    def __gt__(self, other: Any) -> bool:
        return self._number() > float(other)

    def __ge__(self, other: Any) -> bool:
        return self._number() >= float(other)

    def __add__(self, other: Any) -> float:
        return self._number() + float(other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> float:
        return self._number() - float(other)

    def __rsub__(self, other: Any) -> float:
        return float(other) - self._number()

    def __mul__(self, other: Any) -> float:
        return self._number() * float(other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> float:
        return self._number() / float(other)

    def __rtruediv__(self, other: Any) -> float:
        return float(other) / self._number()
