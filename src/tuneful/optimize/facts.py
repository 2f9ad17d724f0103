"""Facts: what tells one value from another, as JSON values that are the same in every process.

A value is what it is made of. Of a function that is its code, its defaults, and what it takes from around it: free
variables, and the globals that it reads, functions and classes among them. Of a class of the user's own, its members
and its bases. Of a program, its attributes, its parameters, and the LMs that answer. Of any other object, the state
that pickle would take: all of it where the class says what that is (`__getstate__`, `__reduce__`, as numbers, dates and
arrays do) or is the user's own. An object with `content_hash()` is what that says.

What cannot be told apart in a way that holds in another process counts less, on purpose:

- an object of an installed package that does not say what its state is (a client, a thread pool) counts by its class
  and its public attributes, since what it keeps to itself are connections, clocks and counters;
- what pickle refuses (a lock, a connection) counts by its class, its public attributes, and those that a class of the
  user's own has given it;
- code of installed packages counts by name where the user's code calls it, and by its own code, not by what that calls,
  where a program or a metric is made of it.

Whoever has an object that holds more than what decides its answers (a log, a cache, the time) gives its class a
`__getstate__` without that.
"""

from __future__ import annotations

import copyreg
import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from tuneful.adapters.base import Adapter
from tuneful.adapters.fallback import FallbackAdapter
from tuneful.adapters.select import ADAPTERS
from tuneful.backends.rebuilt import Rebuilt
from tuneful.errors import NotConfiguredError
from tuneful.optimize.code_of import around, code_of, is_own
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.spec.signature import Signature

#: Attributes of modules that decide no answer, or are told as parameters.
_ELSEWHERE = frozenset({"_tunables", "_report", "_provenance", "_frozen"})
_OF_PREDICTORS = _ELSEWHERE | {"demos", "demo_pool", "sampling", "lm", "token"}

_PLAIN = frozenset({type(None), bool, float, str})
_PROTOCOL = 4  # all of the state, and none of it out of band

#: Most rounds in which things are told apart by what they name.
_ROUNDS = 16

#: What holds code, bare or in a wrapping of Python's own.
_CODE = (FunctionType, type, MethodType, property, staticmethod, classmethod)


def hash_of(value: Any) -> str:
    """Return a hash of a JSON value."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    ).hexdigest()[:24]


class Facts:
    """Tells values apart. Looks once at each function and class: what is around it then counts, not what a run leaves.

    One serves one compile, so that a function that a run gives something to (a log, a counter) stays what it was.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}  # with the thing, so that no other gets its id

    def of(self, value: Any, parts: frozenset[int] = frozenset()) -> str:
        """Return a hash of the facts of a value; of modules whose ids are among `parts`, without their parameters."""
        return _Walk(self, parts, code=isinstance(value, (FunctionType, type))).of(value)

    def of_code(self, thing: FunctionType | type) -> str:
        """Return a hash of the facts of a function or a class."""
        if id(thing) not in self._known:
            self._known[id(thing)] = thing, self.of(thing)
        return self._known[id(thing)][1]


@dataclasses.dataclass(slots=True)
class _Links:
    """The numbers of the things that a thing names: in their order, and those that have none, as members of a set."""

    ordered: list[int] = dataclasses.field(default_factory=list)
    loose: list[int] = dataclasses.field(default_factory=list)


