"""Tune: the teleprompter that chooses by itself what to try."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tuneful.adapters.select import ADAPTERS
from tuneful.errors import UsageError
from tuneful.optimize import space
from tuneful.optimize.propose import drafts
from tuneful.optimize.propose.instructions import WriteInstructions
from tuneful.optimize.propose.proposing import Proposers, Proposing
from tuneful.optimize.propose.reflection import Reflect
from tuneful.optimize.propose.wording import WriteWording
from tuneful.optimize.space import Point, Space
from tuneful.optimize.strategies import kriging, mutation, preflight, pruning, race, selection, spending
from tuneful.optimize.strategies.levers import Levers
from tuneful.optimize.strategies.pool import Pool, told
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, Ranked, State, Trial
from tuneful.program.demos.demo_pool import vectorizer_of
from tuneful.program.lm import LM, current_lm
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.vectors.embedder import Embedder

#: Share of the candidates that there are from the beginning; the others are made from what did well.
_FIRST = 0.7
#: Combinations that join the race after each block.
_WAVE = 3
#: Share of what the search may spend on blocks after which no candidate joins any more: the rest decides.
_OPENING = 0.6


class Tune(Proposing):
    """Demos, instructions, wording, adapters, models and the user's own numbers in one race, under one budget.

    What `tf.compile(program, trainset, metric)` uses. A few dozen runs of the program as it is say whether there is
    anything to gain; where there is not, it ends there. Then it gathers the program's own successes, and puts demo sets
    made of them, proposed instructions, words for fields, adapters, and the values of every `Choice`, `Integer` and
    `Real` of the program side by side, each by itself and several together. All run on the same blocks of rows; who is
    behind beyond doubt stops. What an option is worth is judged by all candidates that have it, so that a few rows of
    each tell much. After each block new candidates join: combinations that promise most, and, where a capable model is
    at hand, instructions that it rewrites from what went wrong in the best. When no more could be proved, none join.
    Of the winner what does not matter is dropped: levers, demos, sentences. Use it when you do not know which
    lever pays; use a single recipe where you do.

    Args:
        metric: judges a run; `tf.Score(value, feedback=...)` tells the proposer why.
        prompt_model: LM that proposes instructions and words; None is the program's own.
        propose: whether they are proposed. "auto": where `prompt_model` is given, or the model is no small one: small
            models write instructions that do harm. A small model is never asked to reflect. Words that the labels
            suggest ("one of: ...", "one word") are tried in any case.
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
        num_wordings: labels and descriptions that are proposed for each output field.
        num_threads: rollouts in flight; by default the setting.
        earlier: candidates that an earlier run found good, which join from the beginning, as values by parameter path;
            those that the program has no parameter for are left out.

    Raises:
        UsageError: an unknown adapter or model, or a number that is out of question.

    Cost: 32 rows of the program as it is (16 of them twice where it samples); the pool (rows runs of the teacher at
    most); `num_instructions` calls of the proposer for each predictor, `num_wordings` for each output field and one for
    each candidate that is rewritten, of which there are less than `num_candidates`; `num_candidates` x rows runs in all
    at most (a third of that is usual); to prune half of all that again or 832 runs, and 1,600 at most; and 2
    runs for each held-out row.

    Source: ours. Racing after Maron and Moore (1994); what options are worth by a Gaussian process, after Rasmussen and
    Williams (2006); joint search of instructions and demos after Opsahl-Ong et al. (2024), "Optimizing Instructions and
    Demonstrations for Multi-Stage Language Model Programs"; reflection after Agrawal et al. (2025), "GEPA: Reflective
    Prompt Evolution Can Outperform Reinforcement Learning".
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
        num_wordings: int = 2,
        num_threads: int | None = None,
        earlier: Sequence[Candidate] = (),
    ) -> None:
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
        self.num_candidates: int = checked_whole("num_candidates", num_candidates, 2)
        self.num_instructions = checked_whole("num_instructions", num_instructions, 0)
        self.num_wordings = checked_whole("num_wordings", num_wordings, 0)
        self.num_threads = num_threads
        self.earlier = _candidates(earlier)
        self._pool = Pool(max_bootstrapped_demos * 4, max_labeled_demos)
        names = tuple(name for name in ADAPTERS if name != "tools") if self.adapters == "auto" else self.adapters
        rest = (self.embedder, names, self.models, self.temperatures, self.earlier)
        self._levers = Levers(self._pool, max_bootstrapped_demos, *rest)
        self.proposers = Proposers(
            {"instructions": WriteInstructions(), "wording": WriteWording(), "reflection": Reflect()}
        )

    # --- the stages: pre-flight, runs of the teacher, proposals, the race, and what can be dropped of the winner ---

    def init(self, brief: Brief) -> State:
        """Return the first state: nothing run, nothing proposed; the program as it is the only candidate."""
        proposes = self._proposes(brief)
        awaited = proposes and drafts.jobs(brief, self.num_instructions, self.num_wordings)
        begun: State = {"flight": preflight.start(brief), "pool": self._pool.start(brief), "spent": spending.start()}
        begun |= {
            "texts": None if awaited else {},
            "reflects": proposes and not self._small(),
            "mutation": mutation.start(),
        }
        return {**begun, "members": [_member({})], "race": None, "pruning": None}

    def _small(self) -> bool:
        return (self.prompt_model or current_lm()).capabilities.small

    def _proposes(self, brief: Brief) -> bool:
        if not brief.signatures:  # numbers alone: there may be no model at all
            return False
        return self.propose if self.propose != "auto" else self.prompt_model is not None or not self._small()

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return what to write: once the teacher has run the first texts, later those that rewrite the best ones."""
        if state["race"] is not None:
            candidates = self._candidates(brief, state)
            return mutation.jobs(brief, state["mutation"], candidates, race.means(state["race"]))
        if state["texts"] is not None or self.ask(brief, state) or preflight.over(state["flight"]):
            return []
        return drafts.jobs(brief, self.num_instructions, self.num_wordings)

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Take what was written."""
        if state["race"] is None:
            return self._advanced(brief, {**state, "texts": drafts.taken(brief, results)})
        return self._mutated(brief, state, results)

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the pre-flight; the teacher's next rows; then the next block of the race."""
        if state["race"] is not None:
            running, numbers = _running(state)
            candidates, parents = self._candidates(brief, state), [state["members"][c]["parent"] for c in numbers]
            made_from = [None if parent is None else candidates[parent] for parent in parents]
            return selection.trials(running, [candidates[c] for c in numbers], made_from)
        if state["flight"]["scores"] is None:
            (original,) = self._candidates(brief, state)
            return preflight.trials(brief, state["flight"], original, selection.start(brief, 1)["rows"])
        return [] if preflight.over(state["flight"]) else self._pool.ask(brief, state["pool"])

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Look at the pre-flight, fill the pool, or go on with the race."""
        state = {**state, "spent": spending.after(state["spent"], results)}
        if state["race"] is not None:
            return self._advanced(brief, self._raced(brief, state, results))
        if state["flight"]["scores"] is None:
            state = {**state, "flight": preflight.told(state["flight"], results)}
            return self._advanced(brief, self._noted(state, [(0, results[0][1])], [0]))
        return self._advanced(brief, {**state, "pool": self._pool.tell(state["pool"], results)})

    def _advanced(self, brief: Brief, state: State) -> State:
        """Begin the race, let candidates join it, or drop from its winner what does not matter."""
        if preflight.over(state["flight"]):
            return state
        if state["race"] is None:
            return (
                state if self._pool.ask(brief, state["pool"]) or state["texts"] is None else self._begun(brief, state)
            )
        if race.ask(_running(state)[0]):
            return state if state["pruning"] else self._opened(brief, state)
        return self._pruned(brief, state)

    def _begun(self, brief: Brief, state: State) -> State:
        """Begin the race, in which the program as it is has been run on the first rows already."""
        members = [_member(point) for point in self._first(brief, state)]
        begun = race.credited(selection.start(brief, len(members)), 0, state["flight"]["scores"])
        return {**state, "members": members, "race": begun}

    def _raced(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Take a block of the race, or of the one that prunes its winner."""
        running, numbers = _running(state)
        asked = [c for c, _ in race.ask(running)]
        found = [(numbers[c], own) for c, (_, own) in zip(asked, results, strict=False)]
        axes = self._space(brief, state)
        whole = {c: space.candidate(axes, state["members"][c]["point"]) for c, _ in found}
        scores = [[o.score for o in mutation.fair(state["mutation"], whole[c], own)] for c, own in found]
        running = race.tell(running, dict(zip(asked, scores, strict=False)))
        if state["pruning"]:
            return {**state, "pruning": {**state["pruning"], "race": running}}
        room = spending.room(state["spent"], brief)
        left = None if room is None else room - state["spent"]["rollouts"]
        running = race.halved(running, left, self._worth({**state, "race": running}))
        return self._noted({**state, "race": running}, found, race.alive(running))

    def _noted(self, state: State, found: Sequence[tuple[int, Sequence[Outcome]]], alive: Sequence[int]) -> State:
        known = mutation.noted(state["mutation"], found, alive) if state["reflects"] else state["mutation"]
        return {**state, "mutation": known}

    def _joined(self, state: State, new: Sequence[State]) -> State:
        return {**state, "race": race.add(state["race"], len(new)), "members": [*state["members"], *new]}

    # --- candidates: points of the space ---

    def _first(self, brief: Brief, state: State) -> list[Point]:
        """Return the program as it is, and in turn a lever by itself and several together.

        Levers by themselves are every axis's first option, then every second, ...
        """
        axes = self._space(brief, state)
        here, most = space.origin(axes), max(1, round(_FIRST * self._most(brief, state)) - 1)
        alone = [(option, i, axis.name) for i, axis in enumerate(axes) for option in range(1, len(axis.options))]
        single = [{**here, name: option} for option, _, name in sorted(alone)]
        mixed = space.spread(axes, most // 2)
        return [here, *mixed, *single[: most - len(mixed)]]

    def _most(self, brief: Brief, state: State) -> int:
        """Return how many candidates there may be, so that the budget still tells them apart."""
        rollouts = spending.room(state["spent"], brief)
        if rollouts is None:
            return self.num_candidates
        return max(2, min(self.num_candidates, int(_OPENING * rollouts / selection.BLOCK)))

    def _opened(self, brief: Brief, state: State) -> State:
        """Let combinations of what has done well join, and have the best rewritten, where that can still pay."""
        known, missing = state["race"], self._most(brief, state) - len(state["members"])
        original, best = (race.means(known)[c] for c in (0, selection.leader(known)))
        if missing < 1 or original is None or best is None or preflight.settled(brief, original, best):
            return state
        if state["reflects"]:
            state = {**state, "mutation": mutation.chosen(brief, state["mutation"], known)}
        axes, rng = self._space(brief, state), brief.stream(f"proposals from {len(state['members'])}")
        sizes = {axis.name: len(axis.options) for axis in axes}
        most = min(_WAVE, max(0, missing - len(state["mutation"]["lessons"])))
        points = [{**space.origin(axes), **member["point"]} for member in state["members"]]
        new = kriging.propose(sizes, self._believed(state), most, rng)
        return self._joined(state, [_member(point) for point in new if point not in points])

    def _believed(self, state: State) -> kriging.Surrogate:
        """Return what is believed of points, from the race so far, in which somebody has a score."""
        known, members = state["race"], state["members"]
        edges, noise = race.edges(known), race.noise(known)
        run = [c for c, edge in enumerate(edges) if edge is not None]
        names = {name: 0 for member in members for name in member["point"]}
        points = [{**names, **members[c]["point"]} for c in run]
        return kriging.fitted(points, [edges[c] or 0.0 for c in run], [noise[c] for c in run], race.span(known))

    def _worth(self, state: State) -> list[float]:
        """Return the mean of what each candidate in the race is believed to be worth: all alike before any score."""
        racing = state["members"][: len(state["race"]["scores"])]
        if all(edge is None for edge in race.edges(state["race"])):
            return [0.0 for _ in racing]
        known = self._believed(state)
        none = dict.fromkeys(known.points[0], 0)
        return [round(known.at({**none, **member["point"]})[0], 9) for member in racing]  # further digits are noise

    def _mutated(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Let the candidates that were rewritten join: their texts are further options of the instructions."""
        written = [made["instructions"] if made else None for _, made in results]
        lessons, texts = state["mutation"]["lessons"], {**state["texts"]}
        known = mutation.written(state["mutation"], written, self._candidates(brief, state))
        for (job, _), text in zip(results, written, strict=True):
            texts[job.inputs["step"]] = [*texts.get(job.inputs["step"], ()), *([text] if text else [])]
        state = {**state, "mutation": known, "texts": texts}
        axes = {axis.name: axis for axis in self._space(brief, state)}
        for (job, _), lesson, text in zip(results, lessons, written, strict=True):
            path = job.inputs["step"]
            if path in axes and {path: text} in axes[path].options:
                parent = state["members"][lesson["member"]]["point"]
                point = {**space.origin(tuple(axes.values())), **parent, path: axes[path].options.index({path: text})}
                if all(point != member["point"] for member in state["members"]):
                    state = self._joined(state, [_member(point, lesson["member"])])
        return state

    def _pruned(self, brief: Brief, state: State) -> State:
        """Take what the last versions of the winner have shown, and let the next ones run, where there is room."""
        known, members, own = state["race"], state["members"], state["pruning"]
        if own is None:
            best = self._winner(state)
            gained = pruning.gain(known["scores"][best], known["scores"][0], len(members))
            own = pruning.start(best, gained, known["rows"], state["spent"]["rollouts"])
        elif own["run"]:
            own = pruning.told(own)
        own, drops = pruning.wave(own, self._candidates(brief, state)[own["winner"]], brief.kinds)
        limits = [own["most"], spending.room(state["spent"], brief)]
        room = min(limit for limit in limits if limit is not None) - state["spent"]["rollouts"]
        drops = drops[: max(0, room // len(own["race"]["rows"]))]
        new = [_member(members[own["winner"]]["point"], own["winner"], dropped) for dropped in drops]
        own = pruning.joined(own, list(enumerate(drops, len(members))))
        return {**state, "pruning": own, "members": [*members, *new]}

    def _space(self, brief: Brief, state: State) -> Space:
        return self._levers.axes(brief, state["pool"]["kept"], state["texts"] or {})

    def _candidates(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the values of all candidates: this is where points become candidates."""
        axes, kinds = self._space(brief, state), brief.kinds
        return [pruning.without(space.candidate(axes, m["point"]), m["dropped"], kinds) for m in state["members"]]

    # --- the result ---

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the winner; before the race, demos of the runs so far; nothing where there is nothing to gain."""
        if preflight.over(state["flight"]):
            return []
        if state["race"] is None or not selection.begun(state["race"]):
            kept = state["pool"]["kept"]
            return [self._levers.unraced(brief, kept)] if kept else []
        return [self._candidates(brief, state)[self._winner(state)]]

    def _winner(self, state: State) -> int:
        """Return the leader, or a simpler candidate that did as well on the same rows; later what is left of it."""
        if state["pruning"] is not None:
            return int(state["pruning"]["now"])
        worth, members = self._worth(state), state["members"]
        plain = [-sum(map(bool, member["point"].values())) for member in members]
        return max(race.alive(state["race"]), key=lambda c: (worth[c], plain[c], -c))

    def ranked(self, brief: Brief, state: State) -> list[Ranked]:
        """Return the candidates with their scores, the winner first."""
        if state["race"] is None:
            return []
        candidates = self._candidates(brief, state)
        found, winner = selection.ranked(state["race"], candidates), self._winner(state)
        if winner >= len(state["race"]["scores"]):
            pruned = pruning.scored(state["pruning"])
            found = [Ranked(candidates[winner], *pruned), *found]
        return sorted(found, key=lambda one: one.candidate != candidates[winner])

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what there was to gain, what the teacher gave, how the race went, and what is left of its winner."""
        lines = [preflight.line(brief, state["flight"])] if state["flight"]["scores"] is not None else []
        if preflight.over(state["flight"]):
            return lines
        lines.append(told(state["pool"]))
        if state["race"] is None:
            forward = ": the demos put forward were not chosen among others" if state["pool"]["kept"] else ""
            return [*lines, f"nothing has been raced{forward}"]
        lines += [selection.line(state["race"]), selection.headroom(state["race"])]
        if texts := state["mutation"]["seen"]:
            lines.append(f"instructions rewritten by reflection: {len(texts)}")
        candidates, winner = self._candidates(brief, state), self._winner(state)
        lines.append(f"levers of the winner: {', '.join(candidates[winner]) or 'none, the program stays as it is'}")
        if state["pruning"] is not None:
            whole = candidates[state["pruning"]["winner"]]
            lines.append(pruning.line(state["pruning"], whole, brief.kinds))
        return [line for line in lines if line]

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts, of pre-flight, pool, race and pruning together."""
        rows = len(brief.trainset)
        _, pool = self._pool.rollouts(brief)
        _, most = race.rollouts(self.num_candidates, rows, selection.BLOCK)
        searched = pool + most + min(preflight.TWICE, rows)
        return (min(preflight.ROWS, rows), searched + pruning.rollouts(searched, rows))

    def asks(self, brief: Brief) -> list[LM | Embedder]:
        """Return the LMs of the proposers, those to choose from, and what picks demos for an input."""
        picks = [] if self.embedder is None else [Embedder(self.embedder)]
        return [*super().asks(brief), *space.lms_of_states(brief, self.models), *picks]

    def proposals(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the calls of the model that proposes: none where the program as it is leaves nothing to gain."""
        if not self._proposes(brief):
            return {}
        written = Counter(job.name for job in drafts.jobs(brief, self.num_instructions, self.num_wordings))
        rewritten = {} if self._small() else {"reflection": (0, self.num_candidates)}
        return {**{name: (0, calls) for name, calls in written.items()}, **rewritten}


def _member(point: Point, parent: int | None = None, dropped: Sequence[Any] = ()) -> State:
    """Return a candidate as the state has it: its point, what it was made from, and the pieces that it drops."""
    return {"point": point, "parent": parent, "dropped": list(dropped)}


def _candidates(given: Any) -> list[Candidate]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(candidate, Mapping) for candidate in given):
        raise UsageError(f"`earlier` is {given!r:.80}; expected a list of candidates, each values by parameter path.")
    return [dict(candidate) for candidate in given]


def _running(state: State) -> tuple[State, list[int]]:
    """Return the race that is on, and the numbers of the candidates in it."""
    own = state["pruning"]
    if own is None:
        return state["race"], list(range(len(state["members"])))
    return own["race"], [own["winner"], *(c for c, _ in own["run"])]


def _embedder(name: str | None) -> str | None:
    if name is None:
        return None
    if name != "auto":
        vectorizer_of(name)  # raises where no provider has it
        return name
    known = all(importlib.util.find_spec(package) for package in ("wordllama", "tokenizers", "safetensors", "numpy"))
    return "local/wordllama" if known else None
