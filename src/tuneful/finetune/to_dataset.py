"""to_dataset: a teacher's good runs as training data for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tuneful.errors import UsageError
from tuneful.evaluate.evaluate import Watch, check_examples, check_program
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.rollout import Row, roll_out
from tuneful.finetune.from_steps import Writer, from_steps
from tuneful.finetune.training_set import TrainingSet
from tuneful.program.demos.teaching import taught_paths
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.running.concurrency import gather_bounded, in_flight
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import rollout
from tuneful.program.trace import Step, paths_of
from tuneful.progress import progress_bar
from tuneful.spec.example import Example

__all__ = ["from_steps", "to_dataset"]

Learn = Literal["steps", "answers"]


def to_dataset(
    program: Module,
    trainset: Sequence[Example],
    *,
    metric: Callable[..., Any] | Module | None = None,
    teacher: Module | Sequence[Module] | None = None,
    threshold: float | None = None,
    demos: bool = False,
    lm: LM | None = None,
    samples: int = 1,
    learn: Learn | None = None,
    judge_unlabelled: bool = False,
    num_threads: int | None = None,
    timeout_s: float | None = None,
    max_errors: int | None = None,
    display_progress: bool = False,
) -> TrainingSet:
    """Run a teacher over rows, and return what a model that is to serve the program can learn from its good runs.

    >>> from tuneful.program.predict import Predict
    >>> from tuneful.testing import DummyLM
    >>> rows = [Example(question=q, answer=a).with_inputs("question") for q, a in (("2+2?", "4"), ("3+3?", "6"))]
    >>> big = DummyLM({"2+2": {"answer": "4"}, "3+3": {"answer": "7"}})
    >>> student = Predict("question -> answer")
    >>> found = to_dataset(
    ...     student, rows, metric=lambda row, answer: row.answer == answer.answer, teacher=student.using(lm=big)
    ... )
    >>> print(found.summary())
    1 example, from 1 run (passed the metric 1). Left out: 1 run (metric below threshold 1).

    Each step of a kept run is an example of the predictor that made it, so that steps nobody labelled are learned too.
    Rows need no labels: those that have none are kept as the teacher answered them, unless the metric can judge them.
    What was paid for is in the response cache, so a call that was stopped is made again at no cost.

    Use it to train a model of your own. To compile a program's weights like its prompts, with a budget, a comparison
    and a report, use a teleprompter.

    Args:
        program: the student: whose prompts are written.
        trainset: rows with inputs marked.
        metric: judges a run; it receives the trace, and may be stricter then. None keeps every run that ends.
        teacher: who is run: the same program, compiled or with another LM, one that holds it (an ensemble), or, for a
            student of one predictor, any program that returns its outputs; or several. None: the program itself.
        threshold: least score of a run that is kept. None keeps every run with a score other than 0.
        demos: whether the tuned model will be shown the student's demos; without them its prompts are shorter.
        lm: what the student will be asked with, such as tf.LM("local/smollm2"): its abilities decide how prompts are
            written. By default each predictor's own LM, or the configured one.
        samples: runs of each row by each teacher; those after the first are sampled anew.
        learn: "steps", the teacher's steps of the student's predictors; or "answers", what the teacher returned,
            for a student of one predictor. By default steps, and the result of a teacher that shares no predictor.
        judge_unlabelled: whether the metric judges rows without labels too: one that needs none.
        num_threads: runs in flight; by default the setting, or as many as there are with an LM that batches.
        timeout_s: seconds for one run.
        max_errors: stop when more runs than this have failed. None is no limit.
        display_progress: whether to show a bar where a person can see it.

    Returns:
        The set, with counts of what was kept and why the rest was not. It may be empty: `checked()` raises then.

    Raises:
        UsageError, DataError, MetricError: the arguments cannot be used. No model was called.
        EvaluationError: the program raised on every one of the first rows, or on more than `max_errors`.

    Cost: rows x teachers x `samples` runs, and the metric's own calls where it is a program.

    Source: Khattab et al. (2023), "DSPy: Compiling Declarative Language Model Calls into Self-Improving Pipelines",
    section 4 (finetuning); several samples: Yuan et al. (2023), "Scaling Relationship on Learning Mathematical
    Reasoning with Large Language Models", section 3.3. Deviations: an answer that needed a repair turn is not learned;
    a step belongs to the predictor whose path the trace recorded.
    """
    if threshold is not None and metric is None:
        raise UsageError("`threshold` needs a metric to compare with it. No model was called.")
    teachers = [program] if teacher is None else [teacher] if isinstance(teacher, Module) else list(teacher)
    if not teachers:
        raise UsageError("`teacher` is an empty list; expected a program, several, or None. No model was called.")
    check_examples(trainset, "trainset")
    writer = Writer.of(program, demos=demos, lm=lm)
    lessons = [Lesson.of(program, t, learn) for t in teachers]
    for one in teachers:
        check_program(one, trainset)
    judge = None if metric is None else Metric(metric)
    count = int(checked_whole("samples", samples))
    jobs = [
        Job(lesson, example, sample, judge if judge_unlabelled or _labelled(example) else None)
        for lesson in lessons
        for sample in range(count)
        for example in trainset
    ]
    limit = max(in_flight(num_threads, t) for t in teachers)
    rows = portal.run(_rows(jobs, limit, timeout_s, Watch(len(jobs), max_errors), display=display_progress))
    kept: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    steps: list[Mapping[str, Any]] = []
    for job, row in zip(jobs, rows, strict=True):
        if reason := _why_not(row, threshold):
            left_out[reason] += 1
        else:
            kept[_why(job, judge)] += 1
            steps += job.lesson.steps(row)
    return TrainingSet((), dict(left_out), dict(kept)) + writer.examples(steps)


# --- running ---


@dataclass(frozen=True)
class Lesson:
    """What a teacher teaches.

    Args:
        teacher: the program that runs.
        paths: the student's predictor for each of the teacher's; None: the result teaches the one at `target`.
        target: path of the student's only predictor.
        tokens: the teacher's `paths_of`.
    """

    teacher: Module
    paths: Mapping[str, str] | None
    target: str
    tokens: dict[int, str]

    @classmethod
    def of(cls, student: Module, teacher: Any, learn: Learn | None) -> Lesson:
        """Return the lesson. Raises UsageError where there is nothing to be learned."""
        if not isinstance(teacher, Module):
            raise UsageError(f"a teacher is a program, a tf.Module, got {teacher!r:.80}.")
        if learn not in (None, "steps", "answers"):
            raise UsageError(f"`learn` is {learn!r}; expected 'steps', 'answers' or None.")
        paths = taught_paths(teacher, student)
        mine = [path for path, _ in student.named_predictors()]
        if learn == "answers" or (learn is None and not paths):
            if len(mine) != 1:
                raise UsageError(
                    f"what a teacher returns can teach a student of one predictor; {type(student).__name__} has "
                    f"{len(mine)}. A teacher that shares its predictors ({', '.join(mine)}) teaches them step by step. "
                    "No model was called."
                )
            return cls(teacher, None, mine[0], paths_of(teacher))
        if not paths:
            theirs = sorted(p for p, _ in teacher.named_predictors())
            raise UsageError(
                f"the teacher shares no predictor with the student: {theirs} against {sorted(mine)}. A teacher is the "
                "same program, compiled or with another LM, or a program that holds it. No model was called."
            )
        return cls(teacher, paths, "", paths_of(teacher))

    def steps(self, row: Row) -> Sequence[Mapping[str, Any]]:
        """Return the steps of a run, under the student's paths."""
        if self.paths is not None:
            others = set(self.tokens.values()) - self.paths.keys()  # predictors that the student does not have
            taught = [_recorded(step) for step in row.trace if step.path not in others]
            return [{**step, "path": self.paths.get(step["path"], step["path"])} for step in taught]
        found = row.prediction
        outputs = dict(found.items()) if isinstance(found, (Mapping, Example)) else {}
        return [{"path": self.target, "inputs": dict(row.example.inputs().items()), "outputs": outputs}]


