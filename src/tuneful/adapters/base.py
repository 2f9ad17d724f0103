"""The adapter protocol, and what all adapters share: demos and the order of a prompt.

An adapter has three pure steps. `plan` decides once for a signature and a backend what the backend will enforce
(a grammar, a JSON schema) and what is only said in words. `render` turns demos and inputs into a request whose every
part that does not depend on the inputs comes first and is the same bytes from call to call, so that a prefix cache
serves it. `parse` reads an answer into the output fields, or says for each field why it cannot.

Three further methods are for the few adapters that need more than the text of one answer: `read` sees the whole sample
(tool calls), `finish` may ask a second model, `chain` names the adapters that ask again where this one cannot read.

To write an adapter of your own, give three functions to `Adapter.from_functions`; or subclass `Adapter`, give the five
texts that it is made of and `parse`, and get prefix stability, demos with gaps and media for nothing. Either way
`tuneful.testing.check_adapter` says whether it keeps the laws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Protocol

from tuneful.adapters.dialogue import earlier_turns, history_field
from tuneful.adapters.media import holds_media, user_turn
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message, Tool, assistant, system, user
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What an adapter has decided for a signature and a backend.

    Args:
        signature: the signature.
        grammar: a grammar that the backend enforces, in its notation.
        json_schema: a JSON schema that the backend enforces.
        tools: tools that the model may call.
        tool_choice: see `Request.tool_choice`.
        stop: texts at which an answer that nothing constrains is over, beside the user's own.
        history: the input that holds earlier turns, which `signature` then lacks; "" where there is none.
        kept: the stable messages of the last few sets of demos, so that they are rendered once.
    """

    signature: Signature
    grammar: str | None = None
    json_schema: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    stop: tuple[str, ...] = ()
    history: str = ""
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


class Ask(Protocol):
    """What a predictor gives to `Adapter.finish`: a way to ask a second model."""

    async def __call__(self, lm: Any, signature: Signature, inputs: Values, adapter: Adapter | str, /) -> Parsed:
        """Ask a model for the outputs of a signature, as a predictor of its own would, with its repair turn.

        The responses join those of the predictor's step; budgets see them as any other.

        Raises AdapterParseError where the answer cannot be read, LMError and BudgetExceeded as any call.
        """


