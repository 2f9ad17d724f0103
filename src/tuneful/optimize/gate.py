"""Gate: the meter of a compile. Before the first request leaves, it looks whether all models that will be asked can be.

A search asks some of them late: a prompt model after hundreds of runs, one of several models that are tried after more.
That a key is missing shall not be found out then. What a journal and a cache answer takes no key, and so no look.
"""

from __future__ import annotations

from collections.abc import Iterable

from tuneful.backends.budget import Budget, Meter, unpriced
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.trial import Brief
from tuneful.program.lm import LM, lms_of
from tuneful.program.module import Module
from tuneful.program.running.runtime import current_cache
from tuneful.program.vectors.embedder import Embedder


class Gate(Meter):
    """A meter that lets nothing leave until all models can be asked, as far as is known without a call.

    Attributes:
        models: LMs and embedders that are not looked at yet.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        super().__init__(budget)
        self.models: tuple[LM | Embedder, ...] = ()

    def depart(self, model: str, *, priced: bool) -> None:
        """Note that a request is about to leave.

        Raises:
            LMAuthError: one of the models has no key.
            NotConfiguredError: there is a limit in dollars, and the price of one of them is not known.
            BudgetExceeded: a limit is reached.
        """
        self._look()
        super().depart(model, priced=priced)

    def left(self) -> Budget:
        """Return what may be used, for work that is sent elsewhere. Raises as `depart`."""
        self._look()
        return super().left()

    def _look(self) -> None:
        for model in self.models:
            model.backend.check()
            if self.budget.usd is not None and model.price is None:
                raise unpriced(str(model.model))
        self.models = ()


def models_of(recipe: Recipe, brief: Brief, programs: Iterable[Module]) -> tuple[LM | Embedder, ...]:
    """Return the LMs and embedders that a compile may ask; none where the cache replays, since nothing leaves then.

    Args:
        recipe, brief: what searches.
        programs: those that are run, the teacher with its own LM.
    """
    cache = current_cache()
    if cache is not None and cache.mode == "replay":
        return ()
    judge = [recipe.metric] if isinstance(recipe.metric, Module) else []
    run = [*programs, *judge]
    found = [*lms_of(run), *_embedders(run), *recipe.asks(brief)]
    return tuple(dict.fromkeys(found))


def _embedders(programs: Iterable[Module]) -> list[Embedder]:
    """Return those of models' names, which pick demos for each input; a function knows no key."""
    found = [predictor.demo_pool.vectorizer for program in programs for predictor in program.predictors()]
    return [one for one in found if isinstance(one, Embedder) and isinstance(one.model, str)]
