"""How a checkpoint is loaded and run."""

from __future__ import annotations

from dataclasses import dataclass

from tuneful.errors import UsageError

_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class TransformersSettings:
    """How a checkpoint is loaded and run. LMs with the same settings and base share one loaded model.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest that is there.
        dtype: "float32", "bfloat16", "float16", or "auto": on a CPU float32, elsewhere as the checkpoint has it.
        batch_size: most requests that are generated together.
        context_tokens: longest prompt and answer together, where the model itself takes as many.
        threads: threads that compute on a CPU. None: cores less one. They wait for one another at every layer, so one
            too many on a busy machine slows generation by a factor of ten and more.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 16
    context_tokens: int = 8192
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "context_tokens", "threads"):
            value = getattr(self, name)
            if value is None and name == "threads":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"`{name}` is {value!r}; expected a whole number of at least 1.")
        if self.dtype not in _DTYPES:
            raise UsageError(f"`dtype` is {self.dtype!r}; expected one of: {', '.join(_DTYPES)}.")
        if not isinstance(self.device, str) or self.device.partition(":")[0] not in ("auto", "cpu", "cuda", "mps"):
            raise UsageError(f"`device` is {self.device!r}; expected 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'.")