class _Walk:
    """One look at a value: whatever may hold itself gets a number, and is told once.

    Functions and classes within a program are told in walks of their own, once for all copies of the program.
    """

    def __init__(self, facts: Facts, parts: frozenset[int], *, code: bool) -> None:
        self._facts, self._parts, self._in_code = facts, parts, code
        self._numbers: dict[int, int] = {}
        self._things: list[Any] = []  # held, so that no other gets the id of one of them
        self._links = _Links()

    def of(self, value: Any) -> str:
        self._number((value,))
        shapes, links = [], []
        for thing in self._things:  # more come while they are told
            self._links = _Links()
            shapes.append(hash_of(self._told(thing)))
            links.append(self._links)
        return _joined(shapes, links)

    # --- what stands where a value is named ---

    def _short(self, value: Any) -> Any:
        kind = type(value)
        if _is_plain(value):
            return value
        if kind is int:
            return ["int", hex(value)]
        if kind is tuple:
            return ["tuple", *map(self._short, value)]
        if kind in (bytes, bytearray):
            return ["bytes", hashlib.sha256(value).hexdigest()]
        if isinstance(value, (type, FunctionType)) and not self._in_code:
            return ["code", self._facts.of_code(value)]
        if isinstance(value, type) and not _is_told(value):
            return ["class", _name(value)]
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        if isinstance(value, (LM, Adapter)):
            return self._model(value) if isinstance(value, LM) else self._adapter(value)
        return self._linked(value)

    def _linked(self, value: Any) -> list[str]:
        self._links.ordered.append(self._number(value))
        return ["#"]

    def _number(self, value: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._things)
            self._things.append(value)
        return self._numbers[id(value)]

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {str(name): self._short(values[name]) for name in sorted(values, key=str)}

    def _model(self, lm: LM) -> list[Any]:
        return ["LM", lm.endpoint, lm.sampling.to_json(), getattr(lm, "_extra", ())]

    def _adapter(self, adapter: Any) -> Any:
        """Return an adapter by its name where that finds it: one object is as good as another."""
        if isinstance(adapter, FallbackAdapter):
            adapter = adapter.adapters
        if isinstance(adapter, (list, tuple)):
            members = [self._adapter(member) for member in adapter]
            return ">".join(members) if all(isinstance(m, str) for m in members) else members
        if not isinstance(adapter, Adapter):
            return self._short(adapter)
        usual = ADAPTERS.get(adapter.name)
        is_usual = type(usual) is type(adapter) and vars(usual) == vars(adapter)
        return adapter.name if is_usual else self._linked(adapter)

    # --- what is told of it ---

    def _told(self, value: Any) -> list[Any]:
        kind = type(value)
        if kind in (list, tuple):
            return [kind.__name__, *map(self._short, value)]
        if kind is dict:
            return ["dict", self._pairs(value.items())]
        if kind in (set, frozenset):
            plain = sorted(ascii(v) for v in value if _is_plain(v))
            self._links.loose += [self._number((v,)) for v in value if not _is_plain(v)]
            return [kind.__name__, *plain]
        if isinstance(value, _CODE):
            return self._code(value)
        match value:
            case Module():
                return self._module(value)
            case Signature():
                return ["signature", value.name, value.instructions, *map(self._short, value.fields.values())]
            case Enum():
                return ["enum", self._short(kind), value.name, self._short(value.value)]
        return self._object(value)

    def _pairs(self, items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        """Return the items of a mapping: mappings that are equal are told alike, whatever their order."""
        named = {}
        for key, value in items:
            if _is_plain(key):
                named[ascii(key)] = value
            else:
                self._links.loose.append(self._number((key, value)))
        return self._named(named)

    def _code(self, value: Any) -> list[Any]:
        match value:
            case FunctionType():
                return self._function(value)
            case type():
                return self._class(value)
            case MethodType():
                return ["method", self._short(value.__func__), self._short(value.__self__)]
            case property():
                return ["property", *map(self._short, (value.fget, value.fset, value.fdel))]
        return [type(value).__name__, self._short(value.__func__)]

    def _function(self, function: FunctionType) -> list[Any]:
        given = [function.__defaults__, function.__kwdefaults__, vars(function) or None]
        outside = self._named(around(function))
        return ["function", code_of(function.__code__).digest, *map(self._short, given), outside]

    def _class(self, kind: type) -> list[Any]:
        members = {n: v for n, v in vars(kind).items() if not _is_dunder(n) or isinstance(v, FunctionType)}
        try:
            types = inspect.get_annotations(kind) if is_own(kind.__module__) else {}
        except Exception:  # noqa: BLE001 (newer Pythons run code of the user's here)
            types = {}
        told = self._named(members)
        return ["class", _name(kind), [self._short(base) for base in kind.__bases__], told, self._named(types)]

    def _module(self, module: Module) -> list[Any]:
        """Return the facts of a program or a part of one. The values of its parameters are JSON."""
        left_out = _OF_PREDICTORS if isinstance(module, Predict) else _ELSEWHERE
        own = {n: v for n, v in vars(module).items() if n not in left_out}
        told = ["program", self._short(type(module)), self._named(own)]
        if id(module) not in self._parts:
            told.append({name: value for name, (_, value, _) in module._own_parameters().items()})
        return [*told, *self._predictor(module)] if isinstance(module, Predict) else told

    def _predictor(self, predictor: Predict[Any]) -> Iterator[Any]:
        yield self._adapter(predictor.adapter)
        yield self._short(predictor.demo_pool.function if predictor.demo_pool.rows else None)
        try:
            yield self._model(predictor.lm or current_lm())
        except NotConfiguredError:  # it may never be asked; where it is, that is said there
            yield None

    def _object(self, value: Any) -> list[Any]:
        kind = type(value)
        told: list[Any] = ["object", self._short(kind)]
        if callable(getattr(kind, "content_hash", None)):
            return [*told, value.content_hash()]
        if isinstance(value, Rebuilt):
            return [*told, *map(self._short, value._made_with)]
        if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, (ModuleType, type(None))):
            return ["builtin", value.__module__, value.__qualname__]
        if _is_ours(kind) and dataclasses.is_dataclass(value):
            return [*told, *(self._short(getattr(value, f.name)) for f in dataclasses.fields(value))]
        wrapped = getattr(value, "__dict__", {}).get("__wrapped__")
        if wrapped is not None and not is_own(kind.__module__):  # what `functools.cache` makes
            return [*told, self._short(wrapped)]
        if not _says_its_state(kind):
            return [*told, self._named(_public(value))]
        try:
            reduce: Callable[[Any], Any] = copyreg.dispatch_table.get(kind, _reduced)
            reduced = reduce(value)
        except Exception:  # noqa: BLE001 (pickle's protocol runs code of the user's, which may refuse in its own way)
            return [*told, self._named(_public(value))]
        return [*told, *self._taken(reduced)]

    def _taken(self, reduced: str | tuple[Any, ...]) -> Iterator[Any]:
        """Yield what pickle would take of an object: a name; or what makes it, of what, with which state and items."""
        if isinstance(reduced, str):
            yield reduced
            return
        given: tuple[Any, ...] = (*reduced, None, None, None)
        make, arguments, state, items, pairs = given[:5]
        yield _name(make)
        yield self._short(arguments)
        yield self._short(state)
        yield [self._short(item) for item in items or ()]
        yield self._pairs(pairs or ())


