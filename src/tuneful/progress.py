"""A progress bar in a terminal and in Jupyter; silent when output is piped."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    """Something that is told how far the work is."""

    def advance(self, text: Callable[[], str] = str, items: int = 1) -> None:
        """So many more items are done; what `text` returns stands beside the bar."""


class _Silent:
    def advance(self, text: Callable[[], str] = str, items: int = 1) -> None:
        """Do nothing."""


def shown_to_a_person() -> bool:
    """Say whether standard error is a terminal, or this is a Jupyter kernel."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def progress_bar(total: int | None, title: str, *, display: bool) -> Iterator[Bar]:
    """Yield a bar for `total` items (None: nobody knows how many), which shows only where a person can see it."""
    if not display or not shown_to_a_person():
        yield _Silent()
        return
    with _bar_class()(total=total, desc=title, file=sys.stderr, dynamic_ncols=True) as bar:

        class _Shown:
            def advance(self, text: Callable[[], str] = str, items: int = 1) -> None:
                bar.set_postfix_str(text(), refresh=False)
                bar.update(items)

        yield _Shown()


def _bar_class() -> Any:
    """Return the bar for where we are: a widget in Jupyter, where widgets are installed, else a line of text."""
    if "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as widget

        return widget
    from tqdm import tqdm as line

    return line
