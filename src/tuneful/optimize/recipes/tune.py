"""Tune: the teleprompter that chooses by itself what to try."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tuneful.adapters.select import ADAPTERS, resolve
from tuneful.errors import UsageError
from tuneful.optimize import space
from tuneful.optimize.propose.demos import joined, labelled, picked
from tuneful.optimize.propose.describe import examples_text, program_text, rows_of, signature_text
from tuneful.optimize.propose.instructions import TIPS, WriteInstructions
from tuneful.optimize.propose.proposing import Proposing
from tuneful.optimize.space import Axis, Point, Space
from tuneful.optimize.strategies import parzen, race, selection, spending
from tuneful.optimize.strategies.pool import Pool, told
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, Ranked, State, Trial
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module

#: Demo sets that are drawn at random from the teacher's runs.
_DRAWS = 6
#: Candidates that join the race after each block.
_WAVE = 3
#: Share of what the search may spend on blocks after which no candidate joins any more: the rest decides.
_OPENING = 0.6
#: A mean score from which there is nothing left to gain.
_PERFECT = 0.995


class Tune(Proposing):
    """Demos, instructions, wording, adapters, models and the user's own numbers in one race, under one budget.

    What `tf.compile(program, trainset, metric)` uses. It gathers the program's own successes, and puts demo sets made
    of them, proposed instructions, adapters, and the values of every `Choice`, `Integer` and `Real` of the program side
    by side. All run on the same blocks of rows; who is behind beyond doubt stops. After each block new candidates join,
    combined from what did well. Of the winner what does not matter is dropped. Use it when you do not know which
    lever pays; use a single recipe where you do.

    Args:
        metric: judges a run; `tf.Score(value, feedback=...)` tells the proposer why.
        prompt_model: LM that proposes instructions; None is the program's own.
        propose: whether instructions are proposed. "auto": where `prompt_model` is given, or the model is no small one:
            small models write instructions that do harm.
        adapters: names of adapters to try; "auto" is all that ask for text, () is none.
        models: LMs that each predictor may use instead of its own: names, or values of `LM.state`.
        temperatures: temperatures to try.
        embedder: name of the model that picks demos for each input; "auto" takes the embedded word vectors where they
            are installed, None picks none.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM("openai/gpt-4o")}.
        max_bootstrapped_demos: most runs in a demo set.
        max_labeled_demos: most demos of a predictor all together.
        num_candidates: most candidates. A budget lowers it, so that those there are can be told apart.
        num_instructions: instructions that are proposed for each predictor.
        num_threads: rollouts in flight; by default the setting.

    Cost: the pool (rows runs of the teacher at most), `num_instructions` calls of the proposer for each predictor,
    `num_candidates` x rows runs at most (a third of that is usual), and 2 runs for each held-out row.

    Source: ours. Racing after Maron and Moore (1994); joint search of instructions and demos after Opsahl-Ong et al.
    (2024), "Optimizing Instructions and Demonstrations for Multi-Stage Language Model Programs".
    """

    def __init__(
        self,
        metric: Callable[..., Any] | Module,
        *,
        prompt_model: LM | None = None,
        propose: Literal["auto"] | bool = "auto",
        adapters: Sequence[str] | Literal["auto"] = "auto",
        models: Sequence[Any] = (),
        temperatures: Sequence[float] = (),
        embedder: str | None = "auto",
        teacher_settings: dict[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 8,
        num_candidates: int = 32,
        num_instructions: int = 4,
        num_threads: int | None = None,
    ) -> None:
        if num_candidates < 2:
            raise UsageError(f"`num_candidates` is {num_candidates!r}; expected at least 2.")
        self.metric = metric
        self.prompt_model = prompt_model
        self.propose = propose
        self.adapters = "auto" if adapters == "auto" else space.known_adapters(adapters)
        self.models = space.lm_states(models)
        self.temperatures = space.known_temperatures(temperatures)
        self.embedder = _embedder(embedder)
        self.teacher_settings = teacher_settings
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.num_candidates = num_candidates
        self.num_instructions = num_instructions
        self.num_threads = num_threads
        self._pool = Pool(max_bootstrapped_demos * 4, max_labeled_demos)
        self.proposers = {"instructions": WriteInstructions()}

    # --- the stages: runs of the teacher, proposals, the race, and what can be dropped of the winner ---

    def init(self, brief: Brief) -> State:
        """Return the first state: nothing run, nothing proposed."""
        begun: State = {"pool": self._pool.start(brief), "spent": spending.start(), "race": None, "points": []}
        return self._advanced(brief, {**begun, "texts": None if self._proposes() else {}, "pruned": None})

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return the instructions to write, once the teacher has run."""
        if state["texts"] is not None or self._pool.ask(brief, state["pool"]):
            return []
        assert brief.student is not None
        found = []
        for path, signature in brief.signatures.items():
            if brief.tunable(f"{path}.instructions".lstrip(".")):
                shown = rows_of(signature, brief.stream("examples").sample(brief.trainset, min(5, len(brief.trainset))))
                known = {
                    "task": signature_text(signature),
                    "program": program_text(brief.student, path),
                    "examples": examples_text(shown),
                }
                tips = list(TIPS.values())
                found += [
                    Job("instructions", {**known, "tip": tips[i % len(tips)], "sample": i, "step": path})
                    for i in range(self.num_instructions)
                ]
        return found

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Take the instructions that were written."""
        texts: dict[str, list[str]] = {}
        for job, made in results:
            if made is not None and made["instructions"].strip():
                texts.setdefault(f"{job.inputs['step']}.instructions".lstrip("."), []).append(made["instructions"])
        return self._advanced(brief, {**state, "texts": texts})

    def _proposes(self) -> bool:
        if self.propose != "auto":
            return self.propose
        return self.prompt_model is not None or not current_lm().capabilities.small

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the teacher's next rows; then the next block of the race."""
        if state["race"] is None:
            return self._pool.ask(brief, state["pool"])
        return [] if self._perfect(state) else selection.trials(state["race"], self._candidates(brief, state))

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Fill the pool, or go on with the race."""
        state = {**state, "spent": spending.after(state["spent"], results)}
        if state["race"] is None:
            return self._advanced(brief, {**state, "pool": self._pool.tell(state["pool"], results)})
        return self._advanced(brief, {**state, "race": selection.told(state["race"], results)})

    def _advanced(self, brief: Brief, state: State) -> State:
        """Begin the race, let candidates join it, or drop from its winner what does not matter."""
        if state["race"] is None:
            if self._pool.ask(brief, state["pool"]) or state["texts"] is None:
                return state
            points = self._first(brief, state)
            return {**state, "points": points, "race": selection.start(brief, len(points))}
        if state["pruned"] is not None or self._perfect(state):
            return state
        if race.ask(state["race"]) and len(state["points"]) < self._most(brief, state):
            return self._joined(state, self._proposed(brief, state))
        if not race.ask(state["race"]):
            return {**self._joined(state, self._simpler(brief, state)), "pruned": len(state["points"])}
        return state

    def _joined(self, state: State, new: Sequence[Point]) -> State:
        return {**state, "race": race.add(state["race"], len(new)), "points": [*state["points"], *new]}

    # --- points of the space ---

    def _first(self, brief: Brief, state: State) -> list[Point]:
        """Return the program as it is, and each lever by itself: every axis's first option, then every second, ..."""
        axes = self._space(brief, state)
        here = space.origin(axes)
        alone = [(option, i, axis.name) for i, axis in enumerate(axes) for option in range(1, len(axis.options))]
        points = [{**here, name: option} for option, _, name in sorted(alone)]
        return [here, *points[: self._most(brief, state) - 1]]

    def _most(self, brief: Brief, state: State) -> int:
        """Return how many candidates there may be, so that the budget still tells them apart."""
        rollouts = spending.room(state["spent"], brief)
        if rollouts is None:
            return self.num_candidates
        return max(2, min(self.num_candidates, int(_OPENING * rollouts / selection.BLOCK)))

    def _proposed(self, brief: Brief, state: State) -> list[Point]:
        """Return combinations of what has done well."""
        axes = self._space(brief, state)
        missing = min(_WAVE, self._most(brief, state) - len(state["points"]))
        known = [(p, s) for p, s in zip(state["points"], _edges(state["race"]), strict=True) if s is not None]
        rng = brief.stream(f"proposals from {len(state['points'])}")
        sizes = {axis.name: len(axis.options) for axis in axes}
        return parzen.propose(sizes, [p for p, _ in known], [s for _, s in known], missing, rng)

    def _simpler(self, brief: Brief, state: State) -> list[Point]:
        """Return the leader with one lever less, for each lever that it has."""
        leader = state["points"][selection.leader(state["race"])]
        pulled = [name for name, option in leader.items() if option]
        fewer = [{**leader, name: 0} for name in pulled] if len(pulled) > 1 else []
        return [point for point in fewer if point not in state["points"]]

    def _space(self, brief: Brief, state: State) -> Space:
        """Return the axes, the likeliest to pay first."""
        axes = [self._demos(brief, state), *space.numbers(brief), *self._instructions(brief, state)]
        axes += self._adapters(brief)
        axes += space.each(brief, "lm", self.models)
        axes += space.sampling(brief, "temperature", self.temperatures)
        return space.sized(axes)

    def _demos(self, brief: Brief, state: State) -> Axis:
        """Return demo sets: picked for each input, labelled rows, and the teacher's runs, in order and drawn."""
        kept, most = state["pool"]["kept"], self.max_labeled_demos
        found: list[Candidate] = []
        if self.embedder is not None:
            found.append(picked(brief, kept, most, embedder=self.embedder))
        found += [joined(labelled(brief, half, stream="half")) for half in [most // 2] if half]
        found += self._pool.sets(brief, kept, _DRAWS, self.max_bootstrapped_demos)
        distinct = [c for i, c in enumerate(found) if c and c not in found[:i]]
        return Axis("demos", ({}, *distinct))

    def _instructions(self, brief: Brief, state: State) -> list[Axis]:
        return [Axis.of(path, brief.parameters[path].value, texts) for path, texts in (state["texts"] or {}).items()]

    def _adapters(self, brief: Brief) -> Space:
        """Return an axis for each predictor, without the adapter that it has by itself."""
        if not self.adapters:
            return ()
        names = [n for n in ADAPTERS if n != "tools"] if self.adapters == "auto" else self.adapters
        assert brief.student is not None
        own = {resolve(p.adapter, (p.lm or current_lm()).capabilities).name for p in brief.student.predictors()}
        return space.each(brief, "adapter", [name for name in names if name not in own or len(own) > 1])

    def _candidates(self, brief: Brief, state: State) -> list[Candidate]:
        axes = self._space(brief, state)
        return [space.candidate(axes, point) for point in state["points"]]

    # --- the result ---

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the winner, and with it the runner-up where both have come to the end."""
        if state["race"] is None:
            return [self._pool.demos(brief, state["pool"]["kept"][: self.max_bootstrapped_demos])]
        return [self._candidates(brief, state)[self._winner(state)]]

    def _winner(self, state: State) -> int:
        """Return the leader, or a simpler candidate that did as well on the same rows."""
        best = selection.leader(state["race"])
        scores, means, points = state["race"]["scores"], race.means(state["race"]), state["points"]
        rivals = [
            c for c in race.alive(state["race"]) if len(scores[c]) == len(scores[best]) and means[c] == means[best]
        ]
        return min([best, *rivals], key=lambda c: sum(map(bool, points[c].values())))

    def ranked(self, brief: Brief, state: State) -> list[Ranked]:
        """Return the candidates with their scores, best first."""
        return selection.ranked(state["race"], self._candidates(brief, state)) if state["race"] else []

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what the teacher gave, how the race went, which levers the winner pulls, and what there was to gain."""
        lines = [told(state["pool"])]
        if state["race"] is None:
            return lines
        lines += [selection.line(state["race"]), *self._headroom(state)]
        point = state["points"][self._winner(state)]
        levers = [f"{name} (option {option})" for name, option in point.items() if option]
        return [*lines, f"levers of the winner: {', '.join(levers) or 'none, the program stays as it is'}"]

    def _headroom(self, state: State) -> list[str]:
        """Say what a program would score that is right wherever any candidate is: more is not to be had from these."""
        scores = state["race"]["scores"]
        first = len(scores[0])
        rows = [[own[i] for own in scores if len(own) > i and own[i] is not None] for i in range(first)]
        if not first or not all(rows):
            return []
        own, most = (sum(s or 0.0 for s in scores[0]) / first, sum(map(max, rows)) / first)
        told = f"the program has {100 * own:.0f} %, the best candidate of each row {100 * most:.0f} %"
        return [f"on the first {first} rows {told}"]

    def _perfect(self, state: State) -> bool:
        """Say whether the program as it is leaves nothing to gain, after a first block."""
        mean = race.means(state["race"])[0]
        return mean is not None and mean >= _PERFECT

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts, of pool and race together."""
        few, many = self._pool.rollouts(brief)
        least, most = race.rollouts(self.num_candidates, len(brief.trainset), selection.BLOCK)
        return (few + min(2 * selection.BLOCK, least), many + most)


def _embedder(name: str | None) -> str | None:
    if name != "auto":
        return name
    known = all(importlib.util.find_spec(package) for package in ("wordllama", "tokenizers", "safetensors", "numpy"))
    return "local/wordllama" if known else None


def _edges(state: Mapping[str, Any]) -> list[float | None]:
    """Return by how much each candidate is ahead of the others on the rows that it was run on."""
    scores = state["scores"]
    longest = max(map(len, scores), default=0)
    columns = [[own[i] for own in scores if len(own) > i and own[i] is not None] for i in range(longest)]
    usual = [sum(column) / len(column) if column else 0.0 for column in columns]
    ahead = [[s - usual[i] for i, s in enumerate(own) if s is not None] for own in scores]
    return [sum(own) / len(own) if own else None for own in ahead]
