"""Asking: one question to a model, from prompt to fields, with fallbacks, a second model and the repair turn."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from tuneful.adapters.base import Adapter, Parsed, Plan, Values
from tuneful.adapters.citing import with_checked_quotes
from tuneful.adapters.mended import mended
from tuneful.adapters.native_tools import with_native_tools
from tuneful.adapters.select import AdapterLike, resolve
from tuneful.adapters.thinking import thoughts_of
from tuneful.errors import AdapterParseError
from tuneful.program.lm import LM, current_lm
from tuneful.program.prompt_room import Room
from tuneful.program.running.runtime import current_rollout, settings
from tuneful.program.trace import Step, note_event
from tuneful.program.watching.streaming import heard, heard_by
from tuneful.program.watching.watched import watched
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Response, written

if TYPE_CHECKING:
    from tuneful.program.predict import Predict

_log = logging.getLogger(__name__)

#: Predictors whose dropped demos were told of.
_warned: WeakSet[Any] = WeakSet()


@dataclass(slots=True)
class Asking:
    """A question, made ready to be asked.

    Args:
        signature: what is asked for.
        inputs: the inputs.
        demos: the demos, most useful last.
        lm, adapter, plan, request: who is asked, and what.
        asker: the predictor that asks, or None for a question of another one's adapter.
        unforced: whether the model should have been made to call a tool, and beside other options cannot be.
    """

    signature: Signature
    inputs: Mapping[str, Any]
    demos: Sequence[Any]
    lm: LM
    adapter: Adapter
    plan: Plan
    request: Request
    asker: Predict[Any] | None = None
    unforced: bool = False

    @classmethod
    def of(cls, predictor: Predict[Any], inputs: Mapping[str, Any]) -> Self:
        """Return what a predictor asks for some inputs."""
        sampling = predictor.sampling
        if rollout_id := current_rollout():
            sampling = replace(sampling, rollout_id=rollout_id)
        likes = settings.adapter if predictor.adapter is None else predictor.adapter
        return cls.made(
            predictor.signature, inputs, predictor.demos, predictor.lm or current_lm(), likes, sampling, predictor
        )

    @classmethod
    def made(
        cls,
        signature: Signature,
        inputs: Mapping[str, Any],
        demos: Sequence[Any],
        lm: LM,
        likes: AdapterLike,
        sampling: Sampling,
        asker: Predict[Any] | None = None,
    ) -> Self:
        """Return a question to an LM, in the form of an adapter."""
        adapter = with_native_tools(resolve(likes, lm.capabilities), signature, lm.capabilities)
        plan = adapter.plan(_asked_for(signature, lm, sampling), _able(lm, sampling))
        rendered = _rendered(adapter, plan, demos, inputs, sampling)
        request = lm.as_sent(rendered)
        unforced = rendered.tool_choice != request.tool_choice
        return cls(signature, inputs, demos, lm, adapter, plan, request, asker, unforced)

    @property
    def room(self) -> Room:
        """The room for the prompt."""
        return Room.of(self.lm, self.request, self.asker.max_prompt_tokens if self.asker else None)

    async def fits(self) -> bool:
        """Say whether the prompt, with all demos, leaves room for an answer. No model is called."""
        return await self.room.holds(self.request)

    async def fit(self, path: str = "") -> int:
        """Leave out the first demos where all do not fit; return how many. No model is called."""
        room = self.room
        if room.surely_holds(self.request):
            return 0
        self.request, dropped = await room.fitted(
            self.request, self.demos, lambda demos: self.adapter.render(self.plan, demos, self.inputs)
        )
        if dropped and self.asker and self.asker.token not in _warned:
            _warned.add(self.asker.token)
            _log.warning(
                "%s: the first %d of %d demos were dropped, since the prompt would be longer than %d tokens. Use fewer "
                "or shorter demos or inputs, a longer context, or a smaller `max_tokens`. (Said once; every call "
                "counts them in its trace.)",
                f"predictor `{path}`" if path else repr(self.asker),
                dropped,
                len(self.demos),
                room.tokens,
            )
        return dropped

    async def answers(self, step: Step, reason: str = "") -> list[Parsed]:
        """Ask, and read every sample.

        Args:
            step: what is done is noted there.
            reason: why the step asks again, where this is not its first request.

        Raises AdapterParseError where no sample can be read, LMError and BudgetExceeded.
        """
        step.dropped_demos = max(step.dropped_demos, await self.fit(step.path))
        if reason not in step.reasons:  # of several samples, the first is heard
            self.lm = heard(self.lm, self.adapter, self.plan, step.path)
        if step.request is None:
            step.model = self.lm.model
            step.request = self.request
        response = await self._response(step, reason)
        read: list[Parsed] = []
        failures: list[AdapterParseError] = []
        for number, choice in enumerate(response.choices):
            try:
                read.append(_with_thoughts(self.signature, await self._read(choice, number, step), choice))
            except AdapterParseError as error:
                failures.append(error)
        if not read:
            raise failures[0]
        step.salvages += ("sample dropped",) * len(failures)
        return read

    async def _response(self, step: Step, reason: str) -> Response:
        """Send the request; what comes of it is noted in the step."""
        if self.unforced:
            note_event("tool call left to the model")
        response = await self.lm.ask(self.request)
        step.note(response, self.lm.model, reason)
        return response

    async def _read(self, choice: Choice, number: int, step: Step) -> Parsed:
        """Read a sample. What cannot be read is asked for by the next adapter, and of the last one, mended."""
        first, *further = self.adapter.chain
        asking = self if not further else replace(self, adapter=first)
        parsed = await asking._understood(choice, step, last=not further)
        while further and not parsed.complete:
            asking = asking._by(further.pop(0), choice, number)
            step.dropped_demos = max(step.dropped_demos, await asking.fit(step.path))
            choice = (await asking._response(step, f"fallback to {asking.adapter.name}")).choices[0]
            parsed = await asking._understood(choice, step, last=not further)
        return parsed if parsed.complete else await asking._repaired(choice, parsed, step)

    def _by(self, adapter: Adapter, choice: Choice, number: int) -> Asking:
        """Return the same question in the form of another adapter, for a sample that could not be read."""
        sampling = self.request.sampling
        plan = adapter.plan(_asked_for(self.signature, self.lm, sampling), _able(self.lm, sampling))
        lm = heard_by(self.lm, adapter, plan).copy(n=1)
        limit = sampling.max_tokens
        room = 2 * limit if limit and choice.truncated else limit
        sampling = replace(sampling, n=1, sample=number, max_tokens=room)
        rendered = _rendered(adapter, plan, self.demos, self.inputs, sampling)
        request = lm.as_sent(rendered)
        unforced = rendered.tool_choice != request.tool_choice
        return replace(self, lm=lm, adapter=adapter, plan=plan, request=request, unforced=unforced)

    async def _understood(self, choice: Choice, step: Step, *, last: bool = True) -> Parsed:
        """Return what the adapter reads from a sample, with the help of a second model where it wants that.

        Raises AdapterParseError where the second model cannot be read, and no other adapter is left to ask.
        """
        if not self.adapter.asks:
            parsed = with_checked_quotes(self.plan.signature, _parsed(self.adapter, self.plan, choice), step.inputs)
            step.salvages += parsed.salvages
            return parsed
        outputs = self.plan.signature.output_fields
        if choice.truncated:  # half an answer: nothing that a second model should guess at
            return Parsed({}, dict.fromkeys(outputs, "the answer was cut off"))

        async def ask(lm: LM, signature: Signature, inputs: Values, extractor: Adapter | str) -> Parsed:
            second = Asking.made(signature, inputs, (), lm.copy(n=1), extractor, Sampling())
            return (await second.answers(step, "extraction"))[0]

        try:
            return await self.adapter.finish(self.plan, choice, ask)
        except AdapterParseError as error:
            if last:
                raise
            return Parsed({}, dict.fromkeys(outputs, str(error)))

    async def _repaired(self, choice: Choice, parsed: Parsed, step: Step) -> Parsed:
        """Give the model one turn to mend its answer: shown what is wrong, or with more room if it was cut off.

        What was read well in the first answer is kept where the second lacks it.
        """
        limit = self.request.sampling.max_tokens
        if settings.max_repairs == 0 or (choice.truncated and limit is None):
            raise _unparsable(choice, parsed, step)
        if choice.truncated:
            assert limit is not None
            again = replace(self.request, sampling=replace(self.request.sampling, n=1, max_tokens=2 * limit))
        else:
            again = self.adapter.repair(self.request, choice, parsed)
            again = replace(again, sampling=replace(again.sampling, n=1))
        response = await self.lm.copy(n=1).complete(again)  # an LM of several samples mends one all the same
        step.note(response, self.lm.model, "repair turn")
        last = response.choices[0]
        both = mended(self.plan.signature, parsed, await self._understood(last, step))
        if not both.complete and last.truncated:
            both = self._as_far_as_written(last, both, step)
        if not both.complete:
            raise _unparsable(last, both, step, earlier=choice)
        return both

    def _as_far_as_written(self, choice: Choice, parsed: Parsed, step: Step) -> Parsed:
        """Return what was read, with texts that break off as they are: a lone bare text that is cut is one too."""
        outputs = self.plan.signature.output_fields
        begun = {s.name: s.text for s in self.adapter.partial(self.plan, choice.text) if s.text}
        cut = {n: begun[n] for n in parsed.problems if n in begun and outputs[n].plain}
        step.salvages += ("text cut off",) * len(cut)
        found = {**parsed.fields, **cut}
        problems = {n: p for n, p in parsed.problems.items() if n not in cut}
        return Parsed({n: found[n] for n in outputs if n in found}, problems, parsed.salvages)


def _able(lm: LM, sampling: Sampling) -> Capabilities:
    """Return what the model can do within the tokens that it has for an answer."""
    able = lm.capabilities
    limit = sampling.max_tokens or lm.sampling.max_tokens
    if limit is None or not able.small:
        return able
    return replace(able, answer_tokens=min(limit, able.answer_tokens or limit))


def _asked_for(signature: Signature, lm: LM, sampling: Sampling) -> Signature:
    """Return what the model is asked for: one that reasons by itself gives its thoughts unasked."""
    return signature.without_thoughts if lm.reasons(sampling) else signature


@watched(
    "adapter_format",
    lambda adapter, plan, demos, inputs, *_: (adapter, {"signature": plan.signature, "demos": demos, "inputs": inputs}),
)
def _rendered(
    adapter: Adapter, plan: Plan, demos: Sequence[Any], inputs: Mapping[str, Any], sampling: Sampling
) -> Request:
    return adapter.render(plan, demos, inputs, sampling)


@watched(
    "adapter_parse",
    lambda adapter, plan, choice: (adapter, {"signature": plan.signature, "completion": written(choice)}),
)
def _parsed(adapter: Adapter, plan: Plan, choice: Choice) -> Parsed:
    return adapter.read(plan, choice)


def _with_thoughts(signature: Signature, parsed: Parsed, choice: Choice) -> Parsed:
    """Return what was read, with the thoughts of a model that was not asked for them as the field that holds such."""
    outputs = signature.output_fields
    if len(parsed.fields) == len(outputs):
        return parsed
    thoughts = choice.reasoning or thoughts_of(choice.text, outputs)
    unasked = {n: thoughts for n, f in outputs.items() if f.thoughts and n not in parsed.fields}
    return replace(parsed, fields={n: {**parsed.fields, **unasked}[n] for n in outputs})


def _unparsable(choice: Choice, parsed: Parsed, step: Step, earlier: Choice | None = None) -> AdapterParseError:
    return AdapterParseError(
        [f"`{n}`: {p}" for n, p in parsed.problems.items()],
        raw=written(choice),
        earlier=None if earlier is None else written(earlier),
        parsed=parsed.fields,
        predictor=step.path or None,
        truncated=choice.truncated,
    )