class Adapter:
    """Base of the adapters. Stateless: one object serves every predictor and thread.

    Attributes:
        name: what it is called in parameters, saved programs and `render()`.
        asks: whether `finish` asks a second model, so that what its own model writes are no fields yet.
    """

    name: str
    asks: ClassVar[bool] = False

    @staticmethod
    def from_functions(
        *,
        name: str,
        render: Callable[[Signature, list[dict[str, Any]], dict[str, Any]], Sequence[Message | Mapping[str, Any]]],
        parse: Callable[[Signature, str], Mapping[str, Any]],
        plan: Callable[[Signature, Capabilities], Mapping[str, Any] | None] | None = None,
    ) -> Adapter:
        """Return an adapter made of two functions, or of three; see `FunctionAdapter`, which says what they do."""
        from tuneful.adapters.functions import FunctionAdapter  # a subclass

        return FunctionAdapter(name=name, render=render, parse=parse, plan=plan)

    @property
    def chain(self) -> tuple[Adapter, ...]:
        """The adapters that ask in turn, until an answer can be read; only the last one's answer gets a repair turn."""
        return (self,)

    # --- the three steps ---

    def plan(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Decide what the backend enforces. Pure; the result is kept for each (adapter, signature, backend)."""
        return _plan(self, signature, capabilities)

    def render(self, plan: Plan, demos: Sequence[Values], inputs: Values, sampling: Sampling | None = None) -> Request:
        """Return the request: stable parts first, the current inputs last.

        A demo that has every output becomes a turn of the chat, exactly as the live exchange looks. A demo that
        lacks some is shown in the system message (one with media, in a turn before the others), where its gaps cannot
        be imitated. The turns of a `History` stand between the demos and the current inputs, as further exchanges.
        """
        key = _demo_key(demos)
        stable = plan.kept.get(key) if key is not None else None
        if stable is None:
            stable = self._stable(plan, demos)
            if key is not None:
                if len(plan.kept) >= _KEPT:
                    plan.kept.clear()
                plan.kept[key] = stable
        said = self._exchanges(plan, earlier_turns(plan.signature, plan.history, inputs), len(stable) + 1)
        asked = user_turn(self.input_text, plan.signature, inputs)
        return request_of(plan, (*stable, *said, asked), sampling, stable=len(stable))

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
        cases = [c for d in whole for c in (*earlier_turns(plan.signature, plan.history, d), d)]
        return (*messages, *self._exchanges(plan, cases, 1))

    def _exchanges(self, plan: Plan, cases: Sequence[Values], first: int) -> list[Message]:
        """Return the turns of answered cases, numbered from `first`."""
        messages: list[Message] = []
        for number, case in enumerate(cases, first):
            messages.append(user_turn(self.input_text, plan.signature, case))
            messages += self.answer_turns(plan, case, number)
        return messages

    def answer_turns(self, plan: Plan, demo: Values, number: int) -> Sequence[Message]:
        """Return the turns that answer a whole demo, the number-th: as those of the live exchange."""
        return (assistant(self.output_text(plan.signature, demo)),)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read an answer into output fields. Pure and tolerant; never raises."""
        raise NotImplementedError(f"{type(self).__name__} must define parse()")

    def read(self, plan: Plan, choice: Choice) -> Parsed:
        """Read a sample into output fields: by default, its text. Pure and tolerant; never raises."""
        return self.parse(plan, choice.text)

    async def finish(self, plan: Plan, choice: Choice, ask: Ask) -> Parsed:
        """Read a sample, with the help of a second model; called in place of `read` where `asks` is set.

        All that is not pure goes through `ask`, which the predictor provides.
        """
        return self.read(plan, choice)

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the beginning of an answer, for streaming: the output fields that have begun, in the order of the text.

        A longer beginning must say the same and more: no section goes, no text of one changes but by growing, and a
        section with another after it grows no more. What could still turn out to be something else is held back. Pure
        and tolerant; never raises. By default nothing is said before the answer is whole.
        """
        return []

    def repair(self, request: Request, answer: Choice | str, parsed: Parsed) -> Request:
        """Return the request for the one repair turn: the answer as given, and what is wrong with it."""
        text = answer if isinstance(answer, str) else answer.text
        return replace(request, messages=(*request.messages, assistant(text), user(complaint(parsed))))

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
    history = history_field(signature)
    if not history:
        return adapter.constrain(signature, capabilities)
    return replace(adapter.constrain(signature.delete(history), capabilities), history=history)


def request_of(
    plan: Plan, messages: tuple[Message, ...], sampling: Sampling | None, stable: int | None = None
) -> Request:
    """Return the request that a plan makes of messages.

    Args:
        plan: the plan.
        messages: the chat.
        sampling: how to sample.
        stable: how many of the first messages do not depend on the current inputs; by default all but the last.
    """
    sampling = sampling or Sampling()
    if plan.stop:
        sampling = _stopping(sampling, sampling.cache, plan.stop)
    return Request(
        messages,
        sampling,
        plan.grammar,
        plan.json_schema,
        tools=plan.tools,
        tool_choice=plan.tool_choice,
        stable=len(messages) - 1 if stable is None else stable,
    )


@lru_cache(maxsize=256)
def _stopping(sampling: Sampling, cache: bool, stop: tuple[str, ...]) -> Sampling:  # noqa: ARG001 (no part of equality)
    return replace(sampling, stop=tuple(dict.fromkeys((*sampling.stop, *stop)))[:_MOST_STOPS])


def stops(capabilities: Capabilities, *texts: str) -> tuple[str, ...]:
    """Return texts to stop at, or none where the model takes none, or could write them while it thinks aloud."""
    return () if "stop" in capabilities.refuses or capabilities.reasoning else texts


def complaint(parsed: Parsed) -> str:
    """Return what a repair turn tells the model."""
    wrong = "\n".join(f"- {name}: {problem}" for name, problem in parsed.problems.items())
    return f"That answer could not be used:\n{wrong}\nGive the whole answer again in the required form."


_PARTIAL = "Some solved cases, with only a part of the answer shown:"
_KEPT = 16
_MOST_STOPS = 4  # what the services take; the user's own come first
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
