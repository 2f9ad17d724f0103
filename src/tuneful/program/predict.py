"""Predict: the one leaf of a program that asks a model."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, Self, TypeVar, overload
from weakref import WeakSet

import pydantic

from tuneful.adapters.base import Adapter, Parsed, Plan, Values
from tuneful.adapters.mended import mended
from tuneful.adapters.select import AdapterLike, name_of, resolve
from tuneful.errors import AdapterParseError, InputError, TunefulError, UsageError
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module
from tuneful.program.parameter import Tunable
from tuneful.program.portal import portal
from tuneful.program.prompt_room import Room
from tuneful.program.rendered import Rendered
from tuneful.program.runtime import current_rollout, settings
from tuneful.program.streaming import heard, heard_by
from tuneful.program.trace import Step, current_recorder, snapshot
from tuneful.program.watched import watched
from tuneful.spec.example import Example
from tuneful.spec.fields import Field
from tuneful.spec.inputs import check_inputs
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature, ensure_signature
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Response, written

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Arguments of a call that are not inputs, unless the signature has an input of that name.
_CALL_OPTIONS = ("config", "demos", "lm", "adapter")


class Token:
    """Identity of a predictor in its program.

    A deep copy is another predictor and gets another one; `using`, which binds the same predictor to another LM,
    keeps it.
    """

    def __deepcopy__(self, memo: dict[Any, Any]) -> Token:
        return self if memo.get("keep_tokens") else Token()


#: Predictors that have said that their demos do not fit.
_warned: WeakSet[Token] = WeakSet()


class Predict(Module, Generic[T]):
    """Ask a model for the outputs of a signature.

    >>> from tuneful.testing import ScriptedLM
    >>> capital = Predict("country -> capital")
    >>> capital(country="France", lm=ScriptedLM(["[[ ## capital ## ]] Paris"])).capital
    'Paris'

    Args:
        signature: a string, a class signature, a typed function or a `Signature`.
        max_prompt_tokens: longest prompt. By default what the model's context leaves beside the answer. Where a
            prompt is longer, demos are left out, the first ones first, and a warning says so.
        config: sampling options: temperature, max_tokens, n, top_p, seed, stop, logprobs.

    Attributes:
        signature: the signature, with instructions and wording as they stand. Assign to change it.
        demos: worked examples shown to the model, most useful last.
        max_prompt_tokens: longest prompt, or None.
        lm: the LM of this predictor, or None for the configured one.
        adapter: an Adapter, its name, several of them ("json>chat" or a list: see `FallbackAdapter`), or None for the
            configured one ("auto" if none is).

    Cost: 1 call for each run (of n samples), and 1 more for an answer that needed the repair turn.
    """

    _is_predictor = True
    _drivable = True

    @overload
    def __init__(
        self: Predict[Prediction], signature: str | Signature, *, max_prompt_tokens: int | None = None, **config: Any
    ) -> None: ...
    @overload
    def __init__(self, signature: type[T], *, max_prompt_tokens: int | None = None, **config: Any) -> None: ...
    @overload
    def __init__(
        self: Predict[Prediction], signature: Any, *, max_prompt_tokens: int | None = None, **config: Any
    ) -> None: ...
    def __init__(self, signature: Any, *, max_prompt_tokens: int | None = None, **config: Any) -> None:
        super().__init__()
        self.signature: Signature = ensure_signature(signature)
        self.demos: list[Any] = []
        self.lm: LM | None = None
        self.adapter: AdapterLike = None
        self.max_prompt_tokens = _checked_tokens(max_prompt_tokens)
        self.sampling = Sampling.from_options(config)
        self.token = Token()

    # --- running ---

    def __call__(self, *args: Any, **kwargs: Any) -> T:
        """Ask, and block until there is an answer. Inputs are given by name."""
        found: T = super().__call__(*args, **kwargs)
        return found

    async def acall(self, *args: Any, **kwargs: Any) -> T:
        """Ask, in the current event loop."""
        found: T = await super().acall(*args, **kwargs)
        return found

    async def forward(self, *args: Any, **given: Any) -> Any:
        """Ask a model.

        Raises:
            InputError: inputs are missing, unknown or ill-typed. No model was called.
            AdapterParseError: the answer does not fit the signature, even after one repair turn.
            ContextWindowExceededError: the prompt is too long, even without demos.
            LMError, BudgetExceeded: from the model.
        """
        if args:
            names = ", ".join(f"{n}=..." for n in self.signature.input_fields)
            raise InputError(f"inputs are given by name, as ({names}). No model was called.")
        predictor, inputs = self._split_call(given)
        recorder = current_recorder()
        step = Step(recorder.path_of(self.token) if recorder else "", snapshot(inputs))
        if recorder:
            recorder.trace.steps.append(step)
        begun = time.perf_counter()
        try:
            return await predictor._ask(step)
        except TunefulError as error:
            step.error = str(error)
            raise
        finally:
            step.seconds = time.perf_counter() - begun

    def _split_call(self, given: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Return the predictor with the call's own options applied, and the checked inputs."""
        options = {k: given.pop(k) for k in _CALL_OPTIONS if k in given and k not in self.signature.input_fields}
        inputs = check_inputs(self.signature, given, f"{type(self).__name__}({str(self.signature)!r})")
        if not options:
            return self, inputs
        bound = self._twin()
        bound.demos = list(options.get("demos", self.demos))
        return bound.bind(lm=options.get("lm"), adapter=options.get("adapter"), **options.get("config", {})), inputs

    def _twin(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def bind(self, *, lm: LM | None = None, adapter: Any = None, **sampling: Any) -> Self:
        """Set LM, adapter or sampling options of this predictor, leaving what is not given. Returns self."""
        if lm is not None:
            self.lm = lm
        if adapter is not None:
            self.adapter = adapter
        if sampling:
            self.sampling = self.sampling.updated(sampling)
        return self

    async def _ask(self, step: Step) -> Prediction:
        rows = [parsed.fields for parsed in await self._answers(step, step.inputs)]
        step.outputs = snapshot(rows[0])
        return Prediction.from_completions(rows, self.signature)

    async def _answers(self, step: Step, inputs: Mapping[str, Any], reason: str = "") -> list[Parsed]:
        """Ask, and read every sample.

        Args:
            step: what is done is noted there.
            inputs: the inputs.
            reason: why the step asks again, where this is not its first request.
        """
        lm, adapter, plan, request = self._prepared(inputs)
        request = await self._held(lm, adapter, plan, request, inputs, step)
        if reason not in step.reasons:  # of several samples, the first is heard
            lm = heard(lm, adapter, plan, step.path)
        if step.request is None:
            step.model = lm.model
            step.request = request
        response = await lm.ask(request)
        step.note(response, lm.model, reason)
        read: list[Parsed] = []
        failures: list[AdapterParseError] = []
        for number, choice in enumerate(response.choices):
            try:
                read.append(await self._read(lm, adapter, plan, request, choice, step, inputs, number))
            except AdapterParseError as error:
                failures.append(error)
        if not read:
            raise failures[0]
        step.salvages += ("sample dropped",) * len(failures)
        return read

    async def _held(
        self, lm: LM, adapter: Adapter, plan: Plan, request: Request, inputs: Mapping[str, Any], step: Step
    ) -> Request:
        """Return the request, with as many demos as the model has room for."""
        room = Room.of(lm, request, self.max_prompt_tokens)
        if room.surely_holds(request):
            return request
        request, dropped = await self._fitted(room, adapter, plan, request, inputs, step.path)
        step.dropped_demos = max(step.dropped_demos, dropped)
        return request

    async def _read(
        self,
        lm: LM,
        adapter: Adapter,
        plan: Plan,
        request: Request,
        choice: Choice,
        step: Step,
        inputs: Mapping[str, Any],
        number: int,
    ) -> Parsed:
        """Read a sample. What cannot be read is asked for by the next adapter, and of the last one, mended."""
        adapter, *further = adapter.chain
        parsed = await self._understood(adapter, plan, choice, step, last=not further)
        while further and not parsed.complete:
            adapter = further.pop(0)
            plan = adapter.plan(self.signature, lm.capabilities)
            lm = heard_by(lm, adapter, plan).copy(n=1)
            limit = request.sampling.max_tokens
            room = 2 * limit if limit and choice.truncated else limit
            sampling = replace(request.sampling, n=1, sample=number, max_tokens=room)
            request = lm.as_sent(_rendered(adapter, plan, self.demos, inputs, sampling))
            request = await self._held(lm, adapter, plan, request, inputs, step)
            response = await lm.ask(request)
            step.note(response, lm.model, f"fallback to {adapter.name}")
            choice = response.choices[0]
            parsed = await self._understood(adapter, plan, choice, step, last=not further)
        if parsed.complete:
            return parsed
        return await self._repaired(lm, adapter, plan, request, choice, parsed, step)

    async def _understood(
        self, adapter: Adapter, plan: Plan, choice: Choice, step: Step, *, last: bool = True
    ) -> Parsed:
        """Return what an adapter reads from a sample, with the help of a second model where it wants that.

        Raises AdapterParseError where the second model cannot be read, and no other adapter is left to ask.
        """
        if not adapter.asks:
            parsed = _parsed(adapter, plan, choice)
            step.salvages += parsed.salvages
            return parsed
        if choice.truncated:  # half an answer: nothing that a second model should guess at
            return Parsed({}, dict.fromkeys(self.signature.output_fields, "the answer was cut off"))

        async def ask(lm: LM, signature: Signature, inputs: Values, extractor: Adapter | str) -> Parsed:
            second = Predict(signature).bind(lm=lm.copy(n=1), adapter=extractor)
            return (await second._answers(step, inputs, "extraction"))[0]

        try:
            return await adapter.finish(plan, choice, ask)
        except AdapterParseError as error:
            if last:
                raise
            return Parsed({}, dict.fromkeys(self.signature.output_fields, str(error)))

    def _prepared(self, inputs: Mapping[str, Any]) -> tuple[LM, Adapter, Plan, Request]:
        lm = self.lm or current_lm()
        adapter = resolve(settings.adapter if self.adapter is None else self.adapter, lm.capabilities)
        plan = adapter.plan(self.signature, lm.capabilities)
        sampling = replace(self.sampling, rollout_id=rollout_id) if (rollout_id := current_rollout()) else self.sampling
        return lm, adapter, plan, lm.as_sent(_rendered(adapter, plan, self.demos, inputs, sampling))

    async def _fitted(
        self, room: Room, adapter: Adapter, plan: Plan, request: Request, inputs: Mapping[str, Any], path: str
    ) -> tuple[Request, int]:
        """Return the request without the first demos where all do not fit, and how many were dropped."""
        fitted, dropped = await room.fitted(request, self.demos, lambda demos: adapter.render(plan, demos, inputs))
        if dropped and self.token not in _warned:
            _warned.add(self.token)
            _log.warning(
                "%s: the first %d of %d demos were dropped, since the prompt would be longer than %d tokens. Use fewer "
                "or shorter demos or inputs, a longer context, or a smaller `max_tokens`. (Said once; every call "
                "counts them in its trace.)",
                f"predictor `{path}`" if path else repr(self),
                dropped,
                len(self.demos),
                room.tokens,
            )
        return fitted, dropped

    async def _repaired(
        self, lm: LM, adapter: Adapter, plan: Plan, request: Request, choice: Choice, parsed: Parsed, step: Step
    ) -> Parsed:
        """Give the model one turn to mend its answer: shown what is wrong, or with more room if it was cut off.

        What was read well in the first answer is kept where the second lacks it.
        """
        if settings.max_repairs == 0:
            raise _unparsable(choice, parsed, step)
        if choice.truncated:
            limit = request.sampling.max_tokens
            if limit is None:
                raise _unparsable(choice, parsed, step)
            again = replace(request, sampling=replace(request.sampling, n=1, max_tokens=2 * limit))
        else:
            again = adapter.repair(request, choice, parsed)
            again = replace(again, sampling=replace(again.sampling, n=1))
        response: Response = await lm.copy(n=1).complete(again)  # an LM of several samples mends one all the same
        step.note(response, lm.model, "repair turn")
        second = await self._understood(adapter, plan, response.choices[0], step)
        both = mended(self.signature, parsed, second)
        if not both.complete:
            raise _unparsable(response.choices[0], both, step, earlier=choice)
        return both

    # --- looking ---

    def render(self, **inputs: Any) -> Rendered:
        """Return the exact request that a call with these inputs sends, with token counts. No model is called.

        Inputs that are not given, and have no default, show as `{name}`.
        """
        shown = {n: _shown(f, inputs) for n, f in self.signature.input_fields.items()}
        lm, adapter, plan, request = self._prepared(shown)
        room, dropped = Room.of(lm, request, self.max_prompt_tokens), 0
        if not room.surely_holds(request):
            request, dropped = portal.drive(self._fitted(room, adapter, plan, request, shown, ""))
        return Rendered.of(request, lm, adapter, dropped)

    # --- parameters ---

    def _own_parameters(self) -> dict[str, tuple[Any, Any, Tunable | None]]:
        values = {
            "instructions": self.signature.instructions,
            "wording": self.signature.dump_state()["fields"],
            "demos": [_demo_json(d) for d in self.demos],
            "adapter": name_of(self.adapter),
            "lm": self.lm.model if self.lm else None,
            "sampling": self.sampling.to_json(),
        }
        return {**{k: (k, v, None) for k, v in values.items()}, **super()._own_parameters()}

    def _set_parameter(self, name: str, value: Any) -> None:
        match name:
            case "instructions":
                self.signature = self.signature.with_instructions(value)
            case "wording":
                self.signature = self.signature.load_state(
                    {"instructions": self.signature.instructions, "fields": value}
                )
            case "demos":
                self.demos = [Example(d) for d in value]
            case "adapter":
                if value is None or name_of(self.adapter) != value:  # one with an LM of its own stays as it is
                    self.adapter = value
            case "lm":
                if value is None or self.lm is None or self.lm.model != value:
                    self.lm = None if value is None else LM(value)
            case "sampling":
                self.sampling = Sampling.from_options(value)
            case _:
                super()._set_parameter(name, value)

    def reset(self) -> None:
        """Drop the demos."""
        self.demos = []

    def __repr__(self) -> str:
        extras = [f"{len(self.demos)} demos"] if self.demos else []
        extras += [f"max_prompt_tokens={self.max_prompt_tokens}"] if self.max_prompt_tokens else []
        extras += [f"lm={self.lm!r}"] if self.lm else []
        extras += [f"{k}={v!r}" for k, v in self.sampling.to_json().items()]
        return f"{type(self).__name__}({', '.join([repr(str(self.signature)), *extras])})"


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


def _shown(field: Field, inputs: Mapping[str, Any]) -> Any:
    """Return what a call gives to an input field, or the field's name where nothing is known of it yet."""
    if field.name not in inputs:
        return field.absent_value() if field.optional else f"{{{field.name}}}"
    value = inputs[field.name]
    with suppress(pydantic.ValidationError):  # a call would refuse it; to look at it does no harm
        return field.adapter.validate_python(value) if field.typed else value
    return value


def _checked_tokens(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise UsageError(f"`max_prompt_tokens` is {value!r}; expected an integer of at least 1, or None.")
    return value


def _unparsable(choice: Choice, parsed: Parsed, step: Step, earlier: Choice | None = None) -> AdapterParseError:
    return AdapterParseError(
        [f"`{n}`: {p}" for n, p in parsed.problems.items()],
        raw=written(choice),
        earlier=None if earlier is None else written(earlier),
        parsed=parsed.fields,
        predictor=step.path or None,
        truncated=choice.truncated,
    )


def _demo_json(demo: Any) -> dict[str, Any]:
    if not isinstance(demo, (Example, Mapping)):
        raise UsageError(f"a demo is an Example or a mapping of field values, got {demo!r:.80}.")
    return Example(demo).to_dict()
