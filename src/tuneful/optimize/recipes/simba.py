"""SIMBA: on rows where runs differ, learn from the better ones: by a demo of them, or by a rule that a model writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, Literal

from tuneful.errors import UsageError
from tuneful.optimize.propose.advice import WriteAdvice, rules_of, run_text, steps_text
from tuneful.optimize.propose.demos import bootstrapped, demo_paths
from tuneful.optimize.propose.describe import examples_text, program_text
from tuneful.optimize.propose.proposing import Proposers, Proposing
from tuneful.optimize.strategies import contrast, race, selection
from tuneful.optimize.strategies.pool import plain
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, Ranked, State, Trial
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole

#: Demos on average before one is dropped, where `max_demos` is 0 and so says nothing.
_USUAL = 3


class SIMBA(Proposing):
    """Run minibatches several times, and learn from the rows where one run did better than another.

    In each step every row of a minibatch is run several times, by the program as it is and by what became of it so
    far. Where the runs of a row differ most, one thing is changed: the best run becomes a demo of every predictor, or
    a model compares the best run with the worst and writes rules, which are added to the instructions. What comes of it
    is tried on the same rows. Some demos are dropped on the way, so that prompts stay short. Use it for agents and
    other long programs, where it is hard to say beforehand what goes wrong, with a capable `prompt_model`. It takes
    thousands of runs by default; with few, `BootstrapFewShotWithRandomSearch`.

    Repetitions of a run sample at 0.7, unless the program or its LM has a temperature: at 0, all runs are alike, and
    nothing is learned from them.

    Args:
        metric: judges a run; `tf.Score(value, feedback=...)` tells the adviser why.
        bsize: rows of a minibatch.
        num_candidates: runs of each row, and one less than the changes that are tried, in each step.
        max_steps: minibatches.
        max_demos: most demos of a predictor. 0 writes rules alone.
        prompt_model: LM that writes rules; None is the configured one.
        teacher_settings: settings of one more run of each row, such as {"lm": tf.LM("openai/gpt-4o")}.
        demo_input_field_maxlen: most characters of an input in a demo.
        num_threads: rollouts in flight; by default the setting.
        temperature_for_sampling: how often worse candidates run a row, in the metric's units; near 0, never.
        temperature_for_candidates: how often worse candidates are what a change is made to.

    Raises:
        UsageError: a number that is out of question.

    Cost: `max_steps` x (2 x `num_candidates` + 1) x `bsize` runs at most, and as many more x `bsize` as there is a
    teacher; `max_steps` x (`num_candidates` + 1) calls of the prompt model at most; from 16 to rows runs of each of up
    to `num_candidates` + 1 finalists; then 2 runs for each held-out row.

    Source: DSPy's SIMBA (stochastic introspective mini-batch ascent), which has no paper. Deviations: rows have no demo
    made from themselves when they are run; what cannot change anything is not tried; a rule needs two runs that differ;
    the original counts with its own runs; the finalists race, and the winner is compared with the original on rows that
    the search never saw; the teacher's run comes on top. Scores beyond 1 are scaled, so that the temperatures fit.
    """

    def __init__(
        self,
        *,
        metric: Callable[..., Any] | Module,
        bsize: int = 32,
        num_candidates: int = 6,
        max_steps: int = 8,
        max_demos: int = 4,
        prompt_model: LM | None = None,
        teacher_settings: dict[str, Any] | None = None,
        demo_input_field_maxlen: int = 100_000,
        num_threads: int | None = None,
        temperature_for_sampling: float = 0.2,
        temperature_for_candidates: float = 0.2,
    ) -> None:
        for name, given in (("sampling", temperature_for_sampling), ("candidates", temperature_for_candidates)):
            if not given > 0:
                raise UsageError(f"`temperature_for_{name}` is {given!r}; expected a number above 0.")
        self.metric = metric
        self.bsize = checked_whole("bsize", bsize)
        self.num_candidates = checked_whole("num_candidates", num_candidates, 2)
        self.max_steps = checked_whole("max_steps", max_steps)
        self.max_demos = checked_whole("max_demos", max_demos, 0)
        self.prompt_model = prompt_model
        self.teacher_settings = teacher_settings
        self.demo_input_field_maxlen = checked_whole("demo_input_field_maxlen", demo_input_field_maxlen)
        self.num_threads = num_threads
        self.temperature_for_sampling = temperature_for_sampling
        self.temperature_for_candidates = temperature_for_candidates
        self.proposers = Proposers({"advice": WriteAdvice()})

    # --- a step: runs, what is learned from them, and whether it helps ---

    def init(self, brief: Brief) -> State:
        """Return the first state: the program as it is, and nothing run."""
        original: dict[str, Any] = {"candidate": {}, "parent": None, "how": "", "scores": []}
        return {"step": 0, "programs": [original], "winners": [0], "drafts": None, "race": None}

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the runs of a minibatch; then those of what was made of them; at last the finalists' race."""
        if state["race"] is not None:
            return selection.trials(state["race"], self._finals(state))
        if state["drafts"] is None:
            return [trial for _, trial in self._samples(brief, state)]
        rows, made = self._batch(brief, state), state["programs"]
        return [
            Trial(d["candidate"], rows, leave_out=True, parent=made[d["parent"]]["candidate"]) for d in state["drafts"]
        ]

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Take the runs in; the best candidate of a minibatch is a winner."""
        if state["race"] is not None:
            return {**state, "race": selection.told(state["race"], results)}
        if state["drafts"] is None:
            return self._learned(brief, state, results)
        scored = [[o.score for o in found if o.score is not None] for _, found in results]
        new = [{**d, "scores": s} for d, s in zip(state["drafts"], scored, strict=False)]
        programs = [*state["programs"], *new]
        best = max(range(len(state["programs"]), len(programs)), key=lambda i: _mean(programs[i]))
        return self._on(brief, {**state, "programs": programs, "winners": [*state["winners"], best]})

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return the rules to write."""
        return [Job("advice", d["asked"]) for d in state["drafts"] or () if d.get("asked")]

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Add the rules to the instructions; where there are none, nothing is tried."""
        written = iter(found for _, found in results)
        drafts = [self._ruled(brief, d, next(written)) if d.get("asked") else d for d in state["drafts"]]
        return self._tried(brief, state, [d for d in drafts if d is not None])

    def _samples(self, brief: Brief, state: State) -> list[tuple[int, Trial]]:
        """Return the runs of a minibatch, each with its candidate's number: the better ones run more rows."""
        rng, programs = brief.stream(f"step {state['step']}/runs"), state["programs"]
        best = sorted(range(len(programs)), key=lambda i: (-_mean(programs[i]), i))[: self.num_candidates]
        among = best if 0 in best else [*best[:-1], 0]
        taught = self.teacher_settings is not None or not brief.own_teacher
        found = []
        for number in range(-taught, self.num_candidates):
            rows: dict[int, list[int]] = {}
            for row in self._batch(brief, state):
                of = contrast.pick([_mean(programs[i]) for i in among], self.temperature_for_sampling, rng)
                rows.setdefault(among[of], []).append(row)
            sample = state["step"] * self.num_candidates + number if number > 0 else 0  # the ordinary run first
            who: Literal["student", "teacher"] = "teacher" if number < 0 else "student"
            found += [
                (i, Trial(programs[i]["candidate"], tuple(own), who, sample, leave_out=True)) for i, own in rows.items()
            ]
        return found

    def _learned(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Return the state with the changes to try."""
        programs = [{**p, "scores": [*p["scores"]]} for p in state["programs"]]
        runs = []
        for (number, trial), (_, outcomes) in zip(self._samples(brief, state), results, strict=False):
            scored = [o for o in outcomes if o.score is not None]
            runs += [_run(o) for o in scored]
            if trial.who == "student" and trial.sample == 0:
                programs[number]["scores"] += [o.score for o in scored]
        state = {**state, "programs": programs}
        rng = brief.stream(f"step {state['step']}/changes")
        drafts: list[dict[str, Any]] = []
        for own in contrast.buckets(runs):
            if len(drafts) <= self.num_candidates:
                drafts += self._draft(brief, state, own, contrast.low(runs), rng)
        return self._tried(brief, state, drafts)

    def _draft(self, brief: Brief, state: State, own: Sequence[Any], low: float, rng: Any) -> list[dict[str, Any]]:
        """Return a change that is learned from the runs of a row, if there is one to learn."""
        parent = contrast.pick([_mean(p) for p in state["programs"]], self.temperature_for_candidates, rng)
        best, worst = own[0], own[-1]
        differ = best["score"] > worst["score"]
        ways = ["demo"] * bool(self.max_demos and demo_paths(brief) and (differ or best["score"] > low))
        ways += ["rule"] * bool(differ and _writable(brief))
        if not ways:
            return []
        how = rng.choice(ways)
        candidate = self._fewer(brief, state["programs"][parent]["candidate"], rng)
        if how == "demo":
            return [{"candidate": self._shown(brief, candidate, best), "parent": parent, "how": how}]
        return [{"candidate": candidate, "parent": parent, "how": how, "asked": _asked(brief, candidate, best, worst)}]

    def _tried(self, brief: Brief, state: State, drafts: Sequence[dict[str, Any]]) -> State:
        """Return the state in which the drafts are tried: those that are new, or may become so by a rule."""
        known = [p["candidate"] for p in state["programs"]]
        new: list[dict[str, Any]] = []
        for draft in drafts:
            if draft.get("asked") or draft["candidate"] not in [*known, *(d["candidate"] for d in new)]:
                new.append(draft)
        return {**state, "drafts": new} if new else self._on(brief, state)

    def _on(self, brief: Brief, state: State) -> State:
        """Return the state of the next step, or of the race after the last one."""
        state = {**state, "step": state["step"] + 1, "drafts": None}
        over = state["step"] == self.max_steps
        return {**state, "race": selection.start(brief, len(self._finals(state)))} if over else state

    # --- changes ---

    def _fewer(self, brief: Brief, candidate: Candidate, rng: Any) -> Candidate:
        """Return a candidate with some demos dropped: at random, and one at least where there is no room for more."""
        now = {path: candidate.get(path, brief.parameters[path].value) for path in demo_paths(brief)}
        most, usual = max(map(len, now.values()), default=0), self.max_demos or _USUAL
        count = min(most, max(contrast.poisson(most / usual, rng), int(most >= usual)))
        dropped = set(rng.sample(range(most), count))
        kept = {path: [d for i, d in enumerate(demos) if i not in dropped] for path, demos in now.items()}
        return {**candidate, **{path: demos for path, demos in kept.items() if demos != now[path]}}

    def _shown(self, brief: Brief, candidate: Candidate, run: Any) -> Candidate:
        """Return a candidate with a run as one more demo of each predictor."""
        found = dict(candidate)
        signatures = demo_paths(brief)
        for path, demos in bootstrapped(brief, [run]).items():
            now = candidate.get(path, brief.parameters[path].value)
            short = [self._short(demo, signatures[path].input_fields) for demo in demos]
            found |= {path: [*now, *short]} if short else {}
        return found

    def _short(self, demo: dict[str, Any], inputs: Any) -> dict[str, Any]:
        most = self.demo_input_field_maxlen
        return {n: v[:most] if n in inputs and isinstance(v, str) else v for n, v in demo.items()}

    def _ruled(self, brief: Brief, draft: dict[str, Any], found: Any) -> dict[str, Any] | None:
        """Return a draft with the rules that were written."""
        rules = {} if found is None else rules_of(found["advice"], brief.signatures)
        texts = {_instructions(step): text for step, text in rules.items() if brief.tunable(_instructions(step))}
        if not texts:
            return None
        now = {path: draft["candidate"].get(path, brief.parameters[path].value) for path in texts}
        longer = {path: f"{now[path]}\n\n{text}".strip() for path, text in texts.items() if text not in now[path]}
        plainly = {name: value for name, value in draft.items() if name != "asked"}
        return {**plainly, "candidate": {**draft["candidate"], **longer}}

    def _batch(self, brief: Brief, state: State) -> tuple[int, ...]:
        """Return the rows of a step; all rows have their turn before one has another."""
        n = len(brief.trainset)
        size = min(self.bsize, n)
        epoch, place = divmod(state["step"], n // size)
        return tuple(brief.stream(f"epoch {epoch}").sample(range(n), n)[place * size : (place + 1) * size])

    # --- the result ---

    def _finals(self, state: State) -> list[Candidate]:
        """Return the original, and winners of steps that lie evenly apart, the last one among them."""
        last, apart = len(state["winners"]) - 1, self.num_candidates
        chosen = [state["winners"][round(i * last / apart)] for i in range(apart + 1)]
        return [state["programs"][i]["candidate"] for i in dict.fromkeys(chosen)]

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the race's leader; before the race, the candidate with the best mean."""
        if state["race"] is not None:
            return [self._finals(state)[selection.leader(state["race"])]]
        return [max(state["programs"], key=_mean)["candidate"]]

    def ranked(self, brief: Brief, state: State) -> list[Ranked]:
        """Return the finalists, best first, and then the others, with the rows that they were run on."""
        raced = selection.ranked(state["race"], self._finals(state)) if state["race"] is not None else []
        known = [r.candidate for r in raced]
        others = [p for p in state["programs"] if p["scores"] and p["candidate"] not in known]
        others.sort(key=_mean, reverse=True)
        return [*raced, *(Ranked(p["candidate"], _mean(p), len(p["scores"])) for p in others)]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what was tried, and how the finalists' race went."""
        how = [p["how"] for p in state["programs"][1:]]
        made = f"{how.count('demo')} changes by a demo and {how.count('rule')} by a rule in {state['step']} steps"
        return [made, *([selection.line(state["race"])] if state["race"] is not None else [])]

    def proposals(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the calls of the prompt model: none where no two runs of a row differ."""
        return {"advice": (0, self.max_steps * (self.num_candidates + 1))}

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts, of steps and race together."""
        n, runs = len(brief.trainset), self.max_steps * min(self.bsize, len(brief.trainset))
        sampled = runs * (self.num_candidates + (self.teacher_settings is not None or not brief.own_teacher))
        _, most = race.rollouts(self.num_candidates + 1, n, selection.BLOCK)
        return (sampled, sampled + runs * (self.num_candidates + 1) + most)


def _mean(program: Any) -> float:
    return fmean(program["scores"]) if program["scores"] else 0.0


def _run(outcome: Outcome) -> dict[str, Any]:
    told = {name: outcome.detail[name] for name in ("feedback", "error")}
    return {"row": outcome.row, "score": outcome.score, "steps": plain(outcome.steps), **told}


def _instructions(step: str) -> str:
    return f"{step}.instructions".lstrip(".")


def _writable(brief: Brief) -> bool:
    return any(brief.tunable(_instructions(step)) for step in brief.signatures)


def _asked(brief: Brief, candidate: Candidate, best: Any, worst: Any) -> dict[str, str]:
    """Return what the adviser is given: the program as it is changed, and the two runs."""
    row = brief.trainset[best["row"]]
    now = {p: s.with_instructions(candidate.get(_instructions(p), s.instructions)) for p, s in brief.signatures.items()}
    return {
        "steps": steps_text(now),
        "program": "" if brief.student is None else program_text(brief.student),
        "inputs": examples_text([row.inputs()]),
        "labels": examples_text([row.labels()]),
        "worse": run_text(worst),
        "better": run_text(best),
    }
