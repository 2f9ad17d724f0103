"""GEPA: instructions that evolve by reflection on what the metric says of single runs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from tuneful.errors import UsageError
from tuneful.evaluate.metric import Metric
from tuneful.optimize.propose.proposing import Proposers, Proposing
from tuneful.optimize.propose.reflection import Reflect, reflection_inputs
from tuneful.optimize.strategies import evolution, lessons
from tuneful.optimize.strategies.lessons import Lessons
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, Ranked, State, Trial
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole

#: By `auto`: the number that its formula begins with.
_AUTO = {"light": 6, "medium": 12, "heavy": 18}
#: The most of the search rows that are read: one in so many. The others judge.
_READ = 3
#: Rows that are read at once.
_GLANCE = 8
#: Proposals in a row that bring nothing new, after which there is nothing more to hope for.
_FRUITLESS = 8
#: Attempts that did not help, of which a reflection is told at the most.
_TRIED = 5
#: Share of the rollouts that is kept for the race at the end, at the most.
_KEPT = 0.25
#: Rollouts that a proposal takes: some to read, those that it was shown, and a look at two candidates.
_STEP = _GLANCE + 3 * evolution.BLOCK

_SELECTING = ("pareto", "current_best")
_COMPONENTS = ("round_robin", "all")


class GEPA(Proposing):
    """Let a model improve the instructions from what the metric says of single runs, and keep what proves better.

    A candidate is run on a few rows; a model reads what each step was given and wrote, with the metric's feedback,
    finds out what went wrong, and rewrites the instructions of a predictor. What it wrote must beat what it was made
    from on other rows. Next to be improved is one that is best on some rows, not the best of all, so that different
    strengths live side by side; strengths in different predictors are merged. Use it where the metric can say in words
    what was wrong (`tf.Score(value, feedback=...)`), or rows have labels, and a capable model reflects
    (`reflection_lm`). It adds no demos: where a small model must do all, `BootstrapFewShotWithRandomSearch` is the
    safer lever.

    Args:
        metric: judges a run; its feedback is read. One that takes `pred_name` and `pred_trace` is asked about each
            predictor of the runs that are read ("self" where the program is one predictor); without feedback the labels
            of the row are shown.
        auto: "light", "medium" or "heavy": the most rollouts, with n = 6, 12 or 18 and N = max(4 x predictors x log2 n,
            1.5 n), are rows + 5 n + 35 N + rows x (N + 1) / 5 and some more. Light where nothing else is said.
        max_full_evals: the most rollouts, as multiples of the search rows, in place of `auto`.
        max_metric_calls: the most rollouts of the search, in place of `auto`.
        reflection_minibatch_size: runs that a reflection is shown: one that is right, from three on, and others.
        candidate_selection_strategy: what is improved: "pareto", one that is best on some rows, by how many these are;
            or "current_best".
        reflection_lm: LM that reflects; None is the configured one.
        skip_perfect_score: learn from runs below `perfect_score` alone.
        add_format_failure_as_feedback: learn from answers that did not fit the signature too.
        component_selector: "round_robin" improves one predictor at a time, "all" all of them at once.
        use_merge: whether candidates are merged; max_merge_invocations: how often.
        num_threads: rollouts in flight; by default the setting.
        failure_score: score, for the search, of a run that failed.
        perfect_score: score from which there is nothing to learn.
        num_proposals: candidates that are written side by side, and then judged: fewer steps in time, each from less.
        init_temperature: temperature of the proposals.

    Raises:
        UsageError: two limits, or a value that is out of question.

    Cost: `max_metric_calls` runs of the student at most; a call of the reflecting model for each candidate (predictors
    calls with "all"), which takes about 10 runs to judge; then 2 runs for each held-out row.

    Source: Agrawal et al. (2025), "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", and DSPy's
    arguments. Deviations, since there three quarters of the rollouts validate, and much of what passes is luck: rows
    are read or judge, never both (a third is read), so that no text is judged by what it was written from. A candidate
    that mends what it was shown is compared with its parent on further rows until one is ahead, where it is run on all
    rows there; its gain counts for as much as so few rows can tell, and the best three race at the end (see
    `strategies.evolution`). Rows are read until there is a failure to learn from, and each is shown once first (see
    `strategies.lessons`). The proposer sees whole runs, and what was tried and did not help. A merge is of the best two
    that can be merged, and judged like the others. Ties go to the older. `valset` is for the comparison alone;
    `instruction_proposer` is `proposers["reflection"]`, `log_dir` is `run=`, `track_stats` the report.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | Module,
        *,
        auto: Literal["light", "medium", "heavy"] | None = None,
        max_full_evals: int | None = None,
        max_metric_calls: int | None = None,
        reflection_minibatch_size: int = 3,
        candidate_selection_strategy: Literal["pareto", "current_best"] = "pareto",
        reflection_lm: LM | None = None,
        skip_perfect_score: bool = True,
        add_format_failure_as_feedback: bool = False,
        component_selector: Literal["round_robin", "all"] = "round_robin",
        use_merge: bool = True,
        max_merge_invocations: int = 5,
        num_threads: int | None = None,
        failure_score: float = 0.0,
        perfect_score: float = 1.0,
        num_proposals: int = 1,
        init_temperature: float = 1.0,
    ) -> None:
        limits = {"auto": auto, "max_full_evals": max_full_evals, "max_metric_calls": max_metric_calls}
        given = [name for name, value in limits.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} both say how much to run; give one of {', '.join(limits)}.")
        _check("auto", auto, (None, *_AUTO))
        _check("candidate_selection_strategy", candidate_selection_strategy, _SELECTING)
        _check("component_selector", component_selector, _COMPONENTS)
        self.metric = metric
        self.auto = auto if given else "light"
        self.max_full_evals = None if max_full_evals is None else checked_whole("max_full_evals", max_full_evals)
        self.max_metric_calls = None
        self.num_proposals = checked_whole("num_proposals", num_proposals)
        self._least = _STEP * num_proposals
        if max_metric_calls is not None:
            self.max_metric_calls = checked_whole("max_metric_calls", max_metric_calls, self._least)
        self.reflection_minibatch_size = checked_whole("reflection_minibatch_size", reflection_minibatch_size)
        self.candidate_selection_strategy = candidate_selection_strategy
        self.prompt_model = reflection_lm
        self.skip_perfect_score = skip_perfect_score
        self.add_format_failure_as_feedback = add_format_failure_as_feedback
        self.component_selector = component_selector
        self.use_merge = use_merge
        self.max_merge_invocations = checked_whole("max_merge_invocations", max_merge_invocations, 0)
        self.num_threads = num_threads
        self.failure_score = failure_score
        self.perfect_score = perfect_score
        self.init_temperature = init_temperature
        self.proposers = Proposers({"reflection": Reflect(init_temperature)})
        self._by_step = Metric(metric).speaks_of_steps
        known = (skip_perfect_score, add_format_failure_as_feedback, failure_score, perfect_score)
        self._choice = Lessons(reflection_minibatch_size, *known)

    # --- what comes next: runs to read, texts to write, runs that judge them ---

    def init(self, brief: Brief) -> State:
        """Return the first state: the program as it is, not run yet."""
        begun: State = {"evolution": evolution.start(_judging(brief)), "notes": [lessons.start()]}
        return self._advanced(brief, {**begun, "rollouts": 0, "written": 0, "fruitless": 0})

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the runs that judge; where there are none, runs to read."""
        return [trial for _, trial in self._trials(brief, state)]

    def _trials(self, brief: Brief, state: State) -> list[tuple[int, Trial]]:
        """Return trials, each with the number of the member that it is of."""
        judging = evolution.asked(state["evolution"])
        if _count(judging) > self._room(brief, state):
            return []
        members = state["evolution"]["members"]
        found = []
        for i, rows in judging or self._to_read(brief, state):
            parent = next((members[p]["values"] for p in members[i]["parents"]), None)
            by_step = self._by_step and rows[0] in _reading(brief)
            found.append((i, Trial(members[i]["values"], rows, leave_out=True, by_step=by_step, parent=parent)))
        return found

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Take scores, or runs to learn from."""
        found = [(i, own) for (i, _), (_, own) in zip(self._trials(brief, state), results, strict=False)]
        state = {**state, "rollouts": state["rollouts"] + _count(found)}
        if evolution.asked(state["evolution"]):
            scores = [(i, [self._choice.score(o) for o in own]) for i, own in found]
            return self._advanced(brief, {**state, "evolution": evolution.told(state["evolution"], scores)})
        notes = [*state["notes"]]
        for i, own in found:
            notes[i] = {**notes[i], "runs": [*notes[i]["runs"], *map(self._choice.run, own)]}
        return self._advanced(brief, {**state, "notes": notes})

    def _advanced(self, brief: Brief, state: State) -> State:
        """Give up what nobody can pay for; merge what is ripe; end the search where there is nothing more to learn."""
        found = state["evolution"]
        if _count(evolution.asked(found)) > self._room(brief, state):
            found = evolution.given_up(found)
        left = self.max_merge_invocations - found["merges"] if self.use_merge else 0
        if found["ripe"] and evolution.settled(found) and left > 0:
            found = evolution.merge(found)
        notes = [*state["notes"]]
        for member in found["members"][len(notes) :]:
            notes.append(lessons.start(notes[member["parents"][0]]["next"]))
        state = {**state, "evolution": found, "notes": notes}
        if evolution.settled(found) and self._over(brief, state):
            return {**state, "evolution": {**found, "finals": evolution.contenders(found)}}
        return state

    def _over(self, brief: Brief, state: State) -> bool:
        kept = min(evolution.kept(state["evolution"]), int(_KEPT * self._most(brief)))
        short = self._room(brief, state) - kept < self._least
        return short or state["fruitless"] >= _FRUITLESS or not self._lessons(brief, state)

    def _room(self, brief: Brief, state: State) -> int:
        return self._most(brief) - int(state["rollouts"])

    # --- reading ---

    def _lessons(self, brief: Brief, state: State) -> list[_Lesson]:
        """Return what the next reflections are on; where not enough runs are read yet, lessons without any."""
        found: list[_Lesson] = []
        for number in range(state["written"], state["written"] + self.num_proposals):
            rng = brief.stream(f"reflection {number}")
            member = self._to_improve(brief, state, rng)
            if member is not None:
                taken = [run for lesson in found if lesson.member == member for run in lesson.runs]
                found.append(self._lesson(brief, state, member, taken, rng))
        return found

    def _to_improve(self, brief: Brief, state: State, rng: random.Random) -> int | None:
        """Return a member to improve; None where none has anything to teach."""
        known, notes, steps = state["evolution"], state["notes"], _steps(brief)
        weights = {
            i: n
            for i, n in evolution.weights(known).items()
            if steps and (_unread(brief, notes[i]) or self._choice.instructive(notes[i]["runs"], steps))
        }
        if self.candidate_selection_strategy == "pareto" and any(weights.values()):
            return rng.choices(list(weights), list(weights.values()))[0]
        value = evolution.estimates(known)
        return max(weights, key=lambda i: (value[i], -i), default=None)

    def _lesson(self, brief: Brief, state: State, member: int, taken: Sequence[int], rng: random.Random) -> _Lesson:
        """Return what a reflection on a member is on."""
        notes, steps = state["notes"][member], _steps(brief)
        shown = self._choice.minibatch(notes, steps, taken, rng, more=bool(_unread(brief, notes)))
        ran = {step["path"] for run in shown for step in notes["runs"][run]["steps"]}
        first = notes["next"] % len(steps)
        paths = [path for step, path in [*steps.items()][first:] + [*steps.items()][:first] if step in ran]
        return _Lesson(member, tuple(shown), tuple(paths if self.component_selector == "all" else paths[:1]))

    def _to_read(self, brief: Brief, state: State) -> list[tuple[int, tuple[int, ...]]]:
        """Return members, each with the rows to read next."""
        if not evolution.settled(state["evolution"]):
            return []
        lacking = dict.fromkeys(lesson.member for lesson in self._lessons(brief, state) if not lesson.runs)
        return [(i, _unread(brief, state["notes"][i])[:_GLANCE]) for i in lacking]

    # --- writing ---

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return the reflections that come next, once enough runs are read."""
        if not evolution.settled(state["evolution"]) or self._to_read(brief, state):
            return []
        numbered = enumerate(self._lessons(brief, state), state["written"])
        return [self._job(brief, state, lesson, path, number) for number, lesson in numbered for path in lesson.paths]

    def _job(self, brief: Brief, state: State, lesson: _Lesson, path: str, number: int) -> Job:
        members, step = state["evolution"]["members"], path.removesuffix("instructions").removesuffix(".")
        now = members[lesson.member]["values"].get(path, brief.parameters[path].value)
        rows = brief.trainset
        runs = [state["notes"][lesson.member]["runs"][run] for run in lesson.runs]
        cases = [{**run, "labels": rows[run["row"]].labels().to_dict()} for run in runs]
        tried = "\n\n".join(_tried(members, lesson.member, path)[-_TRIED:])
        given = reflection_inputs(brief, step, now, cases, tried)
        return Job("reflection", {**given, "sample": number, "step": step})

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Let what was written, where it is new, be tested."""
        given, written = self._lessons(brief, state), iter(results)
        notes, found, fruitless = [*state["notes"]], state["evolution"], state["fruitless"]
        for lesson in given:
            own, free = notes[lesson.member], list(_steps(brief).values())
            values = {**found["members"][lesson.member]["values"]}
            for path in lesson.paths:
                _, said = next(written)
                if said is not None and said["instructions"]:
                    values[path] = said["instructions"]
            values = {path: text for path, text in values.items() if text != brief.parameters[path].value}
            following = free.index(lesson.paths[0]) + 1 if len(lesson.paths) == 1 else own["next"]
            notes[lesson.member] = {**own, "shown": [*own["shown"], *lesson.runs], "next": following}
            new = all(values != member["values"] for member in found["members"])
            fruitless = 0 if new else fruitless + 1
            shown = [(own["runs"][run]["row"], own["runs"][run]["score"]) for run in lesson.runs]
            found = evolution.joined(found, values, [lesson.member], shown) if new else found
        state = {**state, "notes": notes, "evolution": found, "written": state["written"] + len(given)}
        return self._advanced(brief, {**state, "fruitless": fruitless})

    # --- the result ---

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the best candidate, if it is not the program as it is."""
        best = evolution.leader(state["evolution"])
        return [state["evolution"]["members"][best]["values"]] if best else []

    def ranked(self, brief: Brief, state: State) -> list[Ranked]:
        """Return the candidates that were judged: the leader, those that beat what they were made from, the others."""
        members, value = state["evolution"]["members"], evolution.estimates(state["evolution"])
        best, good = evolution.leader(state["evolution"]), evolution.of_fate(state["evolution"], "original", "better")
        order = sorted(range(len(members)), key=lambda i: (i != best, i not in good, -value[i], i))
        scored = [(i, [s for s in members[i]["scores"] if s is not None]) for i in order]
        return [Ranked(members[i]["values"], fmean(scores), len(scores)) for i, scores in scored if scores]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what was written, what became of it, and what the rollouts were spent on."""
        if not _steps(brief):
            return ["there is nothing to change: all instructions are frozen"]
        found, notes = state["evolution"], state["notes"]
        fates = ((len(evolution.of_fate(found, fate)), fate) for fate in ("better", "not better", "undecided"))
        told = ", ".join(f"{n} {fate}" for n, fate in fates if n)
        read = sum(len(own["runs"]) for own in notes)
        lines = [
            f"{state['written']} reflections, {len(found['members']) - 1} new candidates ({found['merges']} merged)"
            + (f": {told} than what they were made from" if told else ""),
            f"{state['rollouts']} of at most {self._most(brief)} rollouts: {read} to read, the others to judge",
        ]
        if state["fruitless"] >= _FRUITLESS:
            lines.append(f"ended since {state['fruitless']} reflections in a row brought nothing new")
        elif not state["written"] and found["finals"] is not None:
            lines.append("ended before the first reflection: nothing went wrong, or there is too little room for any")
        return lines

    def proposals(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the calls of the reflecting model: one for each candidate, most of which take some runs to judge."""
        steps = len(_steps(brief)) if self.component_selector == "all" else 1
        return {"reflection": (0, steps * (self.rollouts(brief)[1] // 2))}

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts."""
        if not _steps(brief) or self._most(brief) < self._least:
            return (0, 0)
        return (min(_GLANCE, len(_reading(brief))), self._most(brief))

    def _most(self, brief: Brief) -> int:
        """Return the most rollouts."""
        rows = len(brief.trainset)
        if self.max_metric_calls is not None:
            return int(self.max_metric_calls)
        if self.max_full_evals is not None:
            return int(self.max_full_evals) * rows
        n = _AUTO[self.auto or "light"]
        tries = max(math.floor(4 * len(_steps(brief)) * math.log2(n)), math.floor(1.5 * n))
        return rows + 5 * n + 35 * tries + rows * ((tries + 1) // 5 + 1)


@dataclass(frozen=True)
class _Lesson:
    """What a reflection is on: a member, the runs that are shown, and the paths of the instructions to rewrite."""

    member: int
    runs: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()


def _check(name: str, value: Any, known: Sequence[Any]) -> None:
    if value not in known:
        raise UsageError(f"`{name}` is {value!r}; expected one of {', '.join(map(repr, known))}.")


def _order(brief: Brief) -> list[int]:
    return brief.stream("rows").sample(range(len(brief.trainset)), len(brief.trainset))


def _reading(brief: Brief) -> tuple[int, ...]:
    """Return the rows that are read."""
    return tuple(_order(brief)[: max(1, len(brief.trainset) // _READ)])


def _judging(brief: Brief) -> tuple[int, ...]:
    """Return the rows that judge: those that nobody reads."""
    return tuple(_order(brief)[len(_reading(brief)) :])


def _unread(brief: Brief, notes: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the rows to read that a member was not read on."""
    return _reading(brief)[len(notes["runs"]) :]


def _steps(brief: Brief) -> dict[str, str]:
    """Return the predictors whose instructions are free, with the paths of these."""
    paths = {step: f"{step}.instructions".lstrip(".") for step in brief.signatures}
    return {step: path for step, path in paths.items() if brief.tunable(path)}


def _count(wanted: Sequence[tuple[int, Sequence[Any]]]) -> int:
    return sum(len(rows) for _, rows in wanted)


def _tried(members: Sequence[Mapping[str, Any]], member: int, path: str) -> list[str]:
    """Return instructions that were tried in place of those of a member, and were no better on rows of their own."""
    failed = [m["values"] for m in members if m["parents"] == [member] and m["fate"] == "not better" and m["taken"]]
    own = {**members[member]["values"], path: ""}
    return [values[path] for values in failed if {**values, path: ""} == own and values.get(path)]
