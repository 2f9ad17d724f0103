"""Objectives: what counts beside the metric: what a run of the program takes, and what it may take at most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tuneful.errors import UsageError, nearest
from tuneful.program.lm import current_lm
from tuneful.program.module import Module
from tuneful.wire.response import Usage

Cost = Literal["calls", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd", "seconds"]

#: Every cost.
COSTS: tuple[Cost, ...] = get_args(Cost)

#: Those that a report shows of every program.
SHOWN: tuple[Cost, ...] = ("prompt_tokens", "completion_tokens", "seconds", "cost_usd")

#: How costs are shown: before the figure, how it is written, and after it.
_SHOWN: dict[Cost, tuple[str, str, str]] = {
    "calls": ("", ".1f", " calls"),
    "prompt_tokens": ("", ",.0f", " prompt tokens"),
    "completion_tokens": ("", ",.0f", " generated"),
    "total_tokens": ("", ",.0f", " tokens"),
    "cost_usd": ("$", ".5f", ""),
    "seconds": ("", ".2f", " s"),
}


def _is_positive(value: Any) -> bool:
    """Say whether something is a number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class Objectives:
    """What counts beside the metric. Give it to `compile(..., objectives=...)` of any teleprompter.

    Costs are those of one run of the program: its model calls, also where a cache answered them. They are named
    "calls", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd" and "seconds" (spent waiting for models).

    >>> Objectives(minimize="prompt_tokens", at_most={"seconds": 2.0})
    Objectives(minimize=('prompt_tokens',), at_most={'seconds': 2.0}, margin=0.05)

    Args:
        minimize: costs to keep low, the most important first. Of the programs that are not worse than the best one by
            more than `margin`, the cheapest is returned; also in place of an original that is not worse but dearer.
        at_most: limits that every run must keep: one that takes more scores 0, in the search and in the comparison.
        margin: how much worse than the best still counts as not worse, in the metric's units (0.05: 5 points). Two
            programs with equal scores are told to be so close by 73 held-out rows (for 10 points by 35), and by more
            where several are compared.

    Raises:
        UsageError: an unknown cost, a limit or a margin that is no positive number.
    """

    minimize: Sequence[Cost] | Cost = ()
    at_most: Mapping[Cost, float] = field(default_factory=dict)
    margin: float = 0.05

    def __post_init__(self) -> None:
        if not isinstance(self.minimize, Iterable) or not isinstance(self.at_most, Mapping):
            raise UsageError(
                f"`minimize` is {self.minimize!r:.80} and `at_most` {self.at_most!r:.80}; expected names of costs, and "
                "limits by name, such as Objectives(minimize='prompt_tokens', at_most={'seconds': 2.0})."
            )
        for name in (*self.minimized, *self.at_most):
            if name not in COSTS:
                raise UsageError(
                    f"there is no cost {name!r}.{nearest(str(name), COSTS)} There are: {', '.join(COSTS)}."
                )
        if bad := [name for name, most in self.at_most.items() if not _is_positive(most)]:
            raise UsageError(f"`at_most` of {bad[0]!r} is {self.at_most[bad[0]]!r}; expected a number above 0.")
        if not _is_positive(self.margin):
            raise UsageError(f"`margin` is {self.margin!r}; expected above 0, in the metric's units, such as 0.05.")
        object.__setattr__(self, "minimize", self.minimized)  # one form, however it was given
        object.__setattr__(self, "at_most", dict(self.at_most))

    @property
    def minimized(self) -> tuple[Cost, ...]:
        """The costs to keep low."""
        return (self.minimize,) if isinstance(self.minimize, str) else tuple(self.minimize)

    def check(self, *programs: Module, compared: bool) -> None:
        """Raise UsageError where nothing will be compared, or dollars count and the price of an LM is not known."""
        if (self.minimized or self.at_most) and not compared:
            raise UsageError(
                "objectives need a comparison, so a teleprompter with a metric, and held-out rows: give `valset`, or a "
                "trainset from which some can be held out."
            )
        if "cost_usd" not in (*self.minimized, *self.at_most):
            return
        for predictor in (p for program in programs for p in program.predictors()):
            lm = predictor.lm or current_lm()
            if lm.price is None:
                raise UsageError(
                    f"the objectives count dollars, and the price of {lm.model!r} is not known: give it, as in "
                    "tf.LM(..., price_per_million=(1.0, 4.0)), or count 'total_tokens'."
                )

    def judged(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a record of a rollout; where the run took more than it may, with the score of a wrong answer.

        Raises UsageError for a metric that goes below 0, where that would be no bad score.
        """
        if record["score"] is None:
            return record
        if record["score"] < 0:
            raise UsageError(
                f"a run that fails, or takes more than `at_most`, scores 0, and this metric scored one "
                f"{record['score']:g}, so that failing would pay. Give a metric that is 0 at worst, larger being "
                "better, such as 1 / (1 + distance)."
            )
        if not self.at_most:
            return record
        taken = costs_of(record)
        if all((taken[name] or 0.0) <= most for name, most in self.at_most.items()):
            return record
        return {**record, "score": 0.0, "status": "over limit"}


#: Only the metric counts.
NONE = Objectives()


def costs_of(record: Mapping[str, Any]) -> dict[Cost, float | None]:
    """Return what the run of a record takes where no cache helps; None where a price is not known."""
    needs = record.get("needs") or record["usage"]  # a journal of an earlier version knows what was paid
    return _costs(Usage(**needs))


def _costs(usage: Usage) -> dict[Cost, float | None]:
    return {name: getattr(usage, name) for name in COSTS}


def mean_costs(records: Sequence[Mapping[str, Any]]) -> dict[Cost, float | None]:
    """Return what a run takes on average; None where some run's price is not known, or there is none."""
    found: dict[Cost, float | None] = {}
    taken = [costs_of(r) for r in records if r["status"] != "infra_error"]
    for name in COSTS:
        known = [c for t in taken if (c := t[name]) is not None]
        found[name] = sum(known) / len(known) if known and len(known) == len(taken) else None
    return found


def costs_line(costs: Mapping[Cost, float | None], names: Sequence[Cost] = ()) -> str:
    """Return costs for people: those that are known, or only some of them.

    >>> costs_line({"prompt_tokens": 812.4, "seconds": 0.5, "cost_usd": None})
    '812 prompt tokens, 0.50 s'
    """
    known = [(name, c) for name in (names or COSTS) if (c := costs.get(name)) is not None]
    return ", ".join(f"{figure(name, c)}{_SHOWN[name][2]}" for name, c in known)


def figure(name: Cost, cost: float) -> str:
    """Return a cost as a number for people, without its unit."""
    before, form, _ = _SHOWN[name]
    return f"{before}{cost:{form}}"
