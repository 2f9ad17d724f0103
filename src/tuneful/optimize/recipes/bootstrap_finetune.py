"""BootstrapFinetune: a program's own successes as training data for the models behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tuneful.errors import UsageError
from tuneful.finetune import remote
from tuneful.finetune.from_steps import from_steps
from tuneful.finetune.jsonl import from_line, to_line
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.finetune.tuned_model import TunedModel, plain_base
from tuneful.optimize.facts import hash_of
from tuneful.optimize.strategies.pool import Pool, told
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, State, Trial
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module

#: Runs are kept without limit: all of them are data.
_ALL = 10**9


class BootstrapFinetune(Teleprompter):
    """Run a teacher on training rows, and train the student's models on what it did where the metric likes the result.

    So a small model learns what a large, a compiled or a many-step program does, without labels for the steps, and
    needs no demos then: its prompts are short. The tuned program is returned only where it is better than the student
    on held-out rows. Use it for a few hundred rows and more; with fewer, demos (`BootstrapFewShot`) do better.

    Args:
        metric: judges a run; None keeps every run that ends.
        multitask: train one model on the steps of all predictors, rather than one for each predictor.
        train_kwargs: settings of the `LocalTrainer`, such as {"epochs": 2}, where no trainer is given.
        exclude_demos: train and ask without demos; otherwise the student's demos stay in its prompts.
        num_threads: rollouts in flight; None leaves it to the setting.
        trainer: what trains, such as `tf.OpenAITrainer()`; by default a `tf.LocalTrainer`.
        base_model: what is trained, by the name that `tf.LM` takes; by default the student's own model, or what that
            was tuned from: name a tuned model here to train it further.
        learn: "steps": each predictor learns from the steps that the teacher recorded for it. "answers": the student
            is a single predictor and learns the teacher's final answer to the row, whatever the teacher is: so an
            ensemble, or a program of many steps, is distilled into one call.
        metric_threshold: least score of a run that is kept. None keeps every run with a score other than 0.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM("openai/gpt-4o")}.
        max_labeled_demos: labelled rows that a teacher without demos of its own is shown.
        max_rounds: attempts for a row; those after the first are sampled anew.
        held_out: share of the prompts that is not trained on, to see when to stop.
        folder: where data, checkpoints and models are kept.

    Raises:
        DataError: no run was kept; the message counts the reasons.
        MissingExtraError, UsageError: the model cannot be trained here; nothing was spent.
        TrainingError: the training failed. Data and journal are kept: the same call goes on there.

    Cost: up to rows x `max_rounds` runs of the teacher, the training, then 2 runs of the student for each held-out
    row. The tokens trained on count in `Budget(tokens=)`, its time in `Budget(seconds=)`.

    Source: Khattab et al. (2023), "DSPy: Compiling Declarative Language Model Calls into Self-Improving Pipelines",
    section 4; Soylu et al. (2024), "Fine-Tuning and Prompt Optimization: Two Great Steps that Work Better Together".
    Deviations: all rounds of a row that succeed late are kept as the first ones; a step that needed a repair turn, or
    that the student's grammar would not let it write, is not learned from; a student that is tuned already is trained
    anew from its base, on its own better runs (Zelikman et al. (2022), "STaR: Bootstrapping Reasoning With Reasoning",
    section 3.1: training on and on overfits); "answers" is ours.
    """

    selects = False
    trains = True

    def __init__(
        self,
        metric: Callable[..., Any] | Module | None = None,
        multitask: bool = True,
        train_kwargs: Mapping[str, Any] | None = None,
        exclude_demos: bool = True,
        num_threads: int | None = None,
        *,
        trainer: Trainer | None = None,
        base_model: str | None = None,
        learn: Literal["steps", "answers"] = "steps",
        metric_threshold: float | None = None,
        teacher_settings: dict[str, Any] | None = None,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        held_out: float = 0.1,
        folder: str | Path = ".tuneful/models",
    ) -> None:
        if learn not in ("steps", "answers"):
            raise UsageError(f"`learn` is {learn!r}; expected 'steps' or 'answers'.")
        if train_kwargs is not None and not isinstance(train_kwargs, Mapping):
            raise UsageError(f"`train_kwargs` is {train_kwargs!r:.80}; expected settings by name: {{'epochs': 2}}.")
        if trainer is not None and train_kwargs:
            raise UsageError("`train_kwargs` are settings of the default trainer; give them to your `trainer` itself.")
        self.metric = metric
        self.multitask = multitask
        self.exclude_demos = exclude_demos
        self.num_threads = num_threads
        self.trainer = trainer or _local_trainer(train_kwargs or {})
        self.base_model = base_model
        self.learn = learn
        self.related_teacher = learn == "steps"
        self.metric_threshold = metric_threshold
        self.teacher_settings = teacher_settings
        self.max_labeled_demos = max_labeled_demos
        self.max_rounds = max_rounds
        self.held_out = held_out
        self.folder = str(folder)
        self._pool = Pool(
            _ALL,
            max_labeled_demos,
            max_rounds,
            None,
            metric_threshold,
            judged=metric is not None,
            answers=learn == "answers",
        )

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters, those of the trainer among them."""
        return {**super().settings(), "trainer": [type(self.trainer).__name__, self.trainer.settings()]}

    # --- the teacher's runs ---

    def init(self, brief: Brief) -> State:
        """Check that what is to be trained can be, and return the first state."""
        bases = self._bases(brief)
        if not bases:
            raise UsageError("no predictor's `lm` may be set (all are frozen), so there is no model to train.")
        if self.learn == "answers" and len(brief.signatures) != 1:
            raise UsageError(
                f"learn='answers' distils into one call, and the student has {len(brief.signatures)} predictors: "
                f"{', '.join(brief.signatures)}. Give a student of one predictor, or learn='steps'."
            )
        if self.multitask and len(set(bases.values())) > 1:
            raise UsageError(
                f"multitask=True trains one model, and the predictors have several: {sorted(set(bases.values()))}. "
                "Give `base_model`, or multitask=False."
            )
        if self.trainer.settings().get("api_base"):
            raise UsageError(
                "the trainer has an `api_base`, and a program keeps its model's name alone: it would be asked "
                "elsewhere. Train with `trainer.train(...)` and set the predictors' `lm` to `tuned.lm()`."
            )
        remote.check(self.trainer, sorted(set(bases.values())))
        return {"pool": self._pool.start(brief), "data": [], "tuned": None}

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return rows for the teacher."""
        return [] if state["tuned"] is not None else self._pool.ask(brief, state["pool"])

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Keep the runs that succeeded."""
        return {**state, "pool": self._pool.tell(state["pool"], results)}

    # --- training ---

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return the trainings, once the teacher has run. Raises DataError where no run was kept."""
        if state["tuned"] is not None or self._pool.ask(brief, state["pool"]):
            return []
        data = self._data(brief, state)
        bases = self._bases(brief)
        parts = {"": data} if self.multitask else data.by_path()
        return [
            Job(
                "training",
                {
                    "path": path,
                    "base": bases[path] if not self.multitask else next(iter(bases.values())),
                    "seed": brief.seed,
                    "said": data.summary(),
                    "examples": [to_line(e, "tool") for e in part],
                },
            )
            for path, part in parts.items()
        ]

    def decides(self, job: Job) -> Any:
        """Return the trainer and its settings."""
        return [type(self.trainer).__name__, self.trainer.settings(), self.held_out]

    async def work(self, brief: Brief, job: Job) -> Any:
        """Train, in a folder that the data and settings name, on a worker of the executor where there is one.

        Returns the tuned model as JSON. The folder keeps the data as `data.jsonl`, whatever becomes of the training.
        """
        given = job.inputs
        data = TrainingSet(tuple(TrainingExample(**from_line(line)) for line in given["examples"]))
        folder = Path(self.folder) / hash_of([given["base"], data.content_hash(), given["seed"], self.decides(job)])
        data.save(folder / "data.jsonl", "tool")
        learned, held_out = data.split(self.held_out, given["seed"])
        tuned = await remote.train(
            self.trainer, learned, given["base"], folder=folder, held_out=held_out or None, seed=given["seed"]
        )
        return tuned.to_json()

    def usable(self, result: Any) -> bool:
        """Say whether the files of a tuned model are still there."""
        tuned = TunedModel.from_json(result)
        return all(Path(place).exists() for place in (tuned.lora, tuned.folder) if place)

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Take the tuned models."""
        said = list(dict.fromkeys(job.inputs["said"] for job, _ in results))
        return {
            **state,
            "data": said,
            "tuned": {job.inputs["path"]: model for job, model in results if model is not None},
        }

    # --- the result ---

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the one candidate: each predictor with its tuned model, without demos unless they stay."""
        if not state["tuned"]:
            return []
        candidate: Candidate = {}
        for path in self._bases(brief):
            body = state["tuned"].get("" if self.multitask else path)
            if body is None:
                continue  # nothing was recorded for it: it stays as it is
            head = f"{path}." if path else ""
            candidate[f"{head}lm"] = TunedModel.from_json(body).lm().state
            candidate[f"{head}sampling"] = self._sampling(brief, path)
            if self.exclude_demos:
                candidate |= {p: [] for p in [f"{head}demos"] if brief.tunable(p)}
                candidate |= {p: None for p in [f"{head}demo_pool"] if brief.tunable(p)}
        return [candidate]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what was kept and trained on, and how the losses went."""
        lines = [told(state["pool"]), *state["data"]]
        for path, body in (state["tuned"] or {}).items():
            lines.append(_trained(path, TunedModel.from_json(body)))
        return lines

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most runs of the teacher."""
        return (len(brief.trainset), len(brief.trainset) * self.max_rounds)

    # --- parts ---

    def _data(self, brief: Brief, state: State) -> TrainingSet:
        """Return what the kept runs teach. Raises DataError where that is nothing."""
        assert brief.student is not None
        if not state["pool"]["kept"]:
            return TrainingSet(dropped=_reasons(state["pool"])).checked()
        free = self._bases(brief)  # a frozen predictor keeps its model: it has nothing to learn
        steps = [s for run in state["pool"]["kept"] for s in self._steps(brief, run) if s["path"] in free]
        lm = None if self.base_model is None else LM(self.base_model)
        data = from_steps(brief.student, steps, demos=not self.exclude_demos, lm=lm)
        return replace(data, kept={"score high enough": len(state["pool"]["kept"])}).checked()

    def _steps(self, brief: Brief, run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        if self.learn == "steps":
            return list(run["steps"])
        (path,) = brief.signatures
        inputs = brief.trainset[run["row"]].inputs().to_dict()
        return [{"path": path, "inputs": inputs, "outputs": run["outputs"]}]

    def _bases(self, brief: Brief) -> dict[str, str]:
        """Return the model to train for each predictor whose `lm` may be set."""
        assert brief.student is not None
        predictors = brief.student.named_predictors()
        free = [(path, p) for path, p in predictors if brief.tunable(f"{path}.lm" if path else "lm")]
        return {path: self.base_model or plain_base((p.lm or current_lm()).model) for path, p in free}

    def _sampling(self, brief: Brief, path: str) -> dict[str, Any]:
        """Return the sampling of a predictor and of its LM together: the tuned LM has none of its own."""
        assert brief.student is not None
        predictor = dict(brief.student.named_predictors())[path]
        return {**(predictor.lm or current_lm()).sampling.to_json(), **predictor.sampling.to_json()}


def _local_trainer(settings: Mapping[str, Any]) -> Trainer:
    from tuneful.finetune.local_trainer import LocalTrainer  # who brings a trainer of their own needs no other

    try:
        return LocalTrainer(**settings)
    except TypeError as error:
        raise UsageError(f"`train_kwargs` do not fit: {error}. They are those of tf.LocalTrainer.") from error


def _reasons(pool: Mapping[str, Any]) -> dict[str, int]:
    """Return why runs were not kept, in the words of a training set."""
    words = {"score too low": "metric below threshold"}
    return {words.get(why, why.replace("_", " ")): n for why, n in pool["why"].items()}


def _trained(path: str, tuned: TunedModel) -> str:
    steps = [p for p in tuned.history if p.loss is not None]
    losses = f", loss {steps[0].loss:.2f} to {steps[-1].loss:.2f}" if steps else ""
    out = [p.held_out_loss for p in tuned.history if p.held_out_loss is not None]
    held = f", on held-out examples {out[0]:.2f} to {min(out):.2f}" if out else ""
    seconds = f" in {steps[-1].seconds:.0f} s" if steps else ""
    of = f"`{path}`: " if path else ""
    return f"{of}{tuned.base} trained for {len(steps)} steps{seconds}{losses}{held}"
