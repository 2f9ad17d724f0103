"""ReAct: an agent that thinks, calls tools, looks at what came of it, and gives a typed answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.errors import AdapterParseError
from tuneful.modules.react_protocol import SUBMIT, AgentStep, Decision, Protocol
from tuneful.modules.shown_steps import ShownSteps, checked_steps
from tuneful.program.module import Module
from tuneful.program.parameter import Tunable
from tuneful.program.predict import Predict
from tuneful.program.tools.tool import tools_by_name
from tuneful.program.tools.tool_calls import observed
from tuneful.program.trace import note_event
from tuneful.spec.inputs import check_inputs
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import ensure_signature
from tuneful.spec.trajectory import Trajectory, TrajectoryStep

#: Answers in a row that could not be read, after which the final answer is asked for.
_MOST_UNREADABLE = 2


class ReAct(Module):
    """Reach the outputs of a signature step by step, with tools.

    >>> from tuneful.testing import DummyLM
    >>> def population(city: str) -> int:
    ...     "How many people live in a city."
    ...     return 291_940
    >>> lm = DummyLM([
    ...     {"next_thought": "look it up", "next_tool_name": "population", "next_tool_args": {"city": "Bergen"}},
    ...     {"next_thought": "done", "next_tool_name": "submit", "next_tool_args": {"answer": 291940}},
    ... ])
    >>> found = ReAct("question -> answer: int", tools=[population])(question="How many people live in Bergen?", lm=lm)
    >>> found.answer, [step.observations for step in found.trajectory]
    (291940, [('291940',), ('The answer was accepted.',)])

    In each step the model calls tools, and is shown what came of it. It ends by calling `submit`, whose arguments are
    the outputs of the signature: checked, and where they do not fit, the model is told and may mend them. With a
    backend that calls tools by itself it does so, several at once if it likes; with any other it writes a thought, the
    name of a tool and its arguments as ordinary fields, which a small model can be held to by a grammar. The trajectory
    is the same value either way, and so are demos.

    Whatever goes wrong in a tool (wrong arguments, an unknown name, an exception, its time is up) is an observation.
    Where the prompt grows too long for the model, or for `max_prompt_tokens`, older observations are shortened, then
    demos and the oldest steps left out; the prompt says so, and the trace counts it. After `max_iters` steps the answer
    is asked for outright.

    Use it where the way to the answer is not known beforehand. Where it is, write it as a `forward`: that is cheaper
    and can be tuned better.

    Args:
        signature: a string, a class signature, a typed function or a `Signature`.
        tools: functions, `Tool`s or programs.
        max_iters: most steps; a call may say otherwise: `agent(question=..., max_iters=5)`.
        native: use the backend's own tool calling where it has it. False always takes the text protocol.
        max_prompt_tokens: longest prompt; by default what the model's context leaves beside the answer.
        config: sampling options, as for `Predict`.

    Returns (from a call): the outputs, and `trajectory`, a `Trajectory`.

    Raises:
        UsageError: two tools of one name, one called `submit`, or a signature that uses the names of ReAct's own
            fields.

    Cost: 1 call for each step, from 1 to `max_iters`, and 1 more where no step gave the answer. Tools may cost calls.

    Source: Yao et al. (2022), "ReAct: Synergizing Reasoning and Acting in Language Models". Deviations: the answer is
    a typed call instead of `finish[text]`; several calls in one step; no hand-written examples: demos come from a
    teleprompter.
    """

    def __init__(
        self,
        signature: Any,
        tools: Iterable[Any],
        max_iters: int | Tunable = 20,
        *,
        native: bool = True,
        max_prompt_tokens: int | None = None,
        **config: Any,
    ) -> None:
        super().__init__()
        self.max_iters: Any = max_iters if isinstance(max_iters, Tunable) else checked_steps(max_iters)
        self.signature = ensure_signature(signature)
        self.tools = tools_by_name(tools, reserved=[SUBMIT])
        self._protocol = Protocol(self.signature, self.tools)
        self.react = AgentStep(self._protocol, native=native, max_prompt_tokens=max_prompt_tokens, **config)
        self.extract = Predict(self._protocol.answer, max_prompt_tokens=max_prompt_tokens, **config)

    async def forward(self, **inputs: Any) -> Prediction:
        """Work on the inputs until there is an answer.

        Raises:
            InputError: the inputs do not fit. No model was called.
            AdapterParseError: no step gave the outputs, nor did the model when it was asked for them outright.
            ContextWindowExceededError: the inputs are too long, even without any step.
            LMError, BudgetExceeded: from the models.
        """
        own = self.signature.input_fields
        options: dict[str, Any] = {
            k: inputs.pop(k) for k in ("lm", "adapter", "config") if k in inputs and k not in own
        }
        most = self.max_iters if "max_iters" in own else checked_steps(inputs.pop("max_iters", self.max_iters))
        given = check_inputs(self.signature, inputs, f"ReAct({str(self.signature)!r})")
        options |= options.pop("config", {})
        run = _Run(self, given, options)
        unreadable = 0
        for _ in range(most):
            try:
                decision = await run.decided()
            except AdapterParseError as error:
                unreadable += 1
                run.add(TrajectoryStep("", (), (f"This could not be read: {'; '.join(error.problems)}.",)))
                note_event("unreadable step")
                if unreadable == _MOST_UNREADABLE:
                    break
                continue
            unreadable = 0
            outputs = await run.acted(decision)
            if outputs is not None:
                return Prediction({**outputs, "trajectory": run.trajectory})
        note_event("answer asked for outright")
        return Prediction({**await run.extracted(), "trajectory": run.trajectory})


class _Run:
    """One run of an agent: what it was given, the steps so far, and how much of them is still shown."""

    def __init__(self, agent: ReAct, given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self._agent = agent
        self._given = given
        self._options = dict(options)
        self._shown = ShownSteps()
        self.trajectory = Trajectory()

    def add(self, step: TrajectoryStep) -> None:
        """Add a step to the trajectory."""
        self.trajectory = self.trajectory.with_step(step)

    async def decided(self) -> Decision:
        """Ask what to do next."""
        return self._agent._protocol.decision(await self._asked(self._agent.react, self._given))

    async def acted(self, decision: Decision) -> dict[str, Any] | None:
        """Make the calls of a decision and add the step; the outputs, where one of the calls submits them."""
        protocol = self._agent._protocol
        observations = iter(await observed([c for c in decision.calls if c.name != SUBMIT], self._agent.tools))
        told: list[str] = []
        outputs: dict[str, Any] | None = None
        for call in decision.calls:
            if call.name != SUBMIT:
                told.append(next(observations))
                continue
            found, observation = protocol.submitted(call)
            outputs = outputs or found
            told.append(observation)
            if observation.problem:
                note_event(observation.problem)
        if not decision.calls:
            told.append(f"No tool was called. Call one; to give the answer, call `{SUBMIT}`.")
        decision.observed(told)
        self.add(TrajectoryStep(decision.thought, decision.calls, tuple(told)))
        return outputs

    async def extracted(self) -> dict[str, Any]:
        """Ask for the outputs outright."""
        found = await self._asked(self._agent.extract, self._given)
        return {name: found[name] for name in self._agent.signature.output_fields}

    async def _asked(self, predictor: Predict[Any], given: Mapping[str, Any]) -> Any:
        """Ask, with as much of the trajectory as there is room for."""
        if self._options:
            predictor = predictor._twin().bind(**self._options)
        return await self._shown.ask(predictor, given, self.trajectory)
