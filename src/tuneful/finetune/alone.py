"""Alone: one training at a time in a folder, whichever process runs it."""

from __future__ import annotations

from pathlib import Path

from tuneful.errors import StateError
from tuneful.store.hold import Hold


def alone_in(folder: Path) -> Hold:
    """Return the hold on a folder, to be let go of when the training ends; killing its process lets go too.

    Two at once would write over one another's checkpoints, and a service would be paid for two jobs.

    Raises:
        StateError: another training goes on in the folder. Nothing was changed.
    """
    place = Path(folder).expanduser().resolve()
    try:
        return Hold(place, "training")
    except BlockingIOError as error:
        raise StateError(
            f"a training goes on in {str(place)!r}, in this process or another. Wait for it, then the same call "
            "returns what it has made, or give this one a folder of its own."
        ) from error
