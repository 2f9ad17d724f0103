"""Predict: the one leaf of a program that asks a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar, overload

import pydantic

from tuneful.adapters.select import AdapterLike, name_of
from tuneful.errors import InputError, TunefulError, UsageError
from tuneful.program.asking import Asking
from tuneful.program.constraint import (
    Constraint,
    Correction,
    corrected,
    corrections_of,
    repeated,
    replayed,
    retracing,
    took,
)
from tuneful.program.demos.demo_pool import DemoPool, Vectorizer, vectorizer_of
from tuneful.program.lm import LM, current_lm
from tuneful.program.lm_state import restored
from tuneful.program.module import Module
from tuneful.program.parameter import Tunable
from tuneful.program.rendered import Rendered
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import settings
from tuneful.program.trace import Recorder, Step, current_recorder, note_event, snapshot
from tuneful.spec.example import Example
from tuneful.spec.fields import Field
from tuneful.spec.inputs import check_inputs
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature, ensure_signature
from tuneful.wire.request import Sampling

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


#: Temperature of a predictor that gave an answer again that was turned down.
_BOLDER = 0.7

#: Predictors that have said that their demos do not fit.


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
        config: sampling options: temperature, max_tokens, n, top_p, seed, stop, logprobs (they are then in
            `prediction.logprobs`).

    Attributes:
        signature: the signature, with instructions and wording as they stand. Assign to change it.
        demos: worked examples shown to the model, most useful last.
        demo_pool: rows of which those that are most like the inputs are shown too, after the demos; see `KNNFewShot`.
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
        self.demo_pool = DemoPool()
        self.lm: LM | None = None
        self.adapter: AdapterLike = None
        self.max_prompt_tokens = _checked_tokens(max_prompt_tokens)
        self.sampling = Sampling.from_options(config)
        self.constraints: tuple[Constraint, ...] = ()
        self.token = Token()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "lm" and not isinstance(value, (LM, Tunable, type(None))):  # of tunables the base class speaks
            raise UsageError(f"`lm` must be a tf.LM, got {value!r:.80}. Write tf.LM({value!r:.60}).")
        super().__setattr__(name, value)

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
        bound, checked = self._split_call(given)
        predictor, inputs = bound._as_asked(checked)
        recorder = current_recorder()
        path = recorder.path_of(self.token) if recorder else ""
        corrections: list[Correction] = []
        if retracing():
            if recorder and (kept := replayed(recorder, path, inputs)) is not None:
                return kept
            corrections = corrections_of(path, inputs)
        if predictor.demo_pool.rows:
            predictor = await predictor._with_nearest(inputs)
        if not self.constraints:
            return await predictor._step(Step(path, snapshot(inputs)), recorder, corrections)
        return await predictor._constrained(path, inputs, recorder, corrections)

    def _as_asked(self, inputs: dict[str, Any]) -> tuple[Predict[Any], dict[str, Any]]:
        """Return the predictor and its inputs in the form in which it asks. A part of an agent has one of its own."""
        return self, inputs

    def _cases(self, case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return a demo, or a recorded step, in the form in which this predictor shows it: as several, if need be."""
        return [case]

    def _with_cases(self) -> Self:
        """Return the predictor with its demos in the form in which it shows them."""
        if not self.demos and not self.demo_pool.rows:
            return self
        twin = self._twin()
        twin.demos = [case for demo in self.demos for case in self._cases(dict(demo.items()))]
        twin.demo_pool = self.demo_pool.shown_as(lambda demo: self._cases(dict(demo.items())))
        return twin

    async def _with_nearest(self, inputs: Mapping[str, Any]) -> Self:
        """Return the predictor with those rows of its pool as demos that are most like the inputs."""
        twin = self._twin()
        twin.demos = [*self.demos, *await self.demo_pool.nearest(inputs)]
        twin.demo_pool = DemoPool()
        return twin

    async def _constrained(
        self, path: str, inputs: dict[str, Any], recorder: Recorder | None, corrections: list[Correction]
    ) -> Prediction:
        """Ask until the constraints are met, or have had as many answers as they may have."""
        open_ = list(self.constraints)
        while True:
            step = Step(path, snapshot(inputs))
            prediction = await self._step(step, recorder, corrections)
            wanted = []
            for constraint in list(open_):
                complaint = await constraint.complaint(inputs, prediction)
                if complaint is None:
                    continue
                if sum(c.site is constraint for c in corrections) < settings.max_backtracks:
                    wanted.append(constraint.turned_down(step, complaint))
                else:
                    constraint.give_up(step, complaint)
                    open_.remove(constraint)
            if not wanted:
                return prediction
            note_event("asked again by a constraint")
            step.superseded = True
            corrections += wanted

    async def _step(self, step: Step, recorder: Recorder | None, corrections: Sequence[Correction]) -> Prediction:
        """Ask once, and keep what happens in the trace."""
        if recorder:
            recorder.trace.steps.append(step)
            took(step)
        begun = time.perf_counter()
        try:
            predictor, inputs = self._corrected(step.inputs, corrections) if corrections else (self, step.inputs)
            step.correction = {n: v for n, v in inputs.items() if n not in step.inputs} if corrections else {}
            prediction = await predictor._ask(step, inputs)
        except TunefulError as error:
            step.error = str(error)
            raise
        finally:
            step.seconds = time.perf_counter() - begun
        if recorder:
            recorder.predictions[id(step)] = prediction
        return prediction

    def _corrected(self, inputs: dict[str, Any], corrections: Sequence[Correction]) -> tuple[Self, dict[str, Any]]:
        """Return the predictor that is shown its earlier answer and what is wrong with it, and its inputs."""
        twin = self._twin()
        twin.signature, more = corrected(self.signature, corrections)
        lm = self.lm or current_lm()
        if repeated(corrections) > 1 and lm.takes_temperature(self.sampling):
            twin.bind(temperature=_BOLDER)  # asked the same, a greedy model would say the same
        return twin, {**inputs, **more}

    def require(self, check: Callable[..., Any], message: str) -> Self:
        """Demand something of every answer. Returns self.

        >>> from tuneful.testing import DummyLM
        >>> name = Predict("person -> name").require(lambda p: p.name.istitle(), "Begin the name with a capital.")
        >>> name.using(lm=DummyLM([{"name": "ada"}, {"name": "Ada"}]))(person="the first programmer").name
        'Ada'

        Args:
            check: `(prediction)` or `(inputs, prediction)` -> whether it holds; plain or async. A ValueError or an
                AssertionError that it raises says what is wrong, beside the message.
            message: what is wrong and what is wanted; the model reads it, beside its answer.

        Raises:
            ConstraintError: from a call whose answers do not meet it, after `max_backtracks` (a setting) more.
        """
        self.constraints = (*self.constraints, Constraint(check, message))
        return self

    def suggest(self, check: Callable[..., Any], message: str) -> Self:
        """Do what `require` does, but go on with a warning where it cannot be had. Returns self."""
        self.constraints = (*self.constraints, Constraint(check, message, must=False))
        return self

    def _split_call(self, given: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Return the predictor with the call's own options applied, and the checked inputs."""
        options = {k: given.pop(k) for k in _CALL_OPTIONS if k in given and k not in self.signature.input_fields}
        inputs = check_inputs(self.signature, given, f"{type(self).__name__}({str(self.signature)!r})")
        if not options:
            return self, inputs
        bound = self._twin()
        if "demos" in options:
            bound.demos, bound.demo_pool = list(options["demos"]), DemoPool()
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

    async def _ask(self, step: Step, inputs: Mapping[str, Any]) -> Prediction:
        rows = [parsed.fields for parsed in await Asking.of(self, inputs).answers(step)]
        step.outputs = snapshot(rows[0])
        prediction = Prediction.from_completions(rows, self.signature)
        prediction.__dict__["_logprobs"] = step.logprobs
        return prediction

    async def _fits(self, inputs: Mapping[str, Any]) -> bool:
        """Say whether the prompt for some inputs, with all demos, leaves room for an answer. No model is called."""
        predictor, inputs = self._as_asked(check_inputs(self.signature, inputs, repr(self)))
        if predictor.demo_pool.rows:
            predictor = await predictor._with_nearest(inputs)
        return await Asking.of(predictor, inputs).fits()

    # --- looking ---

    def render(self, **inputs: Any) -> Rendered:
        """Return the exact request that a call with these inputs sends, with token counts. No model is called.

        Inputs that are not given, and have no default, show as `{name}`. The demos of a pool are shown where all
        inputs are given: finding them may ask an embedder.
        """
        fields = self.signature.input_fields
        predictor, shown = self._as_asked({n: _shown(f, inputs) for n, f in fields.items()})
        if predictor.demo_pool.rows and all(n in inputs or f.optional for n, f in fields.items()):
            predictor = portal.drive(predictor._with_nearest(shown))
        asking = Asking.of(predictor, shown)
        dropped = portal.drive(asking.fit())
        return Rendered.of(asking.request, asking.lm, asking.adapter, dropped)

    # --- parameters ---

    _own_names = frozenset({"demos", "demo_pool", "adapter", "lm", "sampling", "signature"})

    def _own_parameters(self) -> dict[str, tuple[Any, Any, Tunable | None]]:
        values = {
            "instructions": self.signature.instructions,
            "wording": self.signature.dump_state()["fields"],
            "demos": [_demo_json(d) for d in self.demos],
            "demo_pool": self.demo_pool.value,
            "adapter": name_of(self.adapter),
            "lm": self.lm.state if self.lm else None,
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
            case "demo_pool":
                self.demo_pool = self.demo_pool.with_value(value)
            case "adapter":
                if value is None or name_of(self.adapter) != value:  # one with an LM of its own stays as it is
                    self.adapter = value
            case "lm":
                if value is None or self.lm is None or self.lm.state != value:
                    self.lm = None if value is None else restored(value)
            case "sampling":
                self.sampling = Sampling.from_options(value)
            case _:
                super()._set_parameter(name, value)

    def set_embedder(self, embedder: Vectorizer | str) -> None:
        """Pick the demos of the pool by this embedder; see `Module.set_embedder`."""
        self.demo_pool = DemoPool(vectorizer_of(embedder), self.demo_pool.value)

    def reset(self) -> None:
        """Drop the demos, and the rows of the pool."""
        self.demos, self.demo_pool = [], self.demo_pool.with_value(None)

    def __repr__(self) -> str:
        extras = [f"{len(self.demos)} demos"] if self.demos else []
        extras += [f"demos of {len(self.demo_pool.rows)} rows"] if self.demo_pool.rows else []
        extras += [f"max_prompt_tokens={self.max_prompt_tokens}"] if self.max_prompt_tokens else []
        extras += [f"lm={self.lm!r}"] if self.lm else []
        extras += [f"{k}={v!r}" for k, v in self.sampling.to_json().items()]
        return f"{type(self).__name__}({', '.join([repr(str(self.signature)), *extras])})"


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


def _demo_json(demo: Any) -> dict[str, Any]:
    if not isinstance(demo, (Example, Mapping)):
        raise UsageError(f"a demo is an Example or a mapping of field values, got {demo!r:.80}.")
    return Example(demo).to_dict()
