"""Score against tokens: what each teleprompter makes of a budget on a small model, beside the peer's and plain chance.

    python bench/search.py [--peer PYTHON] [--data trec6,sst2] [--budgets 100000,400000] [--seeds 5] [--out runs.jsonl]

A seed draws `--rows` of train; every teleprompter compiles on them, once for each budget. The server, its settings and
the test rows are those of `teleprompters.py`. A budget is of total tokens, prompt and completion, of all models that a
compile asks, proposers and the comparison on held-out rows too; what a cache serves is no token. `--out` keeps each
run as a line of JSON, and runs that stand there with the same options are not repeated: a stopped bench goes on.

tuneful gets the budget as `tf.Budget`, and the default arguments but for those in `_OURS`. It has two rows: what
`compile` returned, which is the original where a gain could be noise or the budget ended before the comparison, and the
candidate that the search preferred. `RandomDemos` (random_demos.py) is the baseline: random sets of labelled rows, the
best mean on the search rows. `LabeledFewShot` is the first of such sets, and spends nothing.

The peer knows no budget. Its LM counts, and raises at the request after the last that the budget has room for, so the
overshoot is what was in flight. Then the best program so far, by the peer's own scores, is read from where its search
stood: the best full evaluation (BootstrapFewShotWithRandomSearch, MIPROv2), the best mean of its minibatches (SIMBA),
the best candidate of GEPA's state; the program as it was where there is none yet. An error that ends a compile is dealt
with in the same way, and stands in `stop_reason`. Its arguments are its defaults, but for: MIPROv2, GEPA and SIMBA get
a size that fits the budget, the same as here (see `EFFORT`); both frameworks get `--labelled` demos at most; errors
never end its search (`max_errors`), where by default ten unreadable answers do; GEPA's metric says the right answer as
feedback, and it gets half of the rows to validate on, as its warning asks for; the prompt model is the same model at
temperature 1 with up to {written} tokens, here too.

`score` is the mean over the seeds, with its 95 % interval over them (Student's t); `to Tune` that of the difference to
what Tune returned at the same budget, paired by seed. `ktok` are thousands of tokens really spent, `s` seconds of the
compile.

The peer's interpreter: {how} numpy optuna gepa.
"""

import json
import sys
from statistics import fmean

from compiles import (
    ANSWERS,
    BudgetSpent,
    arguments,
    by_peer,
    by_tuneful,
    interval,
    metric_of,
    model_of,
    model_server,
    options_of,
    paired,
    parsed,
    score_of,
    words,
)
from measure import HOW_TO_PEER, PEER, dispatch, emit, run_case, table
from tasks import TASKS

#: Tokens that a prompt model may write.
_WRITTEN = 512

__doc__ = __doc__.format(how=HOW_TO_PEER, written=_WRITTEN)

#: Most tokens of a budget for which an effort is right. MIPROv2 and GEPA know these names (`auto`); SIMBA's defaults
#: take some 3,300 rollouts, so it gets less below.
EFFORT = {"light": 300_000, "medium": 1_000_000, "heavy": float("inf")}
_SIMBA = {
    "light": {"bsize": 8, "num_candidates": 4, "max_steps": 2},
    "medium": {"bsize": 16, "num_candidates": 4, "max_steps": 4},
    "heavy": {},
}

#: What our teleprompters get beside metric, prompt model and number of demos.
_OURS = {
    "MIPROv2": lambda effort: {"auto": effort},
    "GEPA": lambda effort: {"auto": effort},
    "SIMBA": lambda effort: _SIMBA[effort],
}
#: Those that choose demos, and so are told how many there may be.
_DEMOS = (
    "Tune",
    "BootstrapFewShot",
    "KNNFewShot",
    "BootstrapFewShotWithRandomSearch",
    "BootstrapFewShotWithOptuna",
    "MIPROv2",
    "InferRules",
)
#: Those that a model writes for, and how it is called there.
_PROMPT_MODEL = {
    "MIPROv2": "prompt_model",
    "SIMBA": "prompt_model",
    "GEPA": "reflection_lm",
    "COPRO": "prompt_model",
    "InferRules": "prompt_model",
    "AutoPrompt": "prompt_model",
}

#: Those where nothing decides about the candidate.
ALONE = ("uncompiled", "LabeledFewShot", "RandomDemos")
RECIPES = (*ALONE, *dict.fromkeys((*_DEMOS, *_PROMPT_MODEL)))
#: Those that the peer has too.
PEERS = ("uncompiled", "BootstrapFewShotWithRandomSearch", "MIPROv2", "SIMBA", "GEPA")


def effort(budget):
    return next(name for name, most in EFFORT.items() if budget < most)


