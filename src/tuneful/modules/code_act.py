"""CodeAct: an agent that acts by writing code, in which its tools are functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tuneful.modules.code_agent import CodeAgent
from tuneful.program.parameter import Tunable
from tuneful.sandbox.interpreter import Interpreter


class CodeAct(CodeAgent):
    r"""Reach the outputs of a signature step by step, with code that calls tools.

    >>> from tuneful.testing import DummyLM
    >>> def population(city: str) -> int:
    ...     "How many people live in a city."
    ...     return {"Bergen": 291_940, "Oslo": 717_710}[city]
    >>> lm = DummyLM([
    ...     {"next_thought": "look both up", "code": "both = [population(c) for c in ('Bergen', 'Oslo')]\nprint(both)"},
    ...     {"next_thought": "add them", "code": "submit(answer=sum(both))"},
    ... ])
    >>> count = CodeAct("question -> answer: int", tools=[population])
    >>> found = count(question="How many people live in Bergen and Oslo?", lm=lm)
    >>> found.answer, found.trajectory[0].observations
    (1009650, ('[291940, 717710]',))

    In each step the model writes code, which runs in a sandbox, and is shown what it printed. Variables stay from step
    to step; the inputs are variables too. Tools are functions by their names: they run outside of the sandbox, plain
    or `async`, with arguments that are checked, and code can loop over them, join and filter what they give, which
    would be a step each for `ReAct`. It ends by calling `submit` with the outputs, checked by type.

    Whatever goes wrong in the code or in a tool is shown to the model. Where the prompt grows too long, older
    observations are shortened, then the oldest steps left out, as in `ReAct`. After `max_iters` steps the answer is
    asked for outright.

    Args:
        signature: a string, a class signature, a typed function or a `Signature`.
        tools: functions, `Tool`s or programs.
        max_iters: most steps; a call may say otherwise: `agent(question=..., max_iters=8)`.
        interpreter: where code runs; `MontyInterpreter()` by default. Each run gets a fresh one.
        max_prompt_tokens: longest prompt; by default what the model's context leaves beside the answer.
        config: sampling options, as for `Predict`.

    Returns (from a call): the outputs, and `trajectory`, a `Trajectory`.

    Raises:
        MissingExtraError: the default interpreter is not installed.
        UsageError: two tools of one name, one called `submit` or like an input, or a signature that uses the names of
            this module's own fields.

    Cost: 1 call for each step, from 1 to `max_iters`, and 1 more where no step gave the answer. Tools may cost calls.

    Source: Wang et al. (2024), "Executable Code Actions Elicit Better LLM Agents". Deviations: the answer is a typed
    call in the code; tools run on the host, as calls, so that their source never enters the sandbox; no hand-written
    examples: demos come from a teleprompter.
    """

    _work = (
        "Work in steps. In each step, look at the steps so far, and write a short piece of Python that brings you "
        "nearer to {outputs}: call functions, compute, print what you want to see. Variables stay from step to step. "
        "As soon as you know enough, call `submit` with {outputs}."
    )

    def __init__(
        self,
        signature: Any,
        tools: Iterable[Any],
        max_iters: int | Tunable = 5,
        interpreter: Interpreter | None = None,
        *,
        max_prompt_tokens: int | None = None,
        **config: Any,
    ) -> None:
        super().__init__(signature, tools, max_iters, interpreter, max_prompt_tokens=max_prompt_tokens, **config)