def _is_plain(value: Any) -> bool:
    """Say whether a value is its own JSON value. Python does not write very long numbers."""
    kind = type(value)
    return kind in _PLAIN or (kind is int and value.bit_length() < 64)


def _joined(shapes: list[str], links: list[_Links]) -> str:
    """Return the hash of the first of things that name one another.

    Each is called by its shape, then by its shape and what those are called that it names, and so on until no more are
    told apart; what is alike has one name then, be it one thing or several. All names count, not the first thing's
    alone, for the sake of chains that are longer than the rounds.
    """
    names, apart = shapes, 0
    for _ in range(_ROUNDS):
        if apart == (apart := len(set(names))):
            break
        names = [
            hash_of([shape, [names[n] for n in link.ordered], sorted(names[n] for n in link.loose)])
            for shape, link in zip(shapes, links, strict=True)
        ]
    return hash_of([names[0], *sorted(set(names))])


def _reduced(value: Any) -> Any:
    return value.__reduce_ex__(_PROTOCOL)


def _is_told(kind: type) -> bool:
    """Say whether the code of a class counts: the user's own, and programs, but for the base of them all."""
    return is_own(kind.__module__) or (issubclass(kind, Module) and kind is not Module)


def _says_its_state(kind: type) -> bool:
    if is_own(kind.__module__) or _is_ours(kind) or kind in copyreg.dispatch_table:
        return True
    asked = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs__", "__getnewargs_ex__")
    return any(getattr(kind, name, None) is not getattr(object, name, None) for name in asked)


def _is_ours(kind: type) -> bool:
    return str(kind.__module__).partition(".")[0] == "tuneful"


def _public(value: Any) -> dict[str, Any]:
    """Return the attributes that count of an object that has no state to take; all that the user's own code gave it."""
    try:
        found: Any = object.__getstate__(value)  # with what is in slots
    except TypeError:
        found = getattr(value, "__dict__", None)
    parts = found if isinstance(found, tuple) else (found,)
    own = is_own(type(value).__module__)
    return {name: v for part in parts if part for name, v in part.items() if own or not str(name).startswith("_")}


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _name(thing: Any) -> str:
    """Return the name of a function or a class; the user's own may be a script's now and imported later."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", type(thing).__qualname__)
    return name if is_own(module) else f"{module}.{name}"
