"""Regret against calls on simulated landscapes: how far what a search finds is from the best that there is.

    python bench/regret.py [--runs 20] [--budgets 300,900] [--landscapes demos,nothing] [--recipes Tune,GEPA]

The model is simulated (testing.SimulatedLM), so the true quality of a program is known: its chance of a right answer,
without noise. `returned` is the regret of what `compile` returned, `preferred` that of the candidate that the search
put forward, before the comparison decided; both are in points below the best program, as means over the runs with 95 %
intervals (Student's t). `calls` are those really made; a budget counts all of them: rollouts, proposals, and the
comparison. `kept` is how often the original was returned. 160 rows; half of them are held out, but for RandomDemos
(random_demos.py), which knows no comparison and searches on all.

- demos: any demo helps by 10 points, single ones by more or less; at most 75 %
- instructions: a phrase that one of three proposals has helps by 20 points
- number: one value of a number of the program helps by 20 points
- together: demos and the phrase help by 25 points together, and not at all alone
- noise: demos and the phrase help by 10 points each, and every answer is a new throw of the dice
- nothing: nothing helps
"""

import argparse
import sys
from dataclasses import dataclass
from statistics import fmean

import tuneful as tf
from compiles import interval, words
from laws import HELPS, exact, written
from random_demos import RandomDemos
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

_ROWS, _DEMOS, _NUMBER = 160, 8, 5


class Numbered(tf.Module):
    """A program with a number; its default is not the one that helps."""

    def __init__(self):
        self.k = tf.Choice([1, 3, _NUMBER, 8], default=1)
        self.answer = tf.Predict("question, k: int -> answer")

    async def forward(self, question):
        return await self.answer.acall(question=question, k=self.k)


class Together(Landscape):
    """Demos and the phrase gain something together only."""

    def chance(self, system, demos=(), misled=0):
        return super().chance(system, demos, misled) + (0.25 if demos and HELPS in system else 0.0)


@dataclass(frozen=True)
class Case:
    """A landscape by seed, the quality of the best program, and the program."""

    landscape: object
    best: float
    program: object = tf.Predict
    loss: float = 0.0  # of a number other than the one that helps

    def student(self):
        return self.program() if self.program is Numbered else self.program("question -> answer")

    def regret(self, lm, program):
        """Return how many points a program is below the best."""
        lost = self.loss if isinstance(program, Numbered) and program.k != _NUMBER else 0.0
        return 100 * (self.best - lm.quality(program) + lost)


def _landscape(kind=Landscape, **values):
    return lambda seed: kind(seed=seed, **values)


CASES = {
    "demos": Case(_landscape(base=0.45, any_demo=0.1, demo_spread=0.03, most=0.75), 0.75),
    "instructions": Case(_landscape(base=0.5, instructions={HELPS: 0.2}), 0.7),
    "number": Case(_landscape(base=0.7, misled=0.2), 0.7, Numbered, 0.2),
    "together": Case(_landscape(Together, base=0.5), 0.75),
    "noise": Case(_landscape(base=0.5, any_demo=0.1, instructions={HELPS: 0.1}, difficulty=0.0), 0.7),
    "nothing": Case(_landscape(base=0.5, difficulty=0.2), 0.5),
}


def teleprompters():
    """Return them by name: default arguments, and as many demos for all."""
    writer, demos = ScriptedLM(written), {"max_labeled_demos": _DEMOS}
    return {
        "RandomDemos": lambda: RandomDemos(exact, _DEMOS),
        "BootstrapRS": lambda: tf.BootstrapRS(exact, **demos),
        "MIPROv2": lambda: tf.MIPROv2(exact, writer, **demos),
        "GEPA": lambda: tf.GEPA(exact, reflection_lm=writer, auto="light"),
        "Tune": lambda: tf.Tune(exact, prompt_model=writer, adapters=(), embedder=None, **demos),
    }


def rows():
    """Return rows that know the number that helps: a simulated model takes another one for a mistake."""
    known = [tf.Example(question=f"q{i}", answer=f"a{i}", k=_NUMBER) for i in range(_ROWS)]
    return [row.with_inputs("question") for row in known]


def run(case, make, budget, seed):
    """Return the regret of what was returned and of what was preferred, the calls, and whether the original stayed."""
    data, student, teleprompter = rows(), case.student(), make()
    lm = SimulatedLM(data, case.landscape(seed))
    with tf.context(lm=lm, num_threads=64, adapter="chat"), tf.track_usage() as meter:
        limit = tf.Budget(calls=budget)
        if isinstance(teleprompter, RandomDemos):
            program = teleprompter.best(student, data, budget=limit, seed=seed)
            preferred, kept = program, False
        else:
            program = teleprompter.compile(student, trainset=data, budget=limit, seed=seed)
            preferred, kept = student.with_parameters(program.report.candidate), not program.report.improved
    return case.regret(lm, program), case.regret(lm, preferred), meter.usage.calls, kept


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=20)
    asked.add_argument("--budgets", default="300,900", help="calls, by comma")
    asked.add_argument("--landscapes", default=",".join(CASES))
    asked.add_argument("--recipes", default=",".join(teleprompters()))
    given = asked.parse_args()
    print(f"{given.runs} runs; points below the best\n")
    print(
        "| landscape | original | budget | | returned | preferred | calls | kept % |\n|---|--:|--:|---|--:|--:|--:|--:|"
    )
    for name in words(given.landscapes):
        case = CASES[name]
        first = case.regret(SimulatedLM(rows(), case.landscape(0)), case.student())
        for budget in map(int, words(given.budgets)):
            for recipe in words(given.recipes):
                found = [run(case, teleprompters()[recipe], budget, seed) for seed in range(given.runs)]
                returned, preferred, calls, kept = zip(*found, strict=True)
                print(f"| {name} | {first:.0f} | {budget} | {recipe} | {interval(returned)} | {interval(preferred)} "
                      f"| {fmean(calls):.0f} | {100 * fmean(kept):.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
