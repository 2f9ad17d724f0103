"""CodeAgent: base of the agents whose every action is a piece of code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.errors import AdapterParseError
from tuneful.modules.code_prompt import (
    SANDBOX,
    CodeWriter,
    outcome_of,
    refuse_names,
    step_of,
    told_of,
    with_sandbox,
)
from tuneful.modules.shown_steps import ShownSteps, checked_steps
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.parameter import Tunable
from tuneful.program.predict import Predict
from tuneful.program.tools.tool import Tool, tools_by_name
from tuneful.program.trace import note_event
from tuneful.sandbox.interpreter import Execution, Interpreter
from tuneful.sandbox.monty import MontyInterpreter
from tuneful.sandbox.submission import SUBMIT
from tuneful.sandbox.variables import variables_of
from tuneful.spec.code import code_in
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.inputs import check_inputs
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature, ensure_signature
from tuneful.spec.trajectory import Trajectory, TrajectoryStep

#: Answers in a row that could not be read, after which the final answer is asked for.
_MOST_UNREADABLE = 2

_OWN = (SANDBOX, "trajectory", "next_thought", "code")
_ANSWER = "The steps in `trajectory` were taken to find out. Go by what came of them."


class CodeAgent(Module):
    """Works in steps: the model writes code, looks at what came of it, and submits the outputs from within it.

    A subclass says what the model is told to do (`_work`), which tools there are beside the user's (`_own_tools`), and
    what of the inputs the model is shown (`_seen`, `_shown`).
    """

    _work = ""

    def __init__(
        self,
        signature: Any,
        tools: Iterable[Any],
        max_iters: int | Tunable,
        interpreter: Interpreter | None,
        *,
        max_prompt_tokens: int | None = None,
        **config: Any,
    ) -> None:
        super().__init__()
        self.max_iters: Any = max_iters if isinstance(max_iters, Tunable) else checked_steps(max_iters)
        self.signature = ensure_signature(signature)
        self.interpreter = MontyInterpreter() if interpreter is None else interpreter
        self.tools = tools_by_name(
            [*self.interpreter.tools.values(), *tools_by_name(tools).values()], reserved=[SUBMIT]
        )
        functions = tools_by_name([*self.tools.values(), *self._own_tools()])
        refuse_names(type(self).__name__, self.signature, (*_OWN, *self._own_fields), functions)
        seen = self._seen(self.signature)
        asked = seen.append("trajectory", InputField(desc="the steps so far, and what came of them"), Trajectory)
        answer = asked.with_instructions(f"{self.signature.instructions}\n\n{_ANSWER}")
        step = with_sandbox(_writing(asked, self._work), self.interpreter, functions.values(), self.signature)
        self.act = CodeWriter(step, max_prompt_tokens=max_prompt_tokens, **config)
        self.extract = Predict(answer, max_prompt_tokens=max_prompt_tokens, **config)

    _own_fields: tuple[str, ...] = ()

    def _own_tools(self, lm: LM | None = None) -> list[Tool]:
        """Return the tools of the module's own, for one run with an LM of its own, or with the configured one."""
        return []

    def _seen(self, signature: Signature) -> Signature:
        """Return the signature with the inputs that the model is shown."""
        return signature

    def _shown(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the model is shown of the inputs."""
        return dict(given)

    async def forward(self, **inputs: Any) -> Prediction:
        """Work on the inputs until there is an answer.

        Raises:
            InputError: the inputs do not fit. No model was called.
            AdapterParseError: no step gave the outputs, nor did the model when it was asked for them outright.
            ContextWindowExceededError: the prompt is too long, even without any step.
            CodeInterpreterError: the sandbox broke.
            LMError, BudgetExceeded: from the models.
        """
        own = self.signature.input_fields
        options: dict[str, Any] = {
            k: inputs.pop(k) for k in ("lm", "adapter", "config") if k in inputs and k not in own
        }
        most = checked_steps(self.max_iters if "max_iters" in own else inputs.pop("max_iters", self.max_iters))
        given = check_inputs(self.signature, inputs, f"{type(self).__name__}({str(self.signature)!r})")
        options |= options.pop("config", {})
        tools = [*self.tools.values(), *self._own_tools(options.get("lm"))]
        async with self.interpreter.fresh(tools, self.signature.output_fields) as interpreter:
            run = _Run(self, interpreter, self._shown(given), variables_of(given), options)
            outputs = await run.worked(most)
            if outputs is None:
                note_event("answer asked for outright")
                outputs = await run.extracted()
        return Prediction({**outputs, "trajectory": run.trajectory})


class _Run:
    """One run of an agent: its interpreter, what it was given, and the steps so far."""

    def __init__(
        self,
        agent: CodeAgent,
        interpreter: Interpreter,
        shown: dict[str, Any],
        variables: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        self._agent = agent
        self._interpreter = interpreter
        self._given = shown
        self._variables = variables
        self._options = options
        self._shown = ShownSteps()
        self.trajectory = Trajectory()

    async def worked(self, most: int) -> dict[str, Any] | None:
        """Take steps until one submits the outputs, or there were too many."""
        unreadable = 0
        for _ in range(most):
            try:
                said = await self._asked(self._agent.act)
            except AdapterParseError as error:
                unreadable += 1
                told = f"This could not be read: {'; '.join(error.problems)}."
                self.trajectory = self.trajectory.with_step(TrajectoryStep("", (), (told,)))
                note_event("unreadable step")
                if unreadable == _MOST_UNREADABLE:
                    break
                continue
            unreadable = 0
            outputs = await self._acted(said.next_thought, said.code)
            if outputs is not None:
                return outputs
        return None

    async def _acted(self, thought: str, code: str) -> dict[str, Any] | None:
        """Run the code of a step, and return the outputs where it submits them."""
        outcome = await outcome_of(self._interpreter, code, self._variables)
        self._variables = {}  # set once: what code makes of them stays
        told = told_of(outcome, self._interpreter.max_output_chars)
        self.trajectory = self.trajectory.with_step(step_of(code, told, thought))
        return dict(outcome.submitted) if isinstance(outcome, Execution) and outcome.submitted is not None else None

    async def extracted(self) -> dict[str, Any]:
        """Ask for the outputs outright."""
        found = await self._asked(self._agent.extract)
        return {name: found[name] for name in self._agent.signature.output_fields}

    async def _asked(self, predictor: Predict[Any]) -> Any:
        if self._options:
            predictor = predictor._twin().bind(**self._options)
        return await self._shown.ask(predictor, self._given, self.trajectory)


def _writing(asked: Signature, work: str) -> Signature:
    """Return the signature of a step."""
    outputs = ", ".join(f"`{n}`" for n in asked.output_fields)
    step = asked.append("next_thought", OutputField(desc="what is known by now, and what to do next"), str)
    step = step.append("code", OutputField(desc="the code of this step"), code_in("python"))
    for name in asked.output_fields:
        step = step.delete(name)
    return step.with_instructions(f"{asked.instructions}\n\n{work.format(outputs=outputs)}")
