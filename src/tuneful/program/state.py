"""Saving and loading: a program's parameters as one readable JSON file. Never code, keys or history."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneful.errors import StateError
from tuneful.program.lm_state import absolute, relative

if TYPE_CHECKING:
    from tuneful.program.module import Module

FORMAT = 1


def dump_state(program: Module) -> dict[str, Any]:
    """Return the state of a program as JSON values.

    Keys: `format` (the version of this layout), `program` (class name), `made_with` (where parts have any: arguments of
    their constructors that a loaded one must have too, by path), `signatures` (by predictor path: a hash and
    the string form of the interface), `parameters` (by path), `provenance` (what compiled it, or null).
    """
    signatures = {
        path: {"hash": p.signature.interface_hash, "signature": str(p.signature)}
        for path, p in program.named_predictors()
    }
    report = program.report
    made = {path: made for path, module in program.named_sub_modules() if (made := module._made_with())}
    return {
        "format": FORMAT,
        "program": type(program).__name__,
        **({"made_with": made} if made else {}),
        "signatures": signatures,
        "parameters": {path: p.value for path, p in program.parameters().items()},
        "provenance": report.provenance() if report is not None else program.__dict__.get("_provenance"),
    }


def load_state(program: Module, state: Mapping[str, Any]) -> None:
    """Set the parameters of a program, all or none.

    Raises:
        StateError: the state is of another layout, or of another program; it lists the differences.
    """
    if not isinstance(state, Mapping) or not isinstance(state.get("parameters"), Mapping):
        raise StateError("this is no saved program: it has no `parameters`. Was it written by `program.save(...)`?")
    if state.get("format") != FORMAT:
        raise StateError(
            f"the saved program has layout {state.get('format')!r}; this version reads layout {FORMAT}. "
            "Load it with the version that saved it, or save it anew."
        )
    try:
        differences = _differences(program, state)
        if not differences:
            program.with_parameters(state["parameters"])  # tried on a copy, so that a bad value changes nothing
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"the saved {state.get('program')} holds a value that cannot be used: {error}\nNothing was changed."
        ) from error
    if differences:
        listed = "\n".join(f"  - {d}" for d in differences)
        raise StateError(
            f"the saved {state.get('program')} does not fit this {type(program).__name__}:\n{listed}\n"
            "Nothing was changed. Load it into the program that it was saved from, or compile this one."
        )
    program._assign(state["parameters"])
    program.__dict__["_provenance"] = state.get("provenance")


def _differences(program: Module, state: Mapping[str, Any]) -> list[str]:
    found = []
    saved = state.get("signatures", {})
    mine = {path: p.signature for path, p in program.named_predictors()}
    for path in sorted({*saved, *mine}):
        name = f"predictor `{path}`" if path else "the program (a lone predictor)"
        if path not in mine:
            found.append(f"{name} is saved, but the program has none there")
        elif path not in saved:
            found.append(f"{name} is in the program, but not saved")
        elif saved[path]["hash"] != mine[path].interface_hash:
            found.append(f"{name}: saved as {saved[path]['signature']!r}, here {str(mine[path])!r}")
    for path, made in state.get("made_with", {}).items():
        here = next((module._made_with() for own, module in program.named_sub_modules() if own == path), {})
        whose = f"`{path}`" if path else "the program"
        found += [
            f"{whose} was made with {name}={value!r}, here with {name}={here.get(name)!r}"
            for name, value in made.items()
            if here.get(name) != value
        ]
    known = program.parameters()
    gone = {path for path in saved if path not in mine}  # told above, once for all their parameters
    lost = [p for p in state["parameters"] if p not in known and p.rpartition(".")[0] not in gone]
    return found + [f"parameter `{path}` is saved, but the program has none there" for path in lost]


def save(program: Module, path: str | Path) -> None:
    """Write the state to a `.json` file, whole or not at all. Raises StateError for another suffix."""
    target = Path(path)
    if target.suffix != ".json":
        raise StateError(f"a program is saved as JSON: {str(target)!r} does not end in `.json`.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    state = _placed(program, dump_state(program), lambda lm: relative(lm, target.parent.absolute()))
    try:
        partial.write_text(_text(state), encoding="utf-8")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _text(state: Mapping[str, Any]) -> str:
    """Return a state as readable JSON; halves of characters, which models write at times, are escaped."""
    text = json.dumps(state, indent=2, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text) + "\n"


def load(program: Module, path: str | Path) -> None:
    """Read a state from a file into a program. Raises StateError where the file or the state does not fit."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise StateError(f"the saved program {str(source)!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise StateError(f"{str(source)!r} is no JSON file.") from error
    try:
        state = json.loads(text)
    except ValueError as error:
        raise StateError(f"{str(source)!r} is no JSON file: {error}.") from error
    load_state(program, _placed(program, state, lambda lm: absolute(lm, source.parent.absolute())))


def _placed(program: Module, state: Any, place: Callable[[Any], Any]) -> Any:
    """Return a state with the LMs in it at other places. What is no state is left for `load_state` to refuse."""
    parameters = state.get("parameters") if isinstance(state, Mapping) else None
    if not isinstance(parameters, Mapping):
        return state
    lms = {path for path, p in program.parameters().items() if p.kind == "lm"}
    return {**state, "parameters": {k: place(v) if k in lms else v for k, v in parameters.items()}}
