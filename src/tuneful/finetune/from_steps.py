"""from_steps: recorded steps of a program's runs as training examples. Pure: no model is called.

A step becomes an example by the student's own predictor and adapter, on the way that a live call takes: the prompts
that a model is trained on are those that it will be asked, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from tuneful.adapters.native_tools import holds
from tuneful.adapters.select import resolve
from tuneful.errors import InputError, UsageError
from tuneful.finetune.sayable import can_say
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.program.asking import Asking
from tuneful.program.demos.demo_pool import DemoPool
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import settings
from tuneful.spec.fields import Field
from tuneful.spec.inputs import check_inputs
from tuneful.spec.tool_form import ToolForm
from tuneful.wire.messages import ToolCall
from tuneful.wire.response import Choice

#: Reasons for which a step is left out, beside those that its record tells.
STRANGE, MISSING, MISFIT = "unknown predictor", "field missing", "does not fit the signature"
UNSAYABLE = "ruled out by the student's grammar"


def from_steps(
    student: Module, steps: Iterable[Mapping[str, Any]], *, demos: bool = False, lm: LM | None = None
) -> TrainingSet:
    """Return the training examples that steps of a program's runs give. No model is called.

    >>> from tuneful.program.predict import Predict
    >>> from tuneful.testing import DummyLM
    >>> student = Predict("question -> answer").using(lm=DummyLM([]))
    >>> (example,) = from_steps(student, [{"path": "", "inputs": {"question": "2+2?"}, "outputs": {"answer": "4"}}])
    >>> example.messages == student.render(question="2+2?").messages
    True

    Use it for steps that a journal holds, and for labels: a row with a predictor's inputs and outputs is a step too.

    Args:
        student: the program whose prompts are written.
        steps: mappings with `path`, `inputs` and `outputs`, and perhaps `noted` and `superseded`, as a journal has
            them. Values may be JSON. Steps that failed, were repaired or superseded are left out, and counted.
        demos, lm: see `to_dataset`. With `demos`, not to be called on the background loop.

    Raises:
        UsageError: a predictor has an adapter whose answers cannot be written.
    """
    return Writer.of(student, demos=demos, lm=lm).examples(steps)


@dataclass(frozen=True)
class Writer:
    """Writes steps as examples, in the form in which the student asks.

    Args:
        predictors: the predictors, by path.
        tools: the student's tools, by name: in a record a tool is its name.
        demos: whether demos are shown.
    """

    predictors: Mapping[str, Predict[Any]]
    tools: Mapping[str, ToolForm]
    demos: bool

    @classmethod
    def of(cls, student: Any, *, demos: bool, lm: LM | None) -> Writer:
        """Return a writer for a student. Raises UsageError where an adapter's answers cannot be written."""
        if not isinstance(student, Module):
            raise UsageError(f"a student is a program, a tf.Module, got {student!r:.80}.")
        bound = student if lm is None else student.using(lm=lm)
        modules, predictors = dict(bound.named_sub_modules()), dict(bound.named_predictors())
        for path, predictor in predictors.items():
            _check_writable(path, predictor)
        tools = {tool.name: tool for m in modules.values() for value in vars(m).values() for tool in _tools_in(value)}
        return cls(predictors, tools, demos)

    def examples(self, steps: Iterable[Mapping[str, Any]]) -> TrainingSet:
        """Return the examples of those steps that are fit to learn from, and count the others."""
        found: list[TrainingExample] = []
        dropped: Counter[str] = Counter()
        for step in steps:
            try:
                found += self._examples(step)
            except _UnfitError as unfit:
                dropped[str(unfit)] += 1
        return TrainingSet(tuple(found), dict(dropped))

    def _examples(self, step: Mapping[str, Any]) -> list[TrainingExample]:
        """Return the examples of a step: several where the student takes several turns to say the same.

        Raises _UnfitError where it is not fit to learn from.
        """
        path = step["path"]
        if path not in self.predictors:
            raise _UnfitError(STRANGE)
        _check_went_plainly(step)
        predictor = self.predictors[path]
        return [
            self._example(path, predictor, case) for case in predictor._cases({**step["inputs"], **step["outputs"]})
        ]

    def _example(self, path: str, predictor: Predict[Any], case: Mapping[str, Any]) -> TrainingExample:
        predictor, inputs = predictor._as_asked(self._inputs(predictor, case))
        asking = self._asking(predictor, inputs)
        outputs = _outputs(asking.plan.signature.output_fields, case)
        turns = asking.adapter.answer_turns(asking.plan, {**inputs, **outputs}, len(asking.request.messages) + 1)
        answer = [m for m in turns if m.role == "assistant"][-1]
        calls = tuple(ToolCall(f"call{i:05}", c.name, c.arguments) for i, c in enumerate(answer.tool_calls, 1))
        choice = Choice(answer.text, "tools" if calls else "stop", tool_calls=calls)
        if not asking.adapter.read(asking.plan, choice).complete:
            raise _UnfitError(MISFIT)
        if not calls and not can_say(asking.request, answer.text):
            raise _UnfitError(UNSAYABLE)
        return TrainingExample(path, asking.request.messages, answer.text, asking.request.tools, calls)

    def _asking(self, predictor: Predict[Any], inputs: Mapping[str, Any]) -> Asking:
        """Return what a live call asks."""
        if not self.demos:
            bare = predictor._twin()
            bare.demos, bare.demo_pool = [], DemoPool()
            return Asking.of(bare, inputs)
        if predictor.demo_pool.rows:
            predictor = portal.drive(predictor._with_nearest(inputs))
        asking = Asking.of(predictor, inputs)
        portal.drive(asking.fit())
        return asking

    def _inputs(self, predictor: Predict[Any], case: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs as a live call checks them. What a step was given beside them is left out."""
        given = {n: self._restored(f, case[n]) for n, f in predictor.signature.input_fields.items() if n in case}
        given = {n: v for n, v in given.items() if v is not _UNKNOWN_TOOLS}
        try:
            return check_inputs(predictor.signature, given, "a step")
        except InputError as error:
            raise _UnfitError(MISFIT if error.field in given else MISSING) from error

    def _restored(self, field: Field, value: Any) -> Any:
        """Return the value of an input, with tools in place of their names."""
        names = value if isinstance(value, (list, tuple)) else [value]
        if not any(holds(kind, ToolForm) for kind in field.kinds) or not all(isinstance(n, str) for n in names):
            return value
        if not all(n in self.tools for n in names):
            return _UNKNOWN_TOOLS  # the field's default may know them
        found = [self.tools[n] for n in names]
        return found if names is value else found[0]


_UNKNOWN_TOOLS: Any = object()


class _UnfitError(Exception):
    """A step is not fit to learn from; the message is the reason that is counted."""


def _check_writable(path: str, predictor: Predict[Any]) -> None:
    likes = settings.adapter if predictor.adapter is None else predictor.adapter
    adapter = resolve(likes, (predictor.lm or current_lm()).capabilities)
    if any(a.asks for a in adapter.chain):
        whose = f"predictor `{path}`" if path else "the program"
        raise UsageError(
            f"{whose} has the adapter `{adapter.name}`, whose model answers in words of its own: what it is "
            "to learn cannot be written. Give the student another adapter: program.using(adapter='chat'). "
            "No model was called."
        )


def _check_went_plainly(step: Mapping[str, Any]) -> None:
    """Raise _UnfitError for a step whose outputs are not what a model should answer."""
    noted = step.get("noted") or {}
    if step.get("superseded"):
        raise _UnfitError("superseded")
    if not step["outputs"]:
        raise _UnfitError("step failed")
    if any(kind == "repair turn" or kind.startswith("fallback to ") for kind in noted):
        raise _UnfitError("repaired")
    if "truncated answer" in noted:
        raise _UnfitError("truncated")


def _outputs(fields: Mapping[str, Field], case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs, in the types of their fields."""
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in case and not field.optional:
            raise _UnfitError(MISSING)
        try:
            value = case[name] if name in case else field.absent_value()
            found[name] = field.adapter.validate_python(value) if field.typed else value
        except pydantic.ValidationError as error:
            raise _UnfitError(MISFIT) from error
    return found


def _tools_in(value: Any) -> Iterator[ToolForm]:
    if isinstance(value, ToolForm):
        yield value
    elif isinstance(value, (list, tuple)):
        yield from (v for v in value if isinstance(v, ToolForm))
    elif isinstance(value, Mapping):
        yield from (v for v in value.values() if isinstance(v, ToolForm))
