"""Recipe: what a teleprompter is made of: which trials to run, and which candidates to propose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, Ranked, State, Trial
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.vectors.embedder import Embedder


class Recipe:
    """The part of a teleprompter that is its own.

    All methods but `work` are pure: the state is JSON, and chance comes from `brief.stream(name)` only, so that the
    loop can stop and go on anywhere.

    Attributes:
        metric: the user's metric, or None for a recipe that scores nothing.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM(...)}.
        num_threads: rollouts in flight; None leaves it to the setting.
        related_teacher: whether a teacher must share predictors with the student.
        selects: whether it chooses among candidates by their scores on search rows, for which it needs a metric. Where
            it does not, those rows say as much of its one candidate as held-out ones do, each run without the demos
            that were made from it.
        trains: whether it trains weights on the search rows, which then say nothing of its candidate.
    """

    metric: Callable[..., Any] | Module | None = None
    teacher_settings: dict[str, Any] | None = None
    num_threads: int | None = None
    related_teacher: bool = True
    selects: bool = True
    trains: bool = False

    def init(self, brief: Brief) -> State:
        """Return the first state."""
        return {}

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return work to do before the next trials; none where there is none. It is done side by side."""
        return []

    async def work(self, brief: Brief, job: Job) -> Any:
        """Do a job and return its result as JSON values. Not pure: it may ask models, and train them.

        It is done once: the journal keeps the result. Models that it asks are metered and cached like all others.
        """
        raise NotImplementedError(f"{type(self).__name__} asks for jobs and must define work()")

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Return the state after jobs; the result of one that failed is None."""
        raise NotImplementedError(f"{type(self).__name__} asks for jobs and must define done()")

    def decides(self, job: Job) -> Any:
        """Return what else decides a job's result, as JSON values: which model is asked, say."""
        return None

    def usable(self, result: Any) -> bool:
        """Say whether the result of a job, as the journal has it, still holds: what it names may be gone."""
        return True

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the trials to run next; none (and no jobs) when the search is over."""
        return []

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Return the state after the results of the trials that `ask` returned.

        Where the budget has no room for all of them, these are the first ones.
        """
        return state

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the candidates to compare with the original on the held-out rows."""
        raise NotImplementedError(f"{type(self).__name__} must define finalists()")

    def ranked(self, brief: Brief, state: State) -> list[Ranked]:
        """Return every candidate that was scored on the search rows, best first; none where nothing is selected."""
        return []

    def found(self, brief: Brief, state: State) -> list[str]:
        """Return lines for the report: what the search kept, dropped, and why."""
        return []

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts of the search, for the plan."""
        return (0, 0)

    def proposals(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the fewest and the most calls of models that propose, by the name of the job, for the plan."""
        return {}

    def asks(self, brief: Brief) -> list[LM | Embedder]:
        """Return models that the search may ask beside those of its programs: looked at before anything is spent."""
        return []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.settings().items())})"

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters, as values that can be shown and saved."""
        return {k: _shown(v) for k, v in self.__dict__.items() if not k.startswith("_")}


def _shown(value: Any) -> Any:
    if isinstance(value, (int, float, str, bool, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [_shown(v) for v in value]
    return getattr(value, "__name__", type(value).__name__)
