"""Lineage: what candidates were made from, and how two of them are put together.

Source: the merge is that of Agrawal et al. (2025), "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement
Learning", algorithm 4. Deviation: the youngest common ancestor is taken, where one is drawn there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def ancestors(parents: Sequence[Sequence[int]], one: int) -> set[int]:
    """Return all that a candidate comes from.

    >>> sorted(ancestors([[], [0], [0], [1, 2]], 3))
    [0, 1, 2]

    Args:
        parents: of each candidate; those have lower numbers than it.
        one: its number.
    """
    return {a for p in parents[one] for a in (p, *ancestors(parents, p))}


def common(parents: Sequence[Sequence[int]], one: int, other: int) -> int | None:
    """Return the youngest candidate that both come from; None where one comes from the other, or there is none."""
    first, second = ancestors(parents, one), ancestors(parents, other)
    if one == other or one in second or other in first:
        return None
    return max(first & second, default=None)


def merged(base: Mapping[str, Any], better: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what has the changes of two candidates: of the better one, where both have changed the same.

    >>> merged({}, {"think": "Slowly."}, {"think": "Twice.", "say": "Briefly."})
    {'think': 'Slowly.', 'say': 'Briefly.'}

    Args:
        base: values of their ancestor, by path; a path that is missing is as in the program.
        better, other: values of the two.

    Returns:
        The values; None where they are those of one of the two.
    """
    paths = list(dict.fromkeys([*better, *other]))
    taken = {path: other if better.get(path) == base.get(path) else better for path in paths}
    found = {path: source[path] for path, source in taken.items() if path in source}
    return None if found in (better, other) else found
