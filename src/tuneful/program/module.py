"""Module: a program, or a part of one: a tree of named parts with a `forward` in plain Python."""

from __future__ import annotations

import copy
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from tuneful.errors import InputError, UsageError, nearest
from tuneful.program import state
from tuneful.program.constraint import Backtrack, Retracing
from tuneful.program.parameter import Parameter, Tunable, frozen_test, pattern_of
from tuneful.program.running.concurrency import gather_bounded, in_flight
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import inspect_history
from tuneful.program.trace import current_recorder, recording
from tuneful.program.tree import Part, parts_in, substituted, walk
from tuneful.program.watching import streaming
from tuneful.program.watching.events import Event
from tuneful.program.watching.watched import watched
from tuneful.spec.example import Example
from tuneful.spec.prediction import Prediction

if TYPE_CHECKING:
    from pathlib import Path

    from tuneful.program.lm import LM
    from tuneful.program.predict import Predict
    from tuneful.program.rendered import Rendered


class Module(Part):
    """A program or a part of one.

    Declare the parts in `__init__` (modules as attributes, in lists, tuples or dicts, nested as you like; your own
    numbers as `Choice`, `Integer`, `Real`), and write what it does in `forward`, as `def` or `async def`:

        class Answer(tf.Module):
            def __init__(self):
                self.k = tf.Choice([1, 3, 5], default=3)
                self.retrieve = tf.Retrieve()
                self.answer = tf.ChainOfThought("context: list[str], question -> answer")

            def forward(self, question):
                passages = self.retrieve(question, k=self.k).passages
                return self.answer(context=passages, question=question)

    `program(...)` runs it and blocks; `await program.acall(...)` runs it in an event loop. Copies of a program share
    what cannot be copied, such as a connection to a database.
    """

    def __init__(self) -> None:
        """Nothing to do: calling `super().__init__()` is optional in a subclass."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if shared := [name for name, value in cls.__dict__.items() if isinstance(value, Tunable)]:
            raise UsageError(
                f"{cls.__name__}.{shared[0]} is declared in the class, where programs would share it. Declare it in "
                f"`__init__`: self.{shared[0]} = ..."
            )
        if "forward" in cls.__dict__:  # it may wait for anything
            cls._drivable = bool(cls.__dict__.get("_drivable", False))

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tunable):
            if name in self._own_names:
                raise UsageError(
                    f"`{name}` of {type(self).__name__} is a parameter already, which teleprompters choose: give it a "
                    "plain value. `Tune` and `MIPROv2` take adapters, models and temperatures to choose among."
                )
            self.__dict__.pop(name, None)  # a plain value of that name would hide it
            self.__dict__.setdefault("_tunables", {})[name] = value
        elif name in self.__dict__.get("_tunables", {}):
            self.__dict__["_tunables"][name] = self.__dict__["_tunables"][name].with_value(value)
        else:
            _refuse_hidden(name, value)
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        tunables = self.__dict__.get("_tunables", {})
        if name in tunables:
            return tunables[name].value
        raise AttributeError(f"{type(self).__name__} has no attribute `{name}`.{nearest(name, self.__dict__)}")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the program does. Write it in a subclass, as `def` or `async def`."""
        raise UsageError(f"{type(self).__name__} has no `forward`: write what it does as `def forward(self, ...)`.")

    # --- running ---

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program and block until it is done."""
        if _is_async(self):
            work = self.acall(*args, **kwargs)
            return portal.drive(work) if self._drivable else portal.run(work)
        if portal.inside():
            raise portal.refusal(
                f"{type(self).__name__} was called in the blocking way inside `async def forward`. "
                "Write `await self.step.acall(...)` there."
            )
        if current_recorder() is not None:
            return self._plainly(args, kwargs)
        with recording(self) as recorder:
            return _with_trace(self._plainly(args, kwargs), recorder.trace)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program in the current event loop. A plain `forward` runs in a worker thread."""
        if current_recorder() is not None:
            return await self._aforward(args, kwargs)
        with recording(self) as recorder:
            return _with_trace(await self._aforward(args, kwargs), recorder.trace)

    @watched("module", lambda self, args, kwargs: (self, self._by_name(args, kwargs)))
    async def _aforward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._is_predictor:
            return await self._forward(args, kwargs)
        with Retracing() as retracing:
            try:
                return await self._once(args, kwargs)
            except Backtrack as wish:
                failed = wish
            while True:
                with retracing.back(failed):
                    try:
                        return await self._once(args, kwargs)
                    except Backtrack as wish:
                        failed = wish

    async def _once(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _is_async(self):
            return await self._forward(args, kwargs)
        return await portal.in_thread(lambda: self._forward(args, kwargs))

    @watched("module", lambda self, args, kwargs: (self, self._by_name(args, kwargs)))
    def _plainly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with Retracing() as retracing:
            try:
                return self._forward(args, kwargs)
            except Backtrack as wish:
                failed = wish
            while True:
                with retracing.back(failed):
                    try:
                        return self._forward(args, kwargs)
                    except Backtrack as wish:
                        failed = wish

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by their names, as callbacks are told of them."""
        names = list(inspect.signature(self.forward).parameters) if args else []
        return {**dict(zip(names, args, strict=False)), **kwargs}

    def _forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call `forward` once its arguments are known to fit, so that a slip costs no call."""
        try:
            return self.forward(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # it comes from inside of `forward`
            raise InputError(
                f"{type(self).__name__}.forward{inspect.signature(self.forward)} cannot take these arguments: {error}. "
                "No model was called."
            ) from error

    def stream(self, *args: Any, **kwargs: Any) -> Generator[Event, None, None]:
        """Run the program and iterate over what its predictors write, blocking between the events.

        Events carry the predictor's path; the last is `Finished` with what the program returned. What the program
        raises is raised by the iterator. Leaving it early (`break`, `close()`) cancels the run.
        """
        return streaming.stream(self, args, kwargs)

    def astream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Event, None]:
        """Do what `stream` does, in the current event loop: `async for event in program.astream(...)`."""
        return streaming.astream(self, args, kwargs)

    def batch(
        self,
        examples: Sequence[Example | Mapping[str, Any]],
        num_threads: int | None = None,
        *,
        return_failed_examples: bool = False,
    ) -> Any:
        """Run the program on many examples at once and block.

        Args:
            examples: examples with inputs marked, or mappings of inputs.
            num_threads: runs in flight; by default the setting, or as many as there are with an LM that batches.
            return_failed_examples: return (results, failed examples, their errors) and put None for a failure. By
                default the first failure is raised.
        """
        return portal.run(self.abatch(examples, num_threads, return_failed_examples=return_failed_examples))

    async def abatch(
        self,
        examples: Sequence[Example | Mapping[str, Any]],
        num_threads: int | None = None,
        *,
        return_failed_examples: bool = False,
    ) -> Any:
        """Do what `batch` does, in the current event loop."""
        inputs = [dict(e.inputs().items()) if isinstance(e, Example) else dict(e) for e in examples]

        async def one(given: dict[str, Any]) -> Any:
            return await self.acall(**given)

        outcomes = await gather_bounded(inputs, one, in_flight(num_threads, self), keep_errors=return_failed_examples)
        if not return_failed_examples:
            return outcomes
        failed = [(e, o) for e, o in zip(examples, outcomes, strict=True) if isinstance(o, Exception)]
        results = [None if isinstance(o, Exception) else o for o in outcomes]
        return results, [e for e, _ in failed], [o for _, o in failed]

    # --- the tree ---

    def named_sub_modules(self) -> list[tuple[str, Module]]:
        """Return every part with its path, this module itself first under "". A shared part counts once."""
        return list(walk(self))

    def named_predictors(self) -> list[tuple[str, Predict[Any]]]:
        """Return the predictors, the leaves that ask a model, with their paths."""
        return [(path, m) for path, m in self.named_sub_modules() if m._is_predictor]  # type: ignore[misc]

    _is_predictor = False
    #: Attributes that are parameters by themselves.
    _own_names: frozenset[str] = frozenset()

    #: Whether `forward` waits for nothing but predictors and other such modules, so that a blocking call needs no loop.
    _drivable = False

    def predictors(self) -> list[Predict[Any]]:
        """Return the predictors."""
        return [p for _, p in self.named_predictors()]

    def map_named_predictors(self, function: Callable[[Predict[Any]], Predict[Any]]) -> Self:
        """Replace each predictor, wherever it is used, by what `function` makes of it. Returns self.

        A program that is a single predictor returns what `function` makes of it.
        """
        new: dict[int, Any] = {id(p): function(p) for p in self.predictors()}
        for _, module in self.named_sub_modules():
            for name, value in module.__dict__.items():
                module.__dict__[name] = substituted(value, new)
        found: Self = new.get(id(self), self)
        return found

    # --- parameters ---

    def parameters(self) -> dict[str, Parameter]:
        """Return everything that a teleprompter may set, by path: see `Parameter`. Frozen ones are marked."""
        found: dict[str, Parameter] = {}
        parts = self.named_sub_modules()
        for path, module in parts:
            prefix = f"{path}." if path else ""
            frozen = frozen_test(parts, path)
            for name, (kind, value, space) in module._own_parameters().items():
                full = prefix + name
                found[full] = Parameter(full, kind, value, frozen(full), space)
        return found

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """Return `parameters()` as pairs."""
        return list(self.parameters().items())

    def _made_with(self) -> dict[str, Any]:
        """Return arguments of the constructor, as JSON values, without which saved parameters make another program."""
        return {}

    def _own_parameters(self) -> dict[str, tuple[Any, Any, Tunable | None]]:
        return {n: (t.kind, t.value, t) for n, t in self.__dict__.get("_tunables", {}).items()}

    def _set_parameter(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def with_parameters(self, values: Mapping[str, Any]) -> Self:
        """Return a copy of the program with some parameters set.

        Args:
            values: JSON values by path, as `parameters()` names them.

        Raises:
            UsageError: an unknown path (the nearest is named), or a value outside its space.
        """
        known = self.parameters()
        for path in values:
            if path not in known:
                raise UsageError(
                    f"the program has no parameter `{path}`.{nearest(path, known)} It has: {', '.join(known)}."
                )
        program = self.deepcopy()
        program._assign(values)
        return program

    def _assign(self, values: Mapping[str, Any]) -> None:
        """Set parameters of this program itself, by path."""
        modules = dict(self.named_sub_modules())
        for path, value in values.items():
            owner, _, name = path.rpartition(".")
            modules[owner]._set_parameter(name, copy.deepcopy(value))

    def freeze(self, *patterns: str) -> Self:
        """Keep teleprompters away from the parameters that match: "answer.*", "*.instructions". Returns self.

        Raises UsageError for a pattern that matches nothing.
        """
        known = self.parameters()
        for pattern in patterns:
            if not any(pattern_of(pattern).fullmatch(path) for path in known):
                raise UsageError(
                    f"`{pattern}` matches no parameter.{nearest(pattern, known)} There are: {', '.join(known)}."
                )
        self.__dict__["_frozen"] = (*self.__dict__.get("_frozen", ()), *(patterns or ("*",)))
        return self

    def unfreeze(self) -> Self:
        """Undo every `freeze` of this module. Returns self."""
        self.__dict__.pop("_frozen", None)
        return self

    # --- copies ---

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        for name, value in self.__dict__.items():
            known = len(memo)
            try:
                twin.__dict__[name] = copy.deepcopy(value, memo)
            except TypeError as error:  # a connection, a lock: there is one of it
                if any(parts_in(value, name, set())):
                    raise UsageError(
                        f"`{name}` of {type(self).__name__} holds modules beside something that cannot be copied "
                        f"({error}). Keep the two in attributes of their own."
                    ) from error
                for half_made in list(memo)[known:]:
                    del memo[half_made]
                twin.__dict__[name] = memo[id(value)] = value
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to another process: all but the report, of which provenance stays, as in a saved file."""
        kept = {name: value for name, value in self.__dict__.items() if name != "_report"}
        return kept if self.report is None else {**kept, "_provenance": self.report.provenance()}

    def deepcopy(self) -> Self:
        """Return a copy that shares nothing that can change, but for LMs and what cannot be copied."""
        return copy.deepcopy(self)

    def reset_copy(self) -> Self:
        """Return a copy with demos dropped. Instructions, wording, numbers and LMs stay."""
        program = self.deepcopy()
        for predictor in program.predictors():
            predictor.reset()
        return program

    def set_lm(self, lm: LM | None) -> None:
        """Give every predictor this LM; None makes them use the configured one."""
        for predictor in self.predictors():
            predictor.lm = lm

    def set_embedder(self, embedder: Any) -> None:
        """Give every predictor this embedder, by which it picks the demos of its pool (see `KNNFewShot`).

        Needed before loading a program whose demos were picked with a function of yours, since functions are not
        saved. The embedder of a named model is made again from its name.

        Args:
            embedder: a `tf.Embedder`, a model's name, or a function from texts to vectors.
        """
        for predictor in self.predictors():
            predictor.set_embedder(embedder)

    def get_lm(self) -> LM | None:
        """Return the LM that all predictors share, None meaning the configured one. UsageError where they differ."""
        found = {id(p.lm): p.lm for p in self.predictors()}
        if len(found) > 1:
            raise UsageError(f"the predictors have {len(found)} different LMs; look at each predictor's `lm`.")
        return next(iter(found.values()), None)

    def using(self, *, lm: LM | None = None, adapter: Any = None, **sampling: Any) -> Self:
        """Return the program bound to an LM, an adapter or sampling options. This one is not changed.

        A predictor that is bound inside a `forward` keeps its path in traces.
        """
        program = copy.deepcopy(self, {"keep_tokens": True})  # type: ignore[dict-item]
        for predictor in program.predictors():
            predictor.bind(lm=lm, adapter=adapter, **sampling)
        return program

    # --- looking, saving ---

    def render(self, **inputs: Any) -> Rendered | dict[str, Rendered]:
        """Return the exact messages that would be sent, with token counts. No model is called.

        A predictor renders its inputs. A larger program returns one entry for each predictor, by path, with the
        inputs that it will only know when it runs shown as `{name}`.
        """
        return {path: p.render(**inputs) for path, p in self.named_predictors()}

    def inspect_history(self, n: int = 1, file: Any = None) -> None:
        """Print the last n calls of this process."""
        inspect_history(n, file)

    def dump_state(self) -> dict[str, Any]:
        """Return the program's state as JSON values; see `tuneful.program.state`."""
        return state.dump_state(self)

    def load_state(self, saved: Mapping[str, Any]) -> Self:
        """Set this program's parameters from a state. Raises StateError where it does not fit."""
        state.load_state(self, saved)
        return self

    def save(self, path: str | Path) -> None:
        """Write the program's state to a JSON file: parameters and provenance, never code, keys or history."""
        state.save(self, path)

    def load(self, path: str | Path) -> Self:
        """Read a state from a JSON file into this program and return it. Raises StateError where it does not fit."""
        state.load(self, path)
        return self

    @property
    def report(self) -> Any:
        """What the teleprompter that compiled this program has to say, or None."""
        return self.__dict__.get("_report")

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}("]
        for name, tunable in self.__dict__.get("_tunables", {}).items():
            lines.append(f"  {name} = {tunable.value!r}  # {tunable.kind}")
        for path, predictor in self.named_predictors():
            lines.append(f"  {path} = {predictor!r}")
        return "\n".join([*lines, ")"]) if len(lines) > 1 else f"{type(self).__name__}()"


def _refuse_hidden(name: str, value: Any) -> None:
    """Raise for a number to tune inside a list, tuple or dict, where it has no path and would never be tuned."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    if found := next((v for v in inside if isinstance(v, Tunable)), None):
        raise UsageError(
            f"`{name}` holds a {type(found).__name__} in a {type(value).__name__}, where no teleprompter finds it. "
            f"Give each an attribute of its own, such as self.{name}_0 = ..."
        )


_async_function = lru_cache(maxsize=1024)(inspect.iscoroutinefunction)


def _is_async(module: Module) -> bool:
    """Whether a module's `forward` is asynchronous."""
    return bool(_async_function(getattr(module.forward, "__func__", module.forward)))


def _with_trace(result: Any, trace: Any) -> Any:
    if isinstance(result, Prediction):
        result.__dict__["_trace"] = trace
    return result
