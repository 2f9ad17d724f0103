"""Ensemble: several programs as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tuneful.errors import UsageError
from tuneful.modules.ensemble import EnsembledProgram
from tuneful.optimize.arguments import checked
from tuneful.program.module import Module


class Ensemble:
    """Make one program of several, which asks all of them and votes.

    >>> from tuneful.program.predict import Predict
    >>> from tuneful.testing import DummyLM
    >>> members = [Predict("question -> answer").using(lm=DummyLM([{"answer": a}])) for a in ("4", "5", "4")]
    >>> Ensemble().compile(members)(question="2+2?").answer
    '4'

    Use it over the best candidates of a compile: `[c.program for c in compiled.report.top(3)]`. What it gives is a
    program like any other: it is saved, evaluated and compiled, and taught from as the `teacher` of its members' own
    program, which so becomes about as good at a fraction of the calls.

    Args:
        reduce_fn: list of results -> result, plain or async; by default `tf.majority`.
        size: members to ask; by default all. Which ones, seed and inputs decide: the same for the same inputs.
        seed: where that chance comes from.

    Cost: no model call; each run of the ensemble is a run of each member that is asked.

    Source: Khattab et al. (2023), section 4, with DSPy's arguments. Deviations: by default the members vote, where
    DSPy returns the list of their results; it is always deterministic.
    """

    @checked
    def __init__(
        self, *, reduce_fn: Callable[[list[Any]], Any] | None = None, size: int | None = None, seed: int = 0
    ) -> None:
        self.reduce_fn = reduce_fn
        self.size = size
        self.seed = seed

    def compile(self, programs: Sequence[Module]) -> EnsembledProgram:
        """Return the ensemble of copies of some programs. Raises UsageError for what are none, or fewer than `size`."""
        if isinstance(programs, Module) or not isinstance(programs, Iterable):
            raise UsageError(f"an ensemble needs a list of programs, got {programs!r:.80}.")
        members = [p.deepcopy() if isinstance(p, Module) else p for p in programs]
        return EnsembledProgram(members, self.reduce_fn, self.size, self.seed)
