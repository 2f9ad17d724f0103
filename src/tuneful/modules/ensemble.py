"""EnsembledProgram: several programs on the same inputs, and one result from theirs."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Sequence
from typing import Any

from tuneful.errors import AdapterParseError, UsageError
from tuneful.modules.majority import majority
from tuneful.program.module import Module
from tuneful.program.parameter import Tunable, checked_whole
from tuneful.program.running.concurrency import gather_bounded, in_flight
from tuneful.program.running.portal import portal
from tuneful.program.trace import Trace, note_event, recording_part
from tuneful.spec.example import Example


class EnsembledProgram(Module):
    """Run several programs on the same inputs, at once, and reduce what they return to one result.

    >>> from tuneful.program.predict import Predict
    >>> from tuneful.testing import DummyLM
    >>> members = [Predict("question -> answer").using(lm=DummyLM([{"answer": a}])) for a in ("4", "5", "4")]
    >>> EnsembledProgram(members)(question="2+2?").answer
    '4'

    Use it over programs that fail differently: candidates of a compile, other models, other prompts. Copies of one
    program give the same answer; to sample one program several times, use `SelfConsistency`.

    Args:
        programs: the members. Their parameters are those of this program (`programs[0]...`), and are saved with it. It
            is loaded into one of as many members, with the same `reduce_fn` by name, `size` and `seed`.
        reduce_fn: list of results -> result, plain or async; by default `majority`.
        size: members to ask; by default all. Which ones, seed and inputs decide: the same for the same inputs.
        seed: where that chance comes from.

    Cost: one run of each member that is asked.

    Source: DSPy's ensembles (Khattab et al. (2023), section 4), as a program that can be saved and tuned.
    """

    def __init__(
        self,
        programs: Sequence[Module],
        reduce_fn: Callable[[list[Any]], Any] | None = None,
        size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.programs = list(programs)
        if not self.programs or not all(isinstance(p, Module) for p in self.programs):
            raise UsageError(f"an ensemble needs a list of programs, got {programs!r:.80}.")
        if reduce_fn is not None and not callable(reduce_fn):
            raise UsageError(f"`reduce_fn` must be a function of a list of results, got {reduce_fn!r:.80}.")
        if size is not None and not isinstance(checked_whole("size", size), Tunable) and size > len(self.programs):
            raise UsageError(f"`size` is {size}, and there are {len(self.programs)} programs.")
        self.reduce_fn = reduce_fn
        self.size = size
        self.seed = seed

    async def forward(self, **inputs: Any) -> Any:
        """Run the members and reduce their results.

        A member whose answer cannot be read is left out, and counted in the trace ("member not read"); where none can
        be, the last error is raised. What a member raises besides is raised.

        Where the result is one member's, the steps of the others are marked as superseded: they are no demos.
        """
        asked = self._asked(inputs)

        async def one(program: Module) -> tuple[Any, Trace]:
            with recording_part(program) as trace:
                try:
                    return await program.acall(**inputs), trace
                except AdapterParseError as error:
                    note_event("member not read")
                    return error, trace

        limit = max(in_flight(None, program) for program in asked)
        every: list[tuple[Any, Trace]] = await gather_bounded(asked, one, limit)
        ran = [(result, trace) for result, trace in every if not isinstance(result, AdapterParseError)]
        if not ran:
            raise every[-1][0]
        found = await self._reduced([result for result, _ in ran])
        if any(result is found for result, _ in ran):
            for result, trace in every:
                if result is not found:
                    for step in trace:
                        step.superseded = True
        return found

    def _made_with(self) -> dict[str, Any]:
        reduce_fn = self.reduce_fn or majority
        made = {"reduce_fn": getattr(reduce_fn, "__name__", type(reduce_fn).__name__)}
        tuned = "size" in self.parameters()  # then it is saved by itself
        return made if self.size is None else {**made, **({} if tuned else {"size": self.size}), "seed": self.seed}

    async def _reduced(self, results: list[Any]) -> Any:
        if self.reduce_fn is None:
            return majority(results)
        reduce_fn = self.reduce_fn
        found = await portal.in_thread(lambda: reduce_fn(results))
        return await found if inspect.isawaitable(found) else found

    def _asked(self, inputs: dict[str, Any]) -> list[Module]:
        if self.size is None:
            return self.programs
        rng = random.Random(f"{self.seed}/{Example(inputs).content_hash()}")
        size = min(self.size, len(self.programs))  # a tunable one may be larger
        return [self.programs[i] for i in sorted(rng.sample(range(len(self.programs)), size))]
