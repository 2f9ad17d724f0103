"""KNNFewShot: for each input, the demos that are most like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tuneful.errors import UsageError
from tuneful.optimize.propose.demos import picked
from tuneful.optimize.strategies.pool import Pool, told
from tuneful.optimize.task import Task
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Brief, Candidate, Outcome, State, Trial
from tuneful.program.demos.demo_pool import Vectorizer, vectorizer_of
from tuneful.program.demos.knn import KNN
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.vectors.embedder import Embedder
from tuneful.spec.example import Example

P = TypeVar("P", bound=Module)


class KNNFewShot(Teleprompter):
    """Show each predictor, at every call, the k rows that are most like its inputs.

    Every row becomes a demo once, when the program is compiled: of the teacher's run where the metric likes it,
    otherwise of its labels. The rows are saved with the program (as its parameters `*.demo_pool`), and a call asks the
    embedder for one vector and the LM for nothing more than otherwise. Use it where the right answer is near to those
    of similar inputs (many labels, many intents, many forms), and where prompts may differ from call to call: a
    prefix cache then serves only what stands before the demos.

    Args:
        k: demos of a call. They stand in order of growing likeness.
        trainset: the rows, where `compile` is not given any.
        vectorizer: a `tf.Embedder`, a model's name such as "local/wordllama", or a function from texts to vectors. A
            function is not saved with the program: `program.set_embedder(function)` before it is loaded.
        metric, metric_threshold, teacher_settings, max_rounds, max_errors: of the bootstrap; see `BootstrapFewShot`.
        max_bootstrapped_demos: most runs to keep; None tries every row, 0 shows labelled rows only.
        max_labeled_demos: labelled rows that the teacher is shown; with 0, rows without a good run are left out.

    Raises:
        UsageError: no vectorizer, or a function that gives no vectors. DataError: no rows.

    Cost: rows x `max_rounds` runs of the teacher at most, 2 runs for each held-out row, and the embedding of every row
    for each predictor.

    Source: Liu et al. (2022), "What Makes Good In-Context Examples for GPT-3?", section 3; Khattab et al. (2023),
    section 4. Deviation from DSPy, whose KNNFewShot runs a bootstrap of the k nearest rows at every call: here once,
    for all rows; each predictor looks for what is like its own inputs, not the program's.
    """

    selects = False

    def __init__(
        self,
        k: int,
        trainset: Sequence[Example] | None = None,
        vectorizer: Vectorizer | str | None = None,
        metric: Callable[..., Any] | Module | None = None,
        metric_threshold: float | None = None,
        teacher_settings: dict[str, Any] | None = None,
        max_bootstrapped_demos: int | None = None,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        max_errors: int | None = None,
    ) -> None:
        if vectorizer is None:
            raise UsageError("KNNFewShot needs a `vectorizer`: a tf.Embedder, a model's name or a function.")
        self.k = checked_whole("k", k)
        self.vectorizer = vectorizer_of(vectorizer)
        self.metric = metric
        self.metric_threshold = metric_threshold
        self.teacher_settings = teacher_settings
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.max_rounds = max_rounds
        self.max_errors = max_errors
        self._trainset = trainset
        self._pool(0)  # checked before anything is run

    def _pool(self, n_rows: int) -> Pool:
        wanted = n_rows if self.max_bootstrapped_demos is None else self.max_bootstrapped_demos
        judged = self.metric is not None
        return Pool(wanted, self.max_labeled_demos, self.max_rounds, self.max_errors, self.metric_threshold, judged)

    def compile(self, student: P, trainset: Sequence[Example] | None = None, **given: Any) -> P:
        """Do what every teleprompter's `compile` does, with the constructor's trainset where none is given."""
        return super().compile(student, self._rows(trainset), **given)

    async def acompile(self, student: P, trainset: Sequence[Example] | None = None, **given: Any) -> P:
        """Do what `compile` does, in the current event loop."""
        return await super().acompile(student, self._rows(trainset), **given)

    def _rows(self, trainset: Sequence[Example] | None) -> Sequence[Example]:
        own = () if self._trainset is None else self._trainset
        return own if trainset is None else trainset

    async def _compiled(self, task: Task) -> Any:
        if not (isinstance(self.vectorizer, Embedder) and isinstance(self.vectorizer.model, str)):
            first = task.trainset[0]  # a function that fails would otherwise fail every run of the comparison
            await KNN(1, [first, *task.trainset[1:2]], self.vectorizer).acall(**first.inputs().to_dict())
        student = task.student.deepcopy()
        student.set_embedder(self.vectorizer)
        return await super()._compiled(replace(task, student=student, as_given=task.student))

    def init(self, brief: Brief) -> State:
        """Return the first state: an empty pool."""
        return self._pool(len(brief.trainset)).start(brief)

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the next wave of rows for the teacher."""
        return self._pool(len(brief.trainset)).ask(brief, state)

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Keep the runs that succeeded."""
        return self._pool(len(brief.trainset)).tell(state, results)

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the one candidate: for each predictor a pool of all rows that say something of it."""
        return [picked(brief, state["kept"], self.k, rows=self.max_labeled_demos > 0)]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say how many runs were kept, and how many rows each predictor picks from."""
        sizes = {p: len(v["rows"]) for p, v in self.finalists(brief, state)[0].items() if p.endswith("demo_pool")}
        names = {p: p.removesuffix("demo_pool").rstrip(".") for p in sizes}
        picked = [
            f"`{names[p]}` picks {self.k} of {n} rows" if names[p] else f"{self.k} of {n} rows are picked"
            for p, n in sizes.items()
        ]
        return [told(state), *picked]

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most runs of the teacher."""
        return self._pool(len(brief.trainset)).rollouts(brief)
