"""TPE: new points of a space, where the scores so far were good.

The study is built anew from what was tried, at every call, so that a search that was stopped goes on as if it had not
been. Needs the package optuna.

Source: Bergstra et al. (2011), "Algorithms for Hyper-Parameter Optimization", section 4, as implemented by Optuna's
`TPESampler` with `multivariate=True`: choices that go together are learned together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: By name: (low, high) of a whole number, both included, or the list of its values.
Space = dict[str, tuple[int, int] | list[Any]]
Point = dict[str, Any]

#: Points of random choice before the model is asked.
_RANDOM = 6


def propose(space: Space, points: Sequence[Point], scores: Sequence[float | None], n: int, seed: int) -> list[Point]:
    """Return n new points.

    Args:
        space: the space.
        points: what was tried.
        scores: what each of them gave, more being better; None where nothing is known.
        n: how many to propose at once; each takes the others for mediocre, so that they differ.
        seed: where all chance comes from.
    """
    import optuna  # an extra, looked for when the recipe was made

    distributions = {name: _distribution(values) for name, values in space.items()}
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=_RANDOM)
    talk = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for point, score in zip(points, scores, strict=True):
            if score is not None:
                study.add_trial(optuna.trial.create_trial(params=point, distributions=distributions, value=score))
        return [dict(study.ask(distributions).params) for _ in range(n)]
    finally:
        optuna.logging.set_verbosity(talk)


def _distribution(values: tuple[int, int] | Sequence[Any]) -> Any:
    import optuna  # as above

    if isinstance(values, tuple):
        return optuna.distributions.IntDistribution(*values)
    return optuna.distributions.CategoricalDistribution(values)
