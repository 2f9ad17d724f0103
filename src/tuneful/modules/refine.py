"""Refine: several attempts of a program, each with advice on what was wrong with the one before."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar

from tuneful.errors import AdapterParseError
from tuneful.modules.attempt import Attempt
from tuneful.modules.best_of_n import BestOfN, Reward
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.program.trace import Trace, current_recorder, paths_of
from tuneful.spec.example import Example
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.signature import Signature

M = TypeVar("M", bound=Module)

#: Characters of one value, and of a source text, that the adviser is shown at the most.
_VALUE_CHARS = 1_500
_SOURCE_CHARS = 4_000

HINT = "hint_"


class Advise(Signature):
    """A program of several steps was run, and its reward is below the target. Give advice for the next run.

    Find out from what each step was given and wrote which of them is to blame for the low reward. Write for every step
    that can help one short piece of advice: what to do otherwise, said so that it can be followed with no knowledge of
    the other steps. Leave out the steps that were right. Advise on the way, and do not give the answer itself away.
    """

    steps: str = InputField(desc="the steps: name, what each is given and writes, and its instructions")
    source: str = InputField(desc="the source text of the program, where it is known")
    reward_source: str = InputField(desc="how the reward is computed")
    inputs: str = InputField(desc="what the program was given")
    run: str = InputField(desc="what each step was given and wrote, in order")
    outcome: str = InputField(desc="what the program returned, or how it failed")
    reward: str = InputField(desc="the reward of the run, and words about it where there are any")
    target: float = InputField(desc="the reward that is wanted")
    discussion: str = OutputField(desc="what went wrong, and in which step")
    advice: dict[str, str] = OutputField(desc="one piece of advice for each step that can help, by the step's name")


class Refine(BestOfN):
    """Run a program up to N times, as `BestOfN` does, and tell its predictors after each miss what to do otherwise.

    >>> from tuneful.testing import DummyLM
    >>> def short(args, prediction):
    ...     "One word is enough."
    ...     return len(prediction.title.split()) == 1
    >>> refine = Refine(Predict("topic -> title"), N=2, reward_fn=short, threshold=1)
    >>> lm = DummyLM([
    ...     {"title": "All about rivers"},
    ...     {"discussion": "Too long.", "advice": {"module": "Write one word."}},
    ...     {"title": "Rivers"},
    ... ])
    >>> refine.using(lm=lm)(topic="rivers").title
    'Rivers'
    >>> "Write one word." in lm.requests[-1].messages[-1].text
    True

    Advice is asked for with the predictor `feedback`, a part of this module like any other: it may have an LM of its
    own, demos, other instructions. It sees steps, inputs, outputs, the reward, the reward's own words (a `Score` with
    `feedback`) and its source. What it says reaches each predictor of a copy of the program as a further input,
    `hint_`; the program itself is never changed. Use `BestOfN` where the model is too small to advise.

    Args:
        module, N, reward_fn, threshold, fail_count: as for `BestOfN`. An attempt that raises is advised on too.

    Cost: from 1 to N runs of the program, and 1 call for advice between two runs: at most N - 1.

    Source: Madaan et al. (2023), "Self-Refine: Iterative Refinement with Self-Feedback", with a reward that decides
    when it ends, and with advice for each step of a program in place of one text.
    """

    _differing = False

    def __init__(
        self,
        module: Module,
        N: int,  # noqa: N803 (DSPy's name)
        reward_fn: Reward,
        threshold: float,
        fail_count: int | None = None,
    ) -> None:
        super().__init__(module, N, reward_fn, threshold, fail_count)
        self.feedback = Predict(Advise)

    async def _next(self, program: Module, attempt: Attempt, inputs: Mapping[str, Any]) -> Module:
        """Return the program with advice for its predictors. Where none can be read, it runs again without."""
        names = _names(program)
        try:
            said = await self.feedback.acall(
                steps="\n".join(_described(p, names[id(p.token)]) for p in program.predictors()) or "none",
                source=_source(type(program)) if not type(program).__module__.startswith("tuneful.") else "unknown",
                reward_source=_source(self.reward_fn),
                inputs=_shown(inputs),
                run=_told(attempt.trace),
                outcome=_outcome(attempt),
                reward=_reward_in_words(attempt),
                target=self.threshold,
            )
        except AdapterParseError:  # the step in the trace holds it
            return program
        return hinted(program, said.advice, names)


def hinted(program: M, advice: Mapping[str, str], names: Mapping[int, str]) -> M:
    """Return a copy of a program in which each predictor that is advised has a further input with its advice.

    Args:
        program: the program.
        advice: by the predictor's name. Where there is one predictor, whatever is said is meant for it.
        names: of the predictors, by the identity of their tokens.
    """
    program = program.using()
    predictors = program.predictors()
    for predictor in predictors:
        name = names[id(predictor.token)]
        text = advice.get(name) or ("\n".join(advice.values()) if len(predictors) == 1 else "")
        if text:
            field = InputField(desc="advice from an earlier attempt at this very task", default=text)
            predictor.signature = predictor.signature.append(_free_name(predictor.signature), field, str)
    return program


def _free_name(signature: Signature) -> str:
    name = HINT
    while name in signature.fields:
        name += "_"
    return name


def _names(program: Module) -> dict[int, str]:
    """Return the names of a program's predictors as the trace has them."""
    recorder = current_recorder()
    if recorder is None:
        return {token: path or "program" for token, path in paths_of(program).items()}
    return {id(p.token): recorder.path_of(p.token) for p in program.predictors()}


def _described(predictor: Predict[Any], name: str) -> str:
    return f"- {name}: {predictor.signature}\n{textwrap.indent(predictor.signature.instructions, '    ')}"


def _told(trace: Trace) -> str:
    """Return what the steps of an attempt were given and wrote."""
    rows = [
        f"{step.path}\n  given: {_shown(step.inputs)}\n  wrote: {step.error or _shown(step.outputs)}" for step in trace
    ]
    return "\n".join(rows) or "no step was run"


def _outcome(attempt: Attempt) -> str:
    if attempt.error is not None:
        return _cut(f"it failed with {type(attempt.error).__name__}: {attempt.error}")
    found = attempt.prediction
    return _shown(found) if isinstance(found, (Mapping, Example)) else _cut(repr(found))


def _reward_in_words(attempt: Attempt) -> str:
    if attempt.reward is None:
        return "none, since it failed"
    return f"{attempt.reward:g}" + (f"; {attempt.feedback}" if attempt.feedback else "")


def _shown(values: Mapping[str, Any] | Example) -> str:
    """Return values as JSON, the long ones cut."""
    plain = Example(values).to_dict()
    return json.dumps({n: v if _short(v) else _cut(_json(v)) for n, v in plain.items()}, ensure_ascii=False)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> bool:
    return len(_json(value)) <= _VALUE_CHARS


def _cut(text: str, most: int = _VALUE_CHARS) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def _source(thing: Any) -> str:
    """Return the source of a function or a class; where there is none, what it says of itself."""
    try:
        found = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        found = inspect.getdoc(thing) or str(getattr(thing, "__name__", type(thing).__name__))
    return _cut(found, _SOURCE_CHARS)
