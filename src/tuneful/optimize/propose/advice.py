"""WriteAdvice: what to do otherwise, from a better and a worse run of a program on the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.optimize.propose.describe import cut, signature_text
from tuneful.optimize.propose.instructions import bare
from tuneful.optimize.propose.proposer import Proposer
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature

#: Name of the step of a program that is one predictor.
_ALONE = "program"


class Compare(Signature):
    """A program was run twice on the same inputs, and one run did better. Give advice, so that more runs do so well.

    Find the step at which the runs part, and what the better run did there that the worse one did not. Write for every
    step that can do better one short rule: in which situation to do what. A rule must help with other inputs like
    these; do not repeat the answer of this case, and do not mention the two runs, which nobody will see.
    Leave out the steps that did equally well.
    """

    steps: str = InputField(desc="the steps of the program: names, instructions and fields")
    program: str = InputField(desc="how the program calls its steps")
    inputs: str = InputField(desc="what the program was given")
    labels: str = InputField(desc="what is right here; the program does not see it")
    worse: str = InputField(desc="the worse run: what each step was given and wrote, and its score")
    better: str = InputField(desc="the better run")
    discussion: str = OutputField(desc="where the runs part, and why the better one did better")
    advice: dict[str, str] = OutputField(desc="one rule for each step that can do better, by the step's name")


class WriteAdvice(Proposer):
    """Write a rule for each step that a better run of a program did better than a worse one.

    >>> from tuneful.testing import DummyLM
    >>> said = {"discussion": "It guessed.", "advice": {"program": "Count the letters one by one."}}
    >>> write = WriteAdvice().using(lm=DummyLM([said]))
    >>> write(steps="program: word -> length", worse="length: 4", better="length: 5").advice
    {'program': 'Count the letters one by one.'}

    Args:
        temperature: of the predictor.

    Cost: 1 call for each run.

    Source: the rules of DSPy's SIMBA, which has no paper.
    """

    _drivable = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(Compare, temperature, cuttable=("steps", "program", "inputs", "labels", "worse", "better"))

    async def forward(
        self, steps: str, worse: str, better: str, program: str = "", inputs: str = "", labels: str = ""
    ) -> Prediction:
        """Write.

        Args:
            steps: see `steps_text`.
            worse, better: see `run_text`.
            program: its outline; see `describe.program_text`.
            inputs: what it was given.
            labels: what is right.
        """
        said = await self._ask(steps=steps, program=program, inputs=inputs, labels=labels, worse=worse, better=better)
        rules = {name.strip(): bare(text) for name, text in said.advice.items()}
        return Prediction({"advice": {name: text for name, text in rules.items() if text}})


def steps_text(signatures: Mapping[str, Signature]) -> str:
    """Return the steps of a program, by path: names, instructions and fields.

    >>> print(steps_text({"": Signature("question -> answer", "Be brief.")}))
    Step program
    Instructions: Be brief.
    Given:
    - question: str
    To write:
    - answer: str
    """
    return "\n\n".join(f"Step {path or _ALONE}\n{signature_text(s)}" for path, s in signatures.items())


def run_text(run: Mapping[str, Any]) -> str:
    """Return a run: what each step was given and wrote, in order, and what the metric says.

    >>> step = {"path": "", "inputs": {"question": "1+1?"}, "outputs": {"answer": "3"}}
    >>> print(run_text({"steps": [step], "score": 0.0, "feedback": "too high"}))
    Step program
      given question: 1+1?
      wrote answer: 3
    Score 0: too high

    Args:
        run: `steps`, `score`, and perhaps `feedback` and the `error` that ended it.
    """
    lines = [line for step in run["steps"] for line in _step_lines(step)]
    if run.get("error"):
        lines.append(f"It failed: {cut(str(run['error']).strip().splitlines()[-1])}")
    said = f": {cut(run['feedback'])}" if run.get("feedback") else ""
    return "\n".join([*lines, f"Score {run['score']:.3g}{said}"])


def rules_of(advice: Mapping[str, str], paths: Iterable[str]) -> dict[str, str]:
    """Return the rule for each predictor that is advised, by its path; advice for no known step is left out.

    Of a program with one predictor, whatever is said is meant for it.

    >>> rules_of({"the answer": "Be brief."}, [""])
    {'': 'Be brief.'}
    >>> rules_of({"answer": "Be brief.", "searching": "Be quick."}, ["search", "answer"])
    {'answer': 'Be brief.'}
    """
    known = list(paths)
    if len(known) == 1:
        together = "\n".join(advice.values())
        return {known[0]: together} if together else {}
    return {path: advice[path or _ALONE] for path in known if advice.get(path or _ALONE)}


def _step_lines(step: Mapping[str, Any]) -> list[str]:
    given = [f"  given {name}: {cut(value)}" for name, value in step["inputs"].items()]
    wrote = [f"  wrote {name}: {cut(value)}" for name, value in step["outputs"].items()]
    return [f"Step {step['path'] or _ALONE}", *given, *(wrote or ["  wrote nothing that could be read"])]
