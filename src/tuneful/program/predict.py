"""Predict: the one leaf of a program that asks a model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, Self, TypeVar, overload

import pydantic

from tuneful.adapters.base import Adapter, Parsed, Plan
from tuneful.adapters.select import resolve
from tuneful.errors import AdapterParseError, InputError, TunefulError, UsageError
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module
from tuneful.program.parameter import Tunable
from tuneful.program.rendered import Rendered
from tuneful.program.runtime import current_rollout, settings
from tuneful.program.streaming import heard
from tuneful.program.trace import Step, current_recorder, snapshot
from tuneful.program.watched import watched
from tuneful.spec.example import Example
from tuneful.spec.fields import Field
from tuneful.spec.inputs import check_inputs
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature, ensure_signature
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Response

T = TypeVar("T")

#: Arguments of a call that are not inputs, unless the signature has an input of that name.
_CALL_OPTIONS = ("config", "demos", "lm", "adapter")


class Token:
    """Identity of a predictor in its program.

    A deep copy is another predictor and gets another one; `using`, which binds the same predictor to another LM,
    keeps it.
    """

    def __deepcopy__(self, memo: dict[Any, Any]) -> Token:
        return self if memo.get("keep_tokens") else Token()


class Predict(Module, Generic[T]):
    """Ask a model for the outputs of a signature.

    >>> from tuneful.testing import ScriptedLM
    >>> capital = Predict("country -> capital")
    >>> capital(country="France", lm=ScriptedLM(["[[ ## capital ## ]] Paris"])).capital
    'Paris'

    Args:
        signature: a string, a class signature, a typed function or a `Signature`.
        config: sampling options: temperature, max_tokens, n, top_p, seed, stop, logprobs.

    Attributes:
        signature: the signature, with instructions and wording as they stand. Assign to change it.
        demos: worked examples shown to the model, most useful last.
        lm: the LM of this predictor, or None for the configured one.
        adapter: an Adapter, its name, or None for the configured one ("auto" if none is).

    Cost: 1 call for each run (of n samples), and 1 more for an answer that needed the repair turn.
    """

    _is_predictor = True
    _drivable = True

    @overload
    def __init__(self: Predict[Prediction], signature: str | Signature, **config: Any) -> None: ...
    @overload
    def __init__(self, signature: type[T], **config: Any) -> None: ...
    @overload
    def __init__(self: Predict[Prediction], signature: Any, **config: Any) -> None: ...
    def __init__(self, signature: Any, **config: Any) -> None:
        super().__init__()
        self.signature: Signature = ensure_signature(signature)
        self.demos: list[Any] = []
        self.lm: LM | None = None
        self.adapter: Adapter | str | None = None
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
        lm, adapter, plan, request = self._prepared(step.inputs)
        lm = heard(lm, adapter, plan, step.path)
        step.model = lm.model
        step.request = request
        response = await lm.ask(request)
        step.responses.append(response)
        rows = []
        for choice in response.choices:
            parsed = _parsed(adapter, plan, choice.text)
            step.salvages += parsed.salvages
            if not parsed.complete:
                parsed = await self._repaired(lm, adapter, plan, request, choice, parsed, step)
            rows.append(parsed.fields)
        step.outputs = snapshot(rows[0])
        return Prediction.from_completions(rows, self.signature)

    def _prepared(self, inputs: Mapping[str, Any]) -> tuple[LM, Adapter, Plan, Request]:
        lm = self.lm or current_lm()
        adapter = resolve(self.adapter or settings.adapter, lm.capabilities)
        plan = adapter.plan(self.signature, lm.capabilities)
        sampling = replace(self.sampling, rollout_id=rollout_id) if (rollout_id := current_rollout()) else self.sampling
        return lm, adapter, plan, lm.as_sent(_rendered(adapter, plan, self.demos, inputs, sampling))

    async def _repaired(
        self, lm: LM, adapter: Adapter, plan: Plan, request: Request, choice: Choice, parsed: Parsed, step: Step
    ) -> Parsed:
        """Give the model one turn to mend its answer: shown what is wrong, or with more room if it was cut off."""
        if settings.max_repairs == 0:
            raise _unparsable(choice, parsed, step)
        if choice.truncated:
            limit = request.sampling.max_tokens
            if limit is None:
                raise _unparsable(choice, parsed, step)
            again = replace(request, sampling=replace(request.sampling, n=1, max_tokens=2 * limit))
        else:
            again = adapter.repair(request, choice.text, parsed)
            again = replace(again, sampling=replace(again.sampling, n=1))
        response: Response = await lm.copy(n=1).complete(again)  # an LM of several samples mends one all the same
        step.responses.append(response)
        mended = _parsed(adapter, plan, response.text)
        step.salvages += mended.salvages
        if not mended.complete:
            raise _unparsable(response.choices[0], mended, step)
        return mended

    # --- looking ---

    def render(self, **inputs: Any) -> Rendered:
        """Return the exact request that a call with these inputs sends, with token counts. No model is called.

        Inputs that are not given, and have no default, show as `{name}`.
        """
        lm, adapter, _, request = self._prepared({n: _shown(f, inputs) for n, f in self.signature.input_fields.items()})
        return Rendered.of(request, lm, adapter)

    # --- parameters ---

    def _own_parameters(self) -> dict[str, tuple[Any, Any, Tunable | None]]:
        name = self.adapter.name if isinstance(self.adapter, Adapter) else self.adapter
        values = {
            "instructions": self.signature.instructions,
            "wording": self.signature.dump_state()["fields"],
            "demos": [_demo_json(d) for d in self.demos],
            "adapter": name,
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
                if not isinstance(self.adapter, Adapter) or self.adapter.name != value:
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
    lambda adapter, plan, completion: (adapter, {"signature": plan.signature, "completion": completion}),
)
def _parsed(adapter: Adapter, plan: Plan, completion: str) -> Parsed:
    return adapter.parse(plan, completion)


def _shown(field: Field, inputs: Mapping[str, Any]) -> Any:
    """Return what a call gives to an input field, or the field's name where nothing is known of it yet."""
    if field.name not in inputs:
        return field.absent_value() if field.optional else f"{{{field.name}}}"
    value = inputs[field.name]
    with suppress(pydantic.ValidationError):  # a call would refuse it; to look at it does no harm
        return field.adapter.validate_python(value) if field.typed else value
    return value


def _unparsable(choice: Choice, parsed: Parsed, step: Step) -> AdapterParseError:
    problems = [f"`{n}`: {p}" for n, p in parsed.problems.items()]
    return AdapterParseError(
        problems, raw=choice.text, parsed=parsed.fields, predictor=step.path or None, truncated=choice.truncated
    )


def _demo_json(demo: Any) -> dict[str, Any]:
    if not isinstance(demo, (Example, Mapping)):
        raise UsageError(f"a demo is an Example or a mapping of field values, got {demo!r:.80}.")
    return Example(demo).to_dict()
