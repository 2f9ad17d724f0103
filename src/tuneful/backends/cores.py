"""How many cores a model of this process may compute with."""

import os


def usable_cores() -> int:
    """Return how many cores this process may use: those that it is bound to (`taskset`, a container's cpu set).

    Threads beyond them wait for one another: llama.cpp's spin meanwhile, and a model becomes many times slower.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