def settings(recipe, budget, options, lm):
    """Return the arguments that both frameworks get."""
    found = {"max_labeled_demos": options["labelled"]} if recipe in _DEMOS else {}
    if name := _PROMPT_MODEL.get(recipe):
        found[name] = lm(temperature=1.0, max_tokens=_WRITTEN)
    return {**found, **_OURS.get(recipe, lambda _: {})(effort(budget))}


# --- cases: one process each ---


def tuneful(task, recipe, seed, model, api_base, budget, options):
    def compiled(tf, student, trainset, lm):
        metric = metric_of(TASKS[task])
        run = {"trainset": trainset, "budget": tf.Budget(tokens=budget), "seed": seed}
        if recipe == "uncompiled":
            return student
        if recipe == "LabeledFewShot":
            return tf.LabeledFewShot(k=options["labelled"]).compile(student, **run)
        if recipe == "RandomDemos":
            from random_demos import RandomDemos

            return RandomDemos(metric, options["labelled"]).best(student, trainset, budget=run["budget"], seed=seed)
        own = settings(recipe, budget, options, lm)
        if recipe == "KNNFewShot":
            own |= {"k": options["labelled"], "trainset": trainset, "vectorizer": "local/wordllama"}
            run.pop("trainset")
        return getattr(tf, recipe)(metric=metric, **own).compile(student, **run)

    emit(by_tuneful(TASKS[task], seed, model, api_base, options, compiled))


def dspy(task, recipe, seed, model, api_base, budget, options):
    def compiled(dspy, student, trainset, lm):
        if recipe == "uncompiled":
            return student, ""
        try:
            return compiled_by_peer(dspy, TASKS[task], recipe, seed, budget, options, student, trainset, lm), "finished"
        except BudgetSpent as reached:
            return best_so_far(reached, student), "the budget was reached"
        except Exception as error:
            return best_so_far(error, student), f"{type(error).__name__}: {error!s:.200}"

    emit(by_peer(TASKS[task], seed, model, api_base, options, compiled, limit=budget))


def compiled_by_peer(dspy, task, recipe, seed, budget, options, student, trainset, lm):
    metric = metric_of(task)

    def telling(example, prediction, trace=None, _name=None, _trace=None):
        said = f"The right {task.output} is: {example[task.output]}"
        return dspy.Prediction(score=float(metric(example, prediction, trace)), feedback=said)

    named = {**settings(recipe, budget, options, lm), "num_threads": options["in_flight"]}
    match recipe:
        case "GEPA":
            half = len(trainset) // 2
            search = dspy.GEPA(metric=telling, seed=seed, **named)
            return search.compile(student, trainset=trainset[:half], valset=trainset[half:])
        case "MIPROv2":  # 0 would be read as no seed
            return dspy.MIPROv2(metric=metric, seed=seed + 1, **named).compile(student, trainset=trainset)
        case "SIMBA":
            named["bsize"] = min(named.get("bsize", 32), len(trainset))
            return dspy.SIMBA(metric=metric, **named).compile(student, trainset=trainset, seed=seed)
    return dspy.BootstrapFewShotWithRandomSearch(metric=metric, **named).compile(student, trainset=trainset)


def best_so_far(error, student):
    """Return the best program of a search that was ended, by its own scores: from the variables of where it stood."""
    trace, found = error.__traceback__, student
    while trace is not None:
        known = trace.tb_frame.f_locals
        if known.get("best_program") is not None:  # of a full evaluation
            found = known["best_program"]
        elif any(known.get("program_scores", {}).values()):  # SIMBA's minibatches
            scores = {i: fmean(own) for i, own in known["program_scores"].items() if own}
            found = known["programs"][max(scores, key=scores.get)]
        elif hasattr(state := known.get("state"), "program_full_scores_val_set"):  # GEPA's
            scores = list(state.program_full_scores_val_set)
            found = student.deepcopy()
            for name, predictor in found.named_predictors():
                text = state.program_candidates[scores.index(max(scores))][name]
                predictor.signature = predictor.signature.with_instructions(text)
        trace = trace.tb_next
    return found


CASES = {"tuneful": tuneful, "dspy": dspy}

# --- the runs ---


