"""Facts: what tells a program, a function or any other value from another one, as JSON."""

from __future__ import annotations

import enum
import hashlib
import inspect
import json
import os
import sys
import sysconfig
from collections.abc import Mapping, Sized
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from types import CodeType
from typing import Any

from tuneful.backends.rebuilt import Rebuilt
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module
from tuneful.program.running.runtime import settings

Known = frozenset[int]

#: Attributes of modules that are told by other means (parameters), or say nothing of what a run answers.
_ELSEWHERE = frozenset(
    {"signature", "demos", "demo_pool", "sampling", "adapter", "lm", "token", "_tunables", "_frozen"}
    | {"_report", "_provenance"}
)

#: Where Python and installed libraries lie. Objects of their classes hold connections and caches beside what they are.
_INSTALLED = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "purelib", "platlib")})

#: Modules of Python whose objects are values: equal ones read alike.
_VALUES = frozenset({"datetime", "decimal", "fractions", "ipaddress", "pathlib", "re", "uuid", "zoneinfo"})


def facts_of_program(program: Module, known: Known = frozenset()) -> Any:
    """Return what tells a program: its code, its parameters and other values, its models and how they sample.

    Args:
        program: the program.
        known: as for `facts_of`.
    """
    parts = program.named_sub_modules()
    known |= {id(module) for _, module in parts}  # each has its own place
    lms = {path: p.lm or current_lm() for path, p in program.named_predictors()}
    models = {path: facts_of(lm, known) for path, lm in lms.items()}
    values = {path: p.value for path, p in program.parameters().items()}
    code = {_name(kind): _class(kind, known) for kind in dict.fromkeys(type(m) for _, m in parts)}
    own = {path: {n: v for n, v in vars(m).items() if n not in _ELSEWHERE} for path, m in parts}
    ambient = [str(settings.adapter), settings.max_repairs, settings.max_backtracks, facts_of(settings.rm, known)]
    pools = {path: p.demo_pool.function for path, p in program.named_predictors() if p.demo_pool.rows}
    return [code, facts_of(own, known), values, models, ambient, facts_of(pools, known)]


def facts_of(value: Any, known: Known = frozenset()) -> Any:
    """Return what tells a value, as JSON that is the same in every process.

    Functions are told by their source, defaults and closures; LMs by what answers and how it samples; what is made anew
    elsewhere (embedders, say) by its arguments; large things by an `identity` of their own; objects of the user's
    classes by class and attributes. Of objects of installed libraries only type and length are known: one that decides
    answers needs an `identity` too, such as a property of a subclass.

    Args:
        value: anything.
        known: ids of what it is a part of, and of what is told elsewhere.
    """
    if isinstance(value, enum.Enum):
        return [_name(type(value)), value.name]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if id(value) in known:
        return _name(type(value))
    known |= {id(value)}
    match value:
        case Mapping():
            return {_written(facts_of(k, known)): facts_of(v, known) for k, v in value.items()}
        case list() | tuple():
            return [facts_of(v, known) for v in value]
        case set() | frozenset():
            return sorted((facts_of(v, known) for v in value), key=_written)
    return _of_code(value, known) if callable(value) or isinstance(value, (Module, LM)) else _of_object(value, known)


def _of_code(value: Any, known: Known) -> Any:
    match value:
        case Module():
            return facts_of_program(value, known)
        case LM():
            return [value.endpoint, value.model, value.sampling.to_json()]
        case partial():
            return ["partial", facts_of([value.func, value.args, value.keywords], known)]
        case type():
            return _class(value, known)
    return _function(value, known) if inspect.isroutine(value) else _of_object(value, known)


@lru_cache(maxsize=1024)
def _read(thing: Any) -> str:
    """Return a hash of the source of a function or class; "" where there is none to read."""
    try:
        source = inspect.getsource(thing)  # takes some 20 ms, and every row without its own demos needs a fingerprint
        return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:24]
    except (OSError, TypeError):
        return ""


