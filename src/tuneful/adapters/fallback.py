"""FallbackAdapter: an adapter of adapters, each of which asks where the one before it could not be understood."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneful.adapters.base import Adapter, Parsed, Plan, Section, Values
from tuneful.errors import UsageError
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice


class FallbackAdapter(Adapter):
    """Asks by the first adapter; where its answer cannot be read, however tolerantly, asks again by the next one.

    The last one's answer gets the usual repair turn. In its short form it is written `adapter="json>chat"`. For a model
    that fails in one form now and then and not in another; where it fails always, take the other form at once.

    Args:
        adapters: two adapters or more, or names of them.

    Raises:
        UsageError: fewer than two, or one within another.

    Cost: 1 more call for each adapter that could not be read, counted in the trace ("fallback to chat").
    """

    def __init__(self, adapters: Sequence[Adapter | str]) -> None:
        if isinstance(adapters, str) or len(adapters) < 2:
            raise UsageError(f"FallbackAdapter takes a list of two adapters or more, got {adapters!r}.")
        for member in adapters:
            if not isinstance(member, (Adapter, str)) or isinstance(member, FallbackAdapter):
                raise UsageError(f"FallbackAdapter takes adapters and their names, got {member!r:.80}.")
        self.adapters = tuple(adapters)
        self.name = ">".join(a if isinstance(a, str) else a.name for a in self.adapters)

    def resolved(self, resolve: Callable[[Adapter | str], Adapter]) -> FallbackAdapter:
        """Return it with adapters in place of names."""
        return FallbackAdapter([resolve(a) for a in self.adapters])

    @property
    def chain(self) -> tuple[Adapter, ...]:
        """The adapters that ask in turn."""
        for member in self.adapters:
            if isinstance(member, str):
                raise UsageError(
                    f"`{member}` in {self!r} is only a name here. A predictor looks it up by itself; elsewhere, give "
                    "the adapter instead."
                )
        return tuple(a for a in self.adapters if isinstance(a, Adapter))

    @property
    def _first(self) -> Adapter:
        return self.chain[0]

    # --- all else is the first one's ---

    def plan(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return the first one's plan."""
        return self._first.plan(signature, capabilities)

    def render(self, plan: Plan, demos: Sequence[Values], inputs: Values, sampling: Sampling | None = None) -> Request:
        """Return the first one's request."""
        return self._first.render(plan, demos, inputs, sampling)

    def answer_turns(self, plan: Plan, demo: Values, number: int) -> Sequence[Message]:
        """Return the first one's turns."""
        return self._first.answer_turns(plan, demo, number)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read as the first one does."""
        return self._first.parse(plan, text)

    def read(self, plan: Plan, choice: Choice) -> Parsed:
        """Read as the first one does."""
        return self._first.read(plan, choice)

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read as the first one does."""
        return self._first.partial(plan, text)

    def repair(self, request: Request, answer: Choice | str, parsed: Parsed) -> Request:
        """Return the first one's repair turn."""
        return self._first.repair(request, answer, parsed)

    def system_text(self, plan: Plan) -> str:
        """Return the first one's."""
        return self._first.system_text(plan)

    def input_text(self, signature: Signature, values: Values) -> str:
        """Return the first one's."""
        return self._first.input_text(signature, values)

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the first one's."""
        return self._first.output_text(signature, values)

    def __repr__(self) -> str:
        return f"FallbackAdapter({list(self.adapters)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FallbackAdapter) and self.adapters == other.adapters

    def __hash__(self) -> int:
        return hash(self.adapters)
