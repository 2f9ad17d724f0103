"""Parallel: several programs, or one on several inputs, at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.errors import InputError
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.running.concurrency import gather_bounded, in_flight
from tuneful.program.running.portal import portal
from tuneful.spec.example import Example

Pair = tuple[Module, Any]


class Parallel:
    """Run pairs of a program and its inputs at once: `parallel([(program, inputs), ...])`.

    >>> from tuneful.program.predict import Predict
    >>> from tuneful.testing import DummyLM
    >>> lm = DummyLM({"France": {"capital": "Paris"}, "Peru": {"capital": "Lima"}})
    >>> capital = Predict("country -> capital").using(lm=lm)
    >>> [p.capital for p in Parallel()([(capital, {"country": "Peru"}), (capital, {"country": "France"})])]
    ['Lima', 'Paris']

    Use it where the programs differ. For one program on many inputs, `program.batch(...)` is shorter. It is no module,
    since nothing of it can be tuned: inside a `forward` the runs are part of the program's trace, and outside each has
    its own.

    Args:
        num_threads: runs in flight; by default the setting, or as many as there are with an LM that batches.
        access_examples: whether an example is given as its inputs; otherwise as the one argument.
        return_failed_examples: return (results, failed inputs, their errors), with None for a failure. By default the
            first failure is raised, and the others are cancelled.

    Raises (when it is called):
        InputError: something that is no pair of a program and its inputs. No model was called.

    Cost: that of the runs.
    """

    def __init__(
        self, num_threads: int | None = None, access_examples: bool = True, return_failed_examples: bool = False
    ) -> None:
        self.num_threads = num_threads if num_threads is None else checked_whole("num_threads", num_threads)
        self.access_examples = access_examples
        self.return_failed_examples = return_failed_examples

    def __call__(self, exec_pairs: Sequence[Pair]) -> Any:
        """Run the pairs and block until all are done. Results come in the order of the pairs."""
        if portal.inside():
            raise portal.refusal(
                "Parallel was called in the blocking way inside `async def forward`. "
                "Write `await parallel.acall(...)` there."
            )
        return portal.run(self.acall(exec_pairs))

    async def acall(self, exec_pairs: Sequence[Pair]) -> Any:
        """Run the pairs, in the current event loop."""
        runs = [self._checked(pair, number) for number, pair in enumerate(exec_pairs)]
        if not runs:
            return ([], [], []) if self.return_failed_examples else []

        async def one(run: tuple[Module, tuple[Any, ...], dict[str, Any]]) -> Any:
            program, args, kwargs = run
            return await program.acall(*args, **kwargs)

        limit = self.num_threads or max(in_flight(None, program) for program, _, _ in runs)
        outcomes = await gather_bounded(runs, one, limit, keep_errors=self.return_failed_examples)
        if not self.return_failed_examples:
            return outcomes
        failed = [(given, o) for (_, given), o in zip(exec_pairs, outcomes, strict=True) if isinstance(o, Exception)]
        results = [None if isinstance(o, Exception) else o for o in outcomes]
        return results, [given for given, _ in failed], [o for _, o in failed]

    def _checked(self, pair: Any, number: int) -> tuple[Module, tuple[Any, ...], dict[str, Any]]:
        """Return program and arguments of a pair."""
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], Module):
            raise InputError(
                f"Parallel takes pairs (program, inputs); number {number} is {pair!r:.80}. No model was called."
            )
        program, given = pair
        if isinstance(given, Example):
            return (program, (), dict(given.inputs().items())) if self.access_examples else (program, (given,), {})
        if isinstance(given, Mapping):
            return program, (), dict(given)
        if isinstance(given, tuple):
            return program, given, {}
        raise InputError(
            f"the inputs of pair {number} must be an Example, a mapping or a tuple of arguments, got {given!r:.80}. "
            "No model was called."
        )
