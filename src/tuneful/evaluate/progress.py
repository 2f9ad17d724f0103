"""A progress bar in a terminal and in Jupyter; silent when output is piped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """Something that is told how far the work is."""

    def advance(self, text: str) -> None:
        """One more item is done; `text` stands beside the bar."""


class _Silent:
    def advance(self, text: str) -> None:
        """Do nothing."""


def shown_to_a_person() -> bool:
    """Say whether standard error is a terminal, or this is a Jupyter kernel."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def progress_bar(total: int, title: str, *, display: bool) -> Iterator[Bar]:
    """Yield a bar for `total` items, which shows only where a person can see it."""
    if not display or not shown_to_a_person():
        yield _Silent()
        return
    from rich.console import Console  # slow to import, and seldom needed
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="")

        class _Rich:
            def advance(self, text: str) -> None:
                progress.update(task, advance=1, note=text)

        yield _Rich()
