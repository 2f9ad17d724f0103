"""The adapter protocol, and what all adapters share: demos and the order of a prompt.

An adapter has three pure steps. `plan` decides once for a signature and a backend what the backend will enforce
(a grammar, a JSON schema) and what is only said in words. `render` turns demos and inputs into a request whose every
part that does not depend on the inputs comes first and is the same bytes from call to call, so that a prefix cache
serves it. `parse` reads an answer into the output fields, or says for each field why it cannot.

To write an adapter of your own, subclass `Adapter` and give the five texts that it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar

from tuneful.adapters.media import holds_media, user_turn
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message, assistant, system, user
from tuneful.wire.request import Request, Sampling

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What an adapter has decided for a signature and a backend.

    Args:
        signature: the signature.
        grammar: a GBNF grammar that the backend enforces.
        json_schema: a JSON schema that the backend enforces.
        kept: the stable messages of the last few sets of demos, so that they are rendered once.
    """

    signature: Signature
    grammar: str | None = None
    json_schema: str | None = None
    kept: dict[Any, tuple[Message, ...]] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Parsed:
    """What was read from an answer.

    Args:
        fields: values that fit their types and constraints.
        problems: one line for each output field that could not be read, by field name.
        salvages: names of the tolerances that were needed, such as "json mended".
    """

    fields: dict[str, Any]
    problems: dict[str, str]
    salvages: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every output field has a value."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Section:
    """What the beginning of an answer says of one output field.

    Args:
        name: the field.
        text: what its value is certain to begin with; "" for a field whose value is no text.
        closed: whether all of it is there.
    """

    name: str
    text: str
    closed: bool


class Adapter:
    """Base of the adapters. Stateless: one object serves every predictor and thread."""

    name: ClassVar[str]

    # --- the three steps ---

    def plan(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Decide what the backend enforces. Pure; the result is kept for each (adapter, signature, backend)."""
        return _plan(self, signature, capabilities)

    def render(self, plan: Plan, demos: Sequence[Values], inputs: Values, sampling: Sampling | None = None) -> Request:
        """Return the request: stable parts first, the current inputs last.

        A demo that has every output becomes a turn of the chat, exactly as the live exchange looks. A demo that
        lacks some is shown in the system message (one with media, in a turn before the others), where its gaps cannot
        be imitated.
        """
        key = _demo_key(demos)
        stable = plan.kept.get(key) if key is not None else None
        if stable is None:
            stable = self._stable(plan, demos)
            if key is not None:
                if len(plan.kept) >= _KEPT:
                    plan.kept.clear()
                plan.kept[key] = stable
        asked = user_turn(self.input_text, plan.signature, inputs)
        return Request((*stable, asked), sampling or Sampling(), plan.grammar, plan.json_schema, stable=len(stable))

    def _stable(self, plan: Plan, demos: Sequence[Values]) -> tuple[Message, ...]:
        """Return the messages that do not depend on the current inputs."""
        whole, partial = split_demos(plan.signature, demos)
        told: list[Values] = []
        shown: list[Values] = []  # those with media, which no system message takes
        for demo in partial:
            (shown if holds_media(plan.signature, demo) else told).append(demo)
        messages: list[Message] = [system(self._head(plan, told))]
        if shown:
            messages.append(user_turn(self.partial_text, plan.signature, *shown, head=_PARTIAL))
            messages.append(assistant("Understood."))
        for demo in whole:
            messages.append(user_turn(self.input_text, plan.signature, demo))
            messages.append(assistant(self.output_text(plan.signature, demo)))
        return tuple(messages)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read an answer into output fields. Pure and tolerant; never raises."""
        raise NotImplementedError(f"{type(self).__name__} must define parse()")

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the beginning of an answer, for streaming: the output fields that have begun, in the order of the text.

        A longer beginning must say the same and more: no section goes, no text of one changes but by growing, and a
        section with another after it grows no more. What could still turn out to be something else is held back. Pure
        and tolerant; never raises. By default nothing is said before the answer is whole.
        """
        return []

    def repair(self, request: Request, answer: str, parsed: Parsed) -> Request:
        """Return the request for the one repair turn: the answer as given, and what is wrong with it."""
        wrong = "\n".join(f"- {name}: {problem}" for name, problem in parsed.problems.items())
        turn = f"That answer could not be used:\n{wrong}\nGive the whole answer again in the required form."
        return replace(request, messages=(*request.messages, assistant(answer), user(turn)))

    # --- the texts it is made of ---

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return the plan for a backend; by default nothing is enforced."""
        return Plan(signature)

    def system_text(self, plan: Plan) -> str:
        """Return instructions, fields and the form of the answer."""
        raise NotImplementedError(f"{type(self).__name__} must define system_text()")

    def input_text(self, signature: Signature, values: Values) -> str:
        """Return the user's turn for some inputs."""
        raise NotImplementedError(f"{type(self).__name__} must define input_text()")

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the assistant's turn for some outputs; `parse` of it gives the same values back."""
        raise NotImplementedError(f"{type(self).__name__} must define output_text()")

    def partial_text(self, signature: Signature, values: Values) -> str:
        """Return what a demo with missing outputs shows: its inputs and the outputs that it has."""
        names = [n for n in signature.output_fields if n in values]
        shown = self.output_text(_only(signature, tuple(names)), values)
        return f"{self.input_text(signature, values)}\n{shown}"

    def _head(self, plan: Plan, partial: Sequence[Values]) -> str:
        head = self.system_text(plan)
        if partial:
            cases = "\n\n".join(self.partial_text(plan.signature, d) for d in partial)
            head += f"\n\n{_PARTIAL}\n\n{cases}"
        return head

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


@lru_cache(maxsize=1024)
def _plan(adapter: Adapter, signature: Signature, capabilities: Capabilities) -> Plan:
    return adapter.constrain(signature, capabilities)


_PARTIAL = "Some solved cases, with only a part of the answer shown:"
_KEPT = 16
_PLAIN = (str, int, bool, type(None))


def _demo_key(demos: Sequence[Values]) -> tuple[Any, ...] | None:
    """Return a value that is the same for demos that render the same, or None where only rendering can tell."""
    rows: list[Any] = []
    for demo in demos:
        for name, value in demo.items():
            if type(value) in _PLAIN:
                rows.append((name, type(value), value))
            elif type(value) is list and all(type(v) is str for v in value):
                rows.append((name, list, tuple(value)))
            else:
                return None
        rows.append(None)
    return tuple(rows)


@lru_cache(maxsize=256)
def _only(signature: Signature, outputs: tuple[str, ...]) -> Signature:
    for name in signature.output_fields:
        if name not in outputs:
            signature = signature.delete(name)
    return signature


def split_demos(signature: Signature, demos: Sequence[Values]) -> tuple[list[Values], list[Values]]:
    """Split demos into those with every output and those with some; one with no input or no output is left out."""
    inputs, outputs = signature.input_fields, signature.output_fields
    whole: list[Values] = []
    partial: list[Values] = []
    for demo in demos:
        if not any(n in demo for n in inputs) or not any(n in demo for n in outputs):
            continue
        complete = all(n in demo or f.optional for n, f in outputs.items())
        (whole if complete else partial).append(demo)
    return whole, partial
