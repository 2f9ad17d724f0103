"""Levers: all that may be chosen of a program, as the axes of one space, the likeliest to pay first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.adapters.select import resolve
from tuneful.optimize import space
from tuneful.optimize.propose.demos import joined, labelled, picked
from tuneful.optimize.propose.drafts import steps, written_fields
from tuneful.optimize.propose.wording import from_labels
from tuneful.optimize.space import Axis, Space
from tuneful.optimize.strategies.pool import Pool
from tuneful.optimize.trial import Brief, Candidate, has_demos
from tuneful.program.lm import current_lm
from tuneful.spec.types import choices

#: Demo sets that are drawn at random from the teacher's runs.
_DRAWS = 6
#: Names of the axes that set several parameters. The others are named like theirs, and no path has a space in it.
_EARLIER, _DEMO_SETS = "earlier candidate", "demo sets"


@dataclass(frozen=True)
class Levers:
    """What a user allows to be chosen. The names are those of `Tune`'s arguments."""

    pool: Pool
    max_bootstrapped_demos: int
    embedder: str | None
    adapters: Sequence[str]
    models: Sequence[Any]
    temperatures: Sequence[float]
    earlier: Sequence[Candidate] = ()

    def axes(self, brief: Brief, kept: Sequence[dict[str, Any]], texts: Mapping[str, Sequence[Any]]) -> Space:
        """Return the axes.

        Args:
            brief: program and rows.
            kept: the teacher's runs.
            texts: instructions and words of fields that were written, by where they belong; see `drafts.jobs`.
        """
        axes = [self._earlier(brief), self._demos(brief, kept), *space.numbers(brief)]
        paths = steps(brief, "instructions").values()
        axes += [Axis.of(path, brief.parameters[path].value, texts.get(path, ())) for path in paths]
        axes += _wording(brief, texts)
        axes += self._adapters(brief)
        axes += space.each(brief, "lm", self.models)
        axes += space.sampling(brief, "temperature", self.temperatures)
        return space.sized(axes)

    def _earlier(self, brief: Brief) -> Axis:
        """Return what an earlier run found good: first among the axes, so that others go on top of it."""
        known = [{path: value for path, value in c.items() if brief.tunable(path)} for c in self.earlier]
        distinct = [c for i, c in enumerate(known) if c and c not in known[:i]]
        return Axis(_EARLIER, ({}, *distinct))

    def _demos(self, brief: Brief, kept: Sequence[dict[str, Any]]) -> Axis:
        """Return demo sets: picked for each input, labelled rows, and the teacher's runs, in order and drawn."""
        most, found = self.pool.max_labeled_demos, list[Candidate]()
        if brief.objectives.minimized and brief.student is not None and has_demos(brief.student):
            found.append({path: [] for path in steps(brief, "demos").values()})
        if self.embedder is not None:
            found.append(picked(brief, kept, most, embedder=self.embedder))
        found += [joined(labelled(brief, half, stream="half")) for half in [most // 2] if half]
        found += self.pool.sets(brief, kept, _DRAWS, self.max_bootstrapped_demos)
        distinct = [c for i, c in enumerate(found) if c and c not in found[:i]]
        return Axis(_DEMO_SETS, ({}, *distinct))

    def unraced(self, brief: Brief, kept: Sequence[dict[str, Any]]) -> Candidate:
        """Return the demos to put forward where nothing was raced: the first runs, and labelled rows.

        Where a field has more values to choose from than a set has demos, they are picked for each input, to show those
        that matter there. Elsewhere that is not worth its time: no prefix cache serves what changes with the input.
        """
        most = self.pool.max_labeled_demos
        written = [field for step in brief.signatures for field in written_fields(brief, step)]
        if self.embedder is not None and any(len(choices(field.type) or ()) > most for field in written):
            return picked(brief, kept, most, embedder=self.embedder)
        return self.pool.demos(brief, kept[: self.max_bootstrapped_demos])

    def _adapters(self, brief: Brief) -> Space:
        """Return an axis for each predictor, without the adapter that it has by itself."""
        if not self.adapters or brief.student is None:
            return ()
        own = {resolve(p.adapter, (p.lm or current_lm()).capabilities).name for p in brief.student.predictors()}
        return space.each(brief, "adapter", [name for name in self.adapters if name not in own or len(own) > 1])


def _wording(brief: Brief, texts: Mapping[str, Sequence[Any]]) -> list[Axis]:
    """Return an axis for each field that a step writes: words that its labels suggest, and those that were written."""
    axes = []
    for step, path in steps(brief, "wording").items():
        for field in written_fields(brief, step):
            labels = [row[field.name] for row in brief.trainset if row.get(field.name) is not None]
            words = [*from_labels(field, labels), *texts.get(f"{path}:{field.name}", ())]
            options = [{path: {field.name: w}} for i, w in enumerate(words) if w not in words[:i]]
            axes.append(Axis(f"{path}:{field.name}", ({}, *options)))
    return axes
