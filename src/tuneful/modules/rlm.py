"""RLM: a recursive language model, which reads inputs of any length by code that asks models about parts of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.errors import InputError, ToolError, UsageError
from tuneful.modules.code_agent import CodeAgent
from tuneful.program.lm import LM
from tuneful.program.parameter import Tunable
from tuneful.program.predict import Predict
from tuneful.program.running.concurrency import gather_bounded, in_flight
from tuneful.program.tools.tool import Tool
from tuneful.sandbox.interpreter import Interpreter
from tuneful.sandbox.variables import variables_of
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.signature import Signature

#: Characters of an input that the model is shown.
_PREVIEW_CHARS = 500


class Query(Signature):
    """Do what the prompt asks, going by what it holds. Answer briefly, with nothing but what is asked for."""

    prompt: str = InputField()
    answer: str = OutputField()


class RLM(CodeAgent):
    r"""Reach the outputs of a signature from inputs that are too long for a prompt.

    >>> from tuneful.testing import DummyLM
    >>> code = "parts = log.split('; ')\nsubmit(llm_query_batched(['Who is in: ' + p for p in parts]))"
    >>> lm = DummyLM([{"next_thought": "ask about each part", "code": code}, {"answer": "Ada"}, {"answer": "Bo"}])
    >>> read = RLM("log -> names: list[str]")
    >>> read.using(lm=lm)(log="Ada came in; Bo left").names
    ['Ada', 'Bo']

    The inputs are variables in a sandbox. The model is told their types, their lengths and how they begin, and writes
    code, step by step, that looks into them: searches, cuts, counts. Where words must be understood, the code asks a
    model: `llm_query(prompt)` for one prompt, `llm_query_batched(prompts)` for many side by side. It ends by calling
    `submit` with the outputs, checked by type. After `max_iters` steps the answer is asked for outright.

    Use it for inputs of a length at which models get lost, or that do not fit at all. What fits into a prompt is
    answered sooner, and mostly better, by `ChainOfThought`.

    Args:
        signature: a string, a class signature, a typed function or a `Signature`. Inputs are texts, numbers, lists,
            dicts or pydantic models.
        max_iters: most steps; a call may say otherwise: `agent(text=..., max_iters=8)`.
        max_llm_calls: most prompts that the code of one run may ask, in all. Budgets count them too.
        tools: functions, `Tool`s or programs, which the code may call besides.
        sub_lm: the LM that code asks; by default the one that writes the code. A smaller one is often enough.
        interpreter: where code runs; `MontyInterpreter()` by default. Each run gets a fresh one.
        max_prompt_tokens: longest prompt of a step; by default what the model's context leaves beside the answer.
        config: sampling options of the steps, as for `Predict`.

    Returns (from a call): the outputs, and `trajectory`, a `Trajectory`.

    Raises:
        MissingExtraError: the default interpreter is not installed.
        UsageError: two tools of one name, or a signature that uses the names of this module's own fields.

    Cost: 1 call for each step, from 1 to `max_iters`, up to `max_llm_calls` from within the code, and 1 more where no
    step gave the answer.

    Source: Zhang, Kraska and Khattab (2025), "Recursive Language Models". Deviations: typed outputs; the sub-model is
    a predictor, `query`, that can be tuned; it is asked one level deep.
    """

    _work = (
        "The inputs are variables of a Python session, and may be far too long to print: `variables` says what they "
        "are. Work in steps. In each step, look at the steps so far, and write a short piece of Python: look at parts "
        "of the inputs, search them, cut them into pieces. Where the meaning of a text matters, ask with `llm_query`, "
        "or with `llm_query_batched` about many pieces at once, and put all that is needed into the prompt. Variables "
        "stay from step to step. Print little. Check what you have found; then call `submit` with {outputs}."
    )
    _own_fields = ("variables",)

    def __init__(
        self,
        signature: Any,
        max_iters: int | Tunable = 20,
        max_llm_calls: int = 50,
        tools: Iterable[Any] | None = None,
        sub_lm: LM | None = None,
        interpreter: Interpreter | None = None,
        *,
        max_prompt_tokens: int | None = None,
        **config: Any,
    ) -> None:
        if isinstance(max_llm_calls, bool) or not isinstance(max_llm_calls, int) or max_llm_calls < 0:
            raise UsageError(f"`max_llm_calls` is {max_llm_calls!r}; expected an integer of at least 0.")
        if sub_lm is not None and not isinstance(sub_lm, LM):
            raise UsageError(f"`sub_lm` is an LM, such as tf.LM('openai/gpt-4o-mini'), got {sub_lm!r:.80}.")
        self.max_llm_calls = max_llm_calls
        super().__init__(signature, tools or (), max_iters, interpreter, max_prompt_tokens=max_prompt_tokens, **config)
        self.query = Predict(Query)
        self.query.lm = sub_lm

    def _own_tools(self, lm: LM | None = None) -> list[Tool]:
        left = self.max_llm_calls

        async def llm_query(prompt: str) -> str:
            """Ask a language model. It sees nothing but the prompt."""
            return (await llm_query_batched([prompt]))[0]

        async def llm_query_batched(prompts: list[str]) -> list[str]:
            """Ask a language model many prompts side by side; the answers come in the same order."""
            nonlocal left
            if len(prompts) > left:
                raise ToolError(
                    f"{len(prompts)} prompts, and of {self.max_llm_calls} that may be asked {left} are left. Nothing "
                    "was asked.",
                    tool="llm_query",
                )
            left -= len(prompts)
            return await gather_bounded(prompts, ask, in_flight(None, self))

        async def ask(prompt: str) -> str:
            bound = {} if lm is None or self.query.lm is not None else {"lm": lm}
            return str((await self.query.acall(prompt=prompt, **bound)).answer)

        return [Tool(llm_query, timeout_s=None), Tool(llm_query_batched, timeout_s=None)]

    def _seen(self, signature: Signature) -> Signature:
        for name in signature.input_fields:
            signature = signature.delete(name)
        return signature.append("variables", InputField(desc="the inputs: type, length, how they begin"), str)

    def _shown(self, given: Mapping[str, Any]) -> dict[str, Any]:
        values = variables_of(given)
        missing = [name for name in given if name not in values]
        if missing:
            raise InputError(
                f"RLM: `{missing[0]}` cannot be handed to code: {type(given[missing[0]]).__name__} has no JSON form. "
                "No model was called.",
                field=missing[0],
            )
        fields = self.signature.input_fields
        return {"variables": "\n".join(_preview(n, v, fields[n].desc) for n, v in values.items()) or "none"}


def _preview(name: str, value: Any, desc: str) -> str:
    """Return what a model is told of a variable."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    size = f"{len(text):,} characters" + (" as JSON" if not isinstance(value, str) else "")
    if isinstance(value, (list, dict)):
        size = f"{len(value):,} {'items' if isinstance(value, list) else 'keys'}, {size}"
    begins = "is" if len(text) <= _PREVIEW_CHARS else "begins"
    meaning = f" ({desc})" if desc else ""
    return f"{name}{meaning}: {type(value).__name__}, {size}; {begins}: {text[:_PREVIEW_CHARS]!r}"