def _function(function: Any, known: Known) -> Any:
    """Return what tells a function: its source, what it closes over, its defaults, and the object it is a method of."""
    owner = getattr(function, "__self__", None)
    plain = getattr(function, "__func__", function)
    more = [] if owner is None or inspect.ismodule(owner) else [facts_of(owner, known)]
    if not inspect.isfunction(plain):
        return [str(getattr(plain, "__qualname__", type(plain).__qualname__)), *more]
    source = "" if plain.__name__ == "<lambda>" else _read(plain)  # a line may have several lambdas
    closed = _closed_over(plain)
    given = [v for v in (plain.__defaults__, plain.__kwdefaults__, closed) if v]
    return [source or _code(plain.__code__), facts_of(given, known), *more]


def _closed_over(function: Any) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a cell that is still empty
            found[name] = cell.cell_contents
    found.pop("__class__", None)
    return found


def _code(code: CodeType) -> Any:
    """Return what tells compiled code, where no source says it."""
    constants = [_code(c) if isinstance(c, CodeType) else facts_of(c) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _class(kind: Any, known: Known) -> Any:
    """Return what tells a class: its source and that of its bases, and what their methods close over."""
    sources, methods = _read_class(kind)
    return [sources, *(_function(method, known) for method in methods)] if methods else sources


@lru_cache(maxsize=1024)
def _read_class(kind: Any) -> tuple[Any, list[Any]]:
    """Return the sources of a class and its bases, and the methods that these do not tell."""
    bases = [one for one in kind.__mro__ if one is not Module and _is_own(one)]
    found = [[_name(one), _read(one)] for one in bases]
    methods = [
        method
        for (_, source), one in zip(found, bases, strict=True)
        for method in vars(one).values()
        if inspect.isfunction(method) and not one.__module__.startswith("tuneful.") and _is_untold(method, source)
    ]
    return found or _name(kind), methods


def _is_untold(method: Any, source: str) -> bool:
    """Say whether the source of a method's class does not tell all of it; methods that Python writes do not count."""
    written = not method.__code__.co_filename.startswith("<")
    return written and bool(set(method.__code__.co_freevars) - {"__class__"}) if source else True


def _of_object(value: Any, known: Known) -> Any:
    kind = type(value)
    if isinstance(getattr(kind, "identity", None), (property, cached_property)):
        return [_name(kind), facts_of(value.identity, known)]
    if isinstance(value, Rebuilt):
        return [_name(kind), facts_of(value._made_with, known)]
    if isinstance(value, (bytes, bytearray)):
        return hashlib.sha256(value).hexdigest()
    if kind.__module__ in _VALUES or kind in (complex, range, slice):
        return [_name(kind), repr(value)]
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return [_name(kind), str(value.dtype), facts_of(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if _is_own(kind):
        return [_class(kind, known), facts_of(_held(value), known)]
    return [_name(kind), len(value) if isinstance(value, Sized) else None]


def _held(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, without what it has made of others."""
    kind = type(value)
    slots = [s for c in kind.__mro__ for s in getattr(c, "__slots__", ()) if hasattr(value, s)]
    held = {**{s: getattr(value, s) for s in slots}, **getattr(value, "__dict__", {})}
    made = {name for name in held if isinstance(getattr(kind, name, None), cached_property)}
    if kind.__module__.startswith("tuneful."):
        made |= {name for name in held if name.startswith("_")}
    return {name: held[name] for name in held.keys() - made}


def _is_own(kind: type) -> bool:
    """Say whether a class is the user's or tuneful's, and not of Python or an installed library."""
    return _is_own_module(kind.__module__)


@lru_cache(maxsize=1024)
def _is_own_module(name: str) -> bool:
    if name.startswith("tuneful.") or name == "__main__":
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and not os.path.realpath(file).startswith(_INSTALLED)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _written(facts: Any) -> str:
    return facts if isinstance(facts, str) else json.dumps(facts, sort_keys=True)