@dataclass(frozen=True)
class Job:
    """One run of a teacher.

    Args:
        lesson: the teacher.
        example: the row.
        sample: 0 is the ordinary run; others are sampled anew.
        judge: the metric, or None where nobody judges.
    """

    lesson: Lesson
    example: Example
    sample: int
    judge: Metric | None

    async def run(self, timeout_s: float | None) -> Row:
        """Run it."""
        lesson = self.lesson
        return await roll_out(
            lesson.teacher, self.example, self.judge, timeout_s=timeout_s, bootstrapping=True, paths=lesson.tokens
        )


async def _rows(jobs: Sequence[Job], limit: int, timeout_s: float | None, watch: Watch, *, display: bool) -> list[Row]:
    with progress_bar(len(jobs), "to_dataset", display=display) as bar:

        async def one(item: tuple[int, Job]) -> Row:
            number, job = item
            with rollout(job.sample):
                row = await job.run(timeout_s)
            watch.add(number, row)
            bar.advance()
            return row

        return await gather_bounded(list(enumerate(jobs)), one, limit)


def _labelled(example: Example) -> bool:
    return any(value is not None for value in example.labels().values())


def _why(job: Job, judge: Metric | None) -> str:
    """Return why a run was kept."""
    if job.judge is not None:
        return "passed the metric"
    return "no metric" if judge is None else "unlabelled, not judged"


def _why_not(row: Row, threshold: float | None) -> str:
    """Return why a run is left out, or ""."""
    if row.status != "ok":
        return row.status.replace("_", " ")
    if row.score is None:  # nobody judged
        return ""
    good = row.score != 0 if threshold is None else row.score >= threshold
    return "" if good else "metric below threshold"


def _recorded(step: Step) -> dict[str, Any]:
    """Return a step as a journal has it, but with values that are no JSON."""
    return {
        "path": step.path,
        "inputs": step.inputs,
        "outputs": step.outputs,
        "noted": step.noted,
        "superseded": step.superseded,
    }
