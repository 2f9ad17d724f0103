"""Code: what a function does, as a hash of its bytecode, and which names it takes from around it."""

from __future__ import annotations

import dis
import hashlib
import json
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePath
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

#: Folders into which packages are installed.
_INSTALLED = frozenset({"site-packages", "dist-packages"})

_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ASSIGNS = frozenset({"STORE_GLOBAL", "STORE_DEREF"})


class Code(NamedTuple):
    """What a code object is.

    Args:
        digest: hash of what it does: neither layout nor comments count, and nor does the place where it stands.
        reads: global names that it reads.
        names: all names in it: those, and the attributes of anything.
        assigned: names from around it that it assigns: what they hold is its own doing, and decides nothing.
    """

    digest: str
    reads: frozenset[str]
    names: frozenset[str]
    assigned: frozenset[str]


@lru_cache(maxsize=4096)
def code_of(code: CodeType) -> Code:
    """Return what a code object is, the functions within it included."""
    inner = [code_of(c) for c in code.co_consts if isinstance(c, CodeType)]
    told = [
        code.co_code.hex(),
        code.co_exceptiontable.hex(),
        [_constant(c) for c in code.co_consts if not isinstance(c, CodeType)],
        [c.digest for c in inner],
        [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars],
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
    ]
    done = [(i.opname, str(i.argval)) for i in dis.get_instructions(code)]
    return Code(
        hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24],
        frozenset(name for operation, name in done if operation in _READS).union(*(c.reads for c in inner)),
        frozenset(code.co_names).union(*(c.names for c in inner)),
        frozenset(name for operation, name in done if operation in _ASSIGNS).union(*(c.assigned for c in inner))
        - frozenset(code.co_cellvars),
    )


def _constant(value: Any) -> Any:
    """Return a constant of a code object as JSON; the order of a set depends on the process."""
    if isinstance(value, tuple):
        return ["tuple", *map(_constant, value)]
    if isinstance(value, frozenset):
        return ["set", *sorted(map(json.dumps, map(_constant, value)))]
    return [type(value).__name__, hex(value) if type(value) is int else ascii(value)]


def around(function: FunctionType) -> dict[str, Any]:
    """Return what a function takes from around it, by name: free variables, and for code of the user's own, globals.

    Of a module of the user's own it is what the function may read of it. What the function assigns is left out.
    """
    code = code_of(function.__code__)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    free = {f"free {n}": c.cell_contents for n, c in cells if n not in code.assigned and _is_filled(c)}
    if not is_own(function.__module__):
        return free
    return free | _read(function.__globals__, code.reads - code.assigned, code.names)


def _read(space: Mapping[str, Any], reads: frozenset[str], names: frozenset[str]) -> dict[str, Any]:
    """Return what is read of a namespace; of the user's own modules in it, whatever has one of the `names`."""
    found, spaces = {}, [("", space, reads)]
    seen: set[str] = set()
    for prefix, inside, wanted in spaces:
        for name in sorted(wanted & inside.keys()):
            value = found[f"{prefix}{name}"] = inside[name]
            if isinstance(value, ModuleType) and is_own(value.__name__) and value.__name__ not in seen:
                seen.add(value.__name__)
                spaces.append((f"{prefix}{name}.", vars(value), names))
    return found


def _is_filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # a variable that is assigned later on
        return False
    return True


@lru_cache(maxsize=4096)
def is_own(module: str | None) -> bool:
    """Say whether a module is the user's own: neither Python's, nor this package's, nor one that was installed."""
    top = str(module or "").partition(".")[0]
    if top == "tuneful" or top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return False
    file = getattr(sys.modules.get(str(module or "")), "__file__", None)
    return file is None or not _INSTALLED & set(PurePath(file).parts)
