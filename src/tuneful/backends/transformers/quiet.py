"""Keeping what transformers says from the terminal."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

#: What is switched is everybody's: one at a time.
_switching = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars and warnings of transformers from the terminal: what matters is raised."""
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging

    with _switching, warnings.catch_warnings(), ExitStack() as after:
        warnings.simplefilter("ignore")  # those of Python: peft warns of a second adapter
        after.callback(logging.set_verbosity, logging.get_verbosity())
        if logging.is_progress_bar_enabled():
            after.callback(logging.enable_progress_bar)
        after.callback(_set_bar, reader, reader.tqdm)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        _set_bar(reader, partial(reader.tqdm, disable=True))  # that of de-quantizing asks nobody
        yield


def _set_bar(reader: Any, bar: Any) -> None:
    reader.tqdm = bar
