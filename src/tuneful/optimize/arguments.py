"""Arguments: what teleprompters are constructed with, checked by name, so that each name means the same everywhere."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import wraps
from types import NoneType
from typing import Any, TypeVar

from tuneful.errors import MetricError, UsageError, nearest
from tuneful.program.lm import LM
from tuneful.program.parameter import checked_whole
from tuneful.program.running.runtime import context

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., None])

#: The least of what counts something.
_WHOLE = {
    "max_bootstrapped_demos": 0,
    "max_labeled_demos": 0,
    "max_rounds": 1,
    "max_errors": 0,
    "num_candidate_programs": 0,
    "num_threads": 1,
    "view_data_batch_size": 1,
}
#: The least of other numbers.
_NUMBERS = {
    "metric_threshold": -math.inf,
    "stop_at_score": -math.inf,
    "failure_score": -math.inf,
    "perfect_score": -math.inf,
    "init_temperature": 0.0,
    "temperature_for_sampling": 0.0,
    "temperature_for_candidates": 0.0,
}

_MODEL = ((LM, NoneType), "an LM, such as tf.LM('openai/gpt-4o')")
#: What the others are, and how to write them.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "prompt_model": _MODEL,
    "reflection_lm": _MODEL,
    "teacher_settings": ((Mapping, NoneType), "settings by name, such as {'lm': tf.LM('openai/gpt-4o')}"),
}

_OF_COMPILE = "It is an argument of `compile`: compile(student, trainset=..., {name}=...)."
_REPORTED = "Leave it out: `program.report` always tells all that was tried, and report.save('report.html') shows it."
_FOLLOWED = (
    "Leave it out: give a `tf.Callback` to tf.configure(callbacks=[...]), which is told of every call and score."
)
#: What to write instead of arguments that teleprompters of DSPy have, and none has here.
_INSTEAD = {
    **dict.fromkeys(("trainset", "valset", "teacher", "budget", "run", "history", "objectives", "seed"), _OF_COMPILE),
    **dict.fromkeys(("track_stats", "track_best_outputs", "verbose"), _REPORTED),
    **dict.fromkeys(("use_wandb", "use_mlflow", "wandb_api_key", "wandb_init_kwargs"), _FOLLOWED),
    "adapter": "Set it where it belongs, on the program or in tf.configure(adapter=...).",
    "deterministic": "Leave it out: it always is, with members drawn by `seed` and inputs.",
    "eval_kwargs": "Give `num_threads` by itself; the rest is shown by tf.configure and the report.",
    "instruction_proposer": "Set it afterwards: teleprompter.proposers['reflection'] = program.",
    "log_dir": "Name the run instead: compile(..., run='name') goes on where it was, and `tuneful runs` lists it.",
    "max_demos": "It is `max_bootstrapped_demos` here: the most runs that a predictor shows.",
    "provide_traceback": "Leave it out: errors always have theirs.",
    "requires_permission_to_run": "Leave it out: nobody is asked. `plan(...)` says beforehand what it will cost.",
    "restrict": "All candidates are in the search; `num_candidate_programs` says how many.",
    "task_model": "The program's own LM is asked: compile(program.using(lm=tf.LM(...)), ...).",
    "valset_ratio": "Give the rows themselves: compile(..., valset=rows). By default some are held out.",
}


def checked(init: F) -> F:
    """Have the arguments of a teleprompter's constructor checked before it runs, and kept for `anew`."""
    shape = inspect.signature(init)

    @wraps(init)
    def around(self: Any, *args: Any, **kwargs: Any) -> None:
        given = _bound(type(self).__name__, shape, (self, *args), kwargs)
        for name, parameter in shape.parameters.items():
            if name in given and (given[name] is not None or parameter.default is not None):
                _check(name, given[name])
        self.__dict__.setdefault("_given", given)  # of the outermost class, whose constructor comes first
        init(self, *args, **kwargs)

    return around  # type: ignore[return-value]


def anew(teleprompter: T, settings: Mapping[str, Any]) -> T:
    """Return a teleprompter made anew with some arguments changed; what proposes for it stays."""
    given: Mapping[str, Any] | None = teleprompter.__dict__.get("_given")
    if given is None:
        raise UsageError(f"{type(teleprompter).__name__} has no constructor that could take {', '.join(settings)}.")
    twin = type(teleprompter)(**{**given, **settings})
    if "proposers" in teleprompter.__dict__ and "init_temperature" not in settings:
        twin.__dict__["proposers"] = teleprompter.__dict__["proposers"]
    return twin


def _bound(owner: str, shape: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor by name. Raises UsageError for unknown and missing ones."""
    known = [name for name, p in shape.parameters.items() if p.kind is not p.VAR_KEYWORD][1:]
    others = next((name for name, p in shape.parameters.items() if p.kind is p.VAR_KEYWORD), None)
    takes = f"It takes {', '.join(known)}."
    for name in kwargs:
        if name not in known and (others is None or name in _INSTEAD):
            advice = _INSTEAD.get(name, "").format(name=name) or nearest(name, known).strip() or takes
            raise UsageError(f"{owner} has no argument `{name}`. {advice}")
    try:
        found = shape.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise UsageError(f"{owner}: {error}. {takes}") from error
    return {**{name: found[name] for name in known if name in found}, **found.get(others or "", {})}


def _check(name: str, value: Any) -> None:
    if name in _WHOLE:
        checked_whole(name, value, _WHOLE[name])
    if name in _NUMBERS and not (_is_number(value) and value >= _NUMBERS[name]):
        least = "" if _NUMBERS[name] == -math.inf else f" of at least {_NUMBERS[name]:g}"
        raise UsageError(f"`{name}` is {value!r:.80}; expected a number{least}.")
    if name in _KINDS and not isinstance(value, _KINDS[name][0]):
        raise UsageError(f"`{name}` is {value!r:.80}; expected {_KINDS[name][1]}.")
    if name == "teacher_settings" and value is not None:
        try:
            with context(**value):
                pass
        except UsageError as error:
            raise UsageError(f"`teacher_settings` cannot be in force: {error}") from error
    if name == "metric" and value is not None and not callable(value):
        raise MetricError(
            f"`metric` is {value!r:.80}; expected a function: def metric(example, prediction, trace=None)."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
