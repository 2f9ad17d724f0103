"""An LM as a JSON value: what a saved program keeps of it, and how it is found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuneful.errors import NotConfiguredError, StateError
from tuneful.program.lm import LM

#: Prefixes behind which a path may stand.
_IN_FILES = ("local", "transformers")


def restored(state: Any) -> LM:
    """Return the LM that a value of `LM.state` describes.

    Raises:
        StateError: its weights are missing, or are others than they were; or it is no such value.
        UsageError, NotConfiguredError: as from `LM`.
    """
    if isinstance(state, str):
        return LM(state)
    if not isinstance(state, Mapping) or not isinstance(state.get("model"), str):
        raise StateError(f"{state!r:.100} describes no LM: expected a model's name, or an object with `model`.")
    try:
        lm = LM(state["model"], **{k: v for k, v in state.items() if k not in ("model", "digest")})
    except NotConfiguredError as error:
        raise StateError(
            f"{error}\nA saved program says where its tuned model lies, and does not hold it: copy the model to there, "
            "or beside the program before that is saved."
        ) from error
    wanted = state.get("digest")
    found = lm.state.get("digest") if isinstance(lm.state, Mapping) else None
    if wanted is not None and wanted != found:
        raise StateError(
            f"{state.get('lora') or state['model']!r} holds other weights than those that the program was saved with "
            f"(their hash is {found}, and was {wanted}). Put the earlier ones back, or set the `lm` of its predictor."
        )
    return lm


def relative(state: Any, folder: Path) -> Any:
    """Return a value of `LM.state` with paths as a file in `folder` keeps them: relative where they are below it."""

    def place(path: Path) -> str:
        path = path.expanduser().absolute()
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    return _with_paths(state, place)


def absolute(state: Any, folder: Path) -> Any:
    """Undo what `relative` did."""
    return _with_paths(state, lambda path: str(folder / path))


def _with_paths(state: Any, place: Callable[[Path], str]) -> Any:
    if not isinstance(state, Mapping):
        return state
    found = dict(state)
    if isinstance(found.get("lora"), str):
        found["lora"] = place(Path(found["lora"]))
    prefix, _, rest = str(found.get("model")).partition("/")
    if prefix in _IN_FILES and (prefix != "local" or rest.endswith(".gguf")):  # else it is a known name
        found["model"] = f"{prefix}/{place(Path(rest))}"
    return found