class Runs:
    """All runs: those that were kept, and those that are still to be made."""

    def __init__(self, chosen):
        self.chosen = chosen
        self.options = options_of(chosen)
        kept = chosen.out.read_text("utf-8").splitlines() if chosen.out and chosen.out.exists() else []
        self.lines = [json.loads(line) for line in kept]

    def of(self, **wanted):
        wanted |= {"model": self.chosen.model, **self.options}
        return [line for line in self.lines if all(line.get(name) == value for name, value in wanted.items())]

    def make(self, name, api_base):
        """Make the missing runs of a data set: all of a seed, then those of the next."""
        whos = [("tuneful", "tuneful", None, self.chosen.recipes)]
        if self.chosen.peer:
            whos.append((PEER, "dspy", self.chosen.peer, self.chosen.peers))
        for seed in range(self.chosen.seeds):
            for who, case, python, recipes in whos:
                for recipe in recipes:
                    for budget in self.chosen.budgets if recipe != "uncompiled" else [0]:
                        run = {"task": name, "framework": who, "recipe": recipe, "seed": seed, "budget": budget}
                        if (recipe != "uncompiled" or seed == 0) and not self.of(**run):
                            self._make(run, case, python, api_base)

    def _make(self, run, case, python, api_base):
        load = {key: run[key] for key in ("task", "recipe", "seed", "budget")}
        load |= {"model": model_of(self.chosen, peer=bool(python)), "api_base": api_base, "options": self.options}
        try:
            found = run_case(__file__, case, load, python, self.chosen.timeout)
        except SystemExit as failed:  # the other runs go on; this one is made again next time
            print(f"{run}: {str(failed.code)[-600:]}", flush=True)
            return
        task, shown = TASKS[run["task"]], [kind for kind in ANSWERS if kind in found]
        scores = {kind: score_of(task, found[kind]["answers"]) for kind in shown}
        figures = {key: value for key, value in found.items() if key not in ANSWERS}
        answers = {kind: {k: v for k, v in found[kind].items() if k != "answers"} for kind in shown}
        line = {"model": self.chosen.model, **self.options, **run, "scores": scores, **figures, "answers": answers}
        self.lines.append(line)
        said = ", ".join(f"{kind} {score:.1f} %" for kind, score in scores.items())
        print(f"{' '.join(map(str, run.values()))}: {said}, {found['tokens']:,} tokens, {found['seconds']:.0f} s "
              f"{found['verdict']} {found['stop_reason']}", flush=True)  # fmt: skip
        if self.chosen.out:
            with self.chosen.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def show(self, name):
        print(f"\n{name}: {self.chosen.rows} of train, {self.chosen.test} of dev, {self.chosen.seeds} seeds")
        rows = {}
        for framework, recipes in (("tuneful", self.chosen.recipes), (PEER, self.chosen.peers)):
            for recipe in recipes:
                for kind in ANSWERS if framework == "tuneful" and recipe not in ALONE else ANSWERS[:1]:
                    if self.of(task=name, framework=framework, recipe=recipe):
                        label = f"{framework} {recipe}{', candidate' if kind == 'candidate' else ''}"
                        rows[label] = (framework, recipe, kind)
        columns = []
        for budget in self.chosen.budgets:
            columns += [
                (f"{budget // 1000}k score", 14, lambda row, _, b=budget: shown(self.scores(name, *row, b))),
                ("to Tune", 13, lambda row, _, b=budget: self.to_tune(name, row, b)),
                ("ktok", 6, lambda row, _, b=budget: self.mean(name, row, b, "tokens", 1000)),
                ("s", 6, lambda row, _, b=budget: self.mean(name, row, b, "seconds")),
            ]
        if rows:
            table(columns, rows)
        print(flush=True)

    def scores(self, name, framework, recipe, kind, budget):
        budget = budget if recipe != "uncompiled" else 0
        found = self.of(task=name, framework=framework, recipe=recipe, budget=budget)
        if recipe == "uncompiled" and found:  # one run: no seed has a say in it
            return dict.fromkeys(range(self.chosen.seeds), found[0]["scores"]["returned"])
        return {line["seed"]: line["scores"].get(kind, line["scores"]["returned"]) for line in found}

    def to_tune(self, name, row, budget):
        if row == ("tuneful", "Tune", "returned"):
            return ""
        return paired(self.scores(name, *row, budget), self.scores(name, "tuneful", "Tune", "returned", budget))

    def mean(self, name, row, budget, figure, scale=1.0):
        found = self.of(task=name, framework=row[0], recipe=row[1], budget=budget)
        return f"{fmean(line[figure] for line in found) / scale:,.0f}" if found else ""


def shown(scores):
    return interval(list(scores.values())) if scores else ""


def main():
    parser = arguments(__doc__)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="teleprompters here, by comma")
    parser.add_argument("--peers", default=",".join(PEERS), help="teleprompters of the peer, by comma")
    parser.add_argument("--budgets", default="100000,400000", help="total tokens of a compile, by comma")
    parser.add_argument("--timeout", type=int, default=7200, help="most seconds of a run (default 7200)")
    chosen = parsed(parser, ("recipes", RECIPES), ("peers", PEERS))
    chosen.budgets = [int(budget) for budget in words(chosen.budgets)]
    with model_server(chosen) as api_base:
        runs = Runs(chosen)
        for name in chosen.data:
            runs.make(name, api_base)
            runs.show(name)


if __name__ == "__main__":
    sys.exit(dispatch(CASES, main))
