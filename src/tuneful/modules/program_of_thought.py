"""ProgramOfThought: the model writes a program, and running it gives the answer."""

from __future__ import annotations

from typing import Any

from tuneful.errors import CodeExecutionError
from tuneful.modules.code_prompt import (
    SANDBOX,
    CodeWriter,
    outcome_of,
    refuse_names,
    step_of,
    told_of,
    with_sandbox,
)
from tuneful.modules.shown_steps import checked_steps
from tuneful.program.module import Module
from tuneful.program.parameter import Tunable
from tuneful.program.predict import Predict
from tuneful.program.trace import current_recorder
from tuneful.sandbox.interpreter import Execution, Interpreter
from tuneful.sandbox.monty import MontyInterpreter
from tuneful.sandbox.variables import variables_of
from tuneful.spec.code import code_in
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.inputs import check_inputs
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature, ensure_signature
from tuneful.spec.trajectory import Trajectory

_WRITE = (
    "Do not work out the answer yourself: write a Python program that computes {outputs} from the inputs, and ends "
    "with a call of `submit`."
)
_MEND = "`previous_code` was written for this and did not do it. `error` says why. Write the whole program anew."
_ANSWER = "A program was run to find out: `code`, which printed `code_output`. Go by what it printed."


class ProgramOfThought(Module):
    r"""Reach the outputs of a signature by a program that the model writes, so that a computer does the computing.

    >>> from tuneful.testing import DummyLM
    >>> lm = DummyLM([{"code": "boxes = 17\nsubmit(answer=boxes * 24 - 5)"}])
    >>> solve = ProgramOfThought("question -> answer: int")
    >>> solve(question="17 boxes hold 24 pens each, and 5 are lost. How many are left?", lm=lm).answer
    403

    The program runs in a sandbox, with the inputs as variables. It gives the outputs by calling `submit`; they are
    checked by type. One that does not parse, raises, takes too long or submits something of a wrong type is shown to
    the model with the error, and written anew. One that only prints is followed by a further call, which reads the
    outputs from what was printed.

    Use it for arithmetic, dates, counting, sorting, simulation: what models are bad at and programs are not. Use
    `CodeAct` where code must look before it goes on, and `ChainOfThought` where there is nothing to compute.

    Args:
        signature: a string, a class signature, a typed function or a `Signature`.
        max_iters: most programs that are written for one answer.
        interpreter: where they run; `MontyInterpreter()` by default. Each run of the module gets a fresh one.
        config: sampling options, as for `Predict`.

    Returns (from a call): the outputs, and `trajectory`: each program, and what came of it.

    Raises:
        MissingExtraError: the default interpreter is not installed.
        UsageError: a signature that uses the names of this module's own fields.

    Cost: from 1 to `max_iters` calls, and 1 more where the program only printed.

    Source: Chen et al. (2022), "Program of Thoughts Prompting". Deviations: the program submits typed outputs instead
    of setting a variable; errors are mended, as in DSPy; no hand-written examples: demos come from a teleprompter.
    """

    def __init__(
        self, signature: Any, max_iters: int | Tunable = 3, interpreter: Interpreter | None = None, **config: Any
    ) -> None:
        super().__init__()
        self.max_iters: Any = max_iters if isinstance(max_iters, Tunable) else checked_steps(max_iters)
        self.signature = ensure_signature(signature)
        self.interpreter = MontyInterpreter() if interpreter is None else interpreter
        tools = self.interpreter.tools
        own = (SANDBOX, "code", "previous_code", "error", "code_output", "trajectory")
        refuse_names("ProgramOfThought", self.signature, own, tools)
        write = _writing(self.signature)
        mend = write.append("previous_code", InputField(desc="the program that failed"), code_in("python"))
        mend = mend.append("error", InputField(desc="what came of it"), str)
        mend = mend.with_instructions(f"{write.instructions}\n\n{_MEND}")
        answer = self.signature.append("code", InputField(desc="the program"), code_in("python"))
        answer = answer.append("code_output", InputField(desc="what it printed"), str)
        answer = answer.with_instructions(f"{self.signature.instructions}\n\n{_ANSWER}")
        self.code_generate = CodeWriter(with_sandbox(write, self.interpreter, tools.values(), self.signature), **config)
        self.code_regenerate = CodeWriter(
            with_sandbox(mend, self.interpreter, tools.values(), self.signature), **config
        )
        self.generate_output = Predict(answer, **config)

    async def forward(self, **inputs: Any) -> Prediction:
        """Write programs until one gives the outputs.

        Raises:
            InputError: the inputs do not fit. No model was called.
            CodeExecutionError: no program did, in `max_iters` attempts; it holds the trajectory and the trace.
            CodeInterpreterError: the sandbox broke.
            AdapterParseError, LMError, BudgetExceeded: from the models.
        """
        own = self.signature.input_fields
        options = {k: inputs.pop(k) for k in ("lm", "adapter", "config") if k in inputs and k not in own}
        given = check_inputs(self.signature, inputs, f"ProgramOfThought({str(self.signature)!r})")
        variables = variables_of(given)
        trajectory = Trajectory()
        failure: dict[str, Any] = {}
        async with self.interpreter.fresh(outputs=self.signature.output_fields) as interpreter:
            for _ in range(checked_steps(self.max_iters)):
                writer = self.code_regenerate if failure else self.code_generate
                code = (await writer.acall(**given, **failure, **options)).code
                outcome = await outcome_of(interpreter, code, variables)
                told = told_of(outcome, interpreter.max_output_chars)
                trajectory = trajectory.with_step(step_of(code, told))
                if isinstance(outcome, Execution) and outcome.submitted is not None:
                    return Prediction({**outcome.submitted, "trajectory": trajectory})
                if isinstance(outcome, Execution) and (outcome.printed or outcome.value is not None):
                    found = await self.generate_output.acall(**given, code=code, code_output=told, **options)
                    outputs = {name: found[name] for name in self.signature.output_fields}
                    return Prediction({**outputs, "trajectory": trajectory})
                failure = {"previous_code": code, "error": told}
                variables = {}
        recorder = current_recorder()
        raise CodeExecutionError(
            f"no program gave an answer, in {len(trajectory)} attempts. The last one ended so:\n{failure['error']}\n"
            "The error holds all of them: `error.trajectory`. Raise `max_iters`, take a more capable model, or an "
            "interpreter that has what they needed.",
            trajectory=trajectory,
            trace=recorder.trace if recorder else None,
        )


def _writing(signature: Signature) -> Signature:
    """Return the signature of whoever writes code for the outputs of another."""
    outputs = ", ".join(f"`{n}`" for n in signature.output_fields)
    write = signature.append("code", OutputField(desc="the program"), code_in("python"))
    for name in signature.output_fields:
        write = write.delete(name)
    return write.with_instructions(f"{signature.instructions}\n\n{_WRITE.format(outputs=outputs)}")
