"""Word problems by programs: the model writes one, a sandbox runs it.

The small model at hand cannot play the writer, so its answers are given here; with a capable one, configure that.
"""

import tuneful as tf
from tuneful.testing import DummyLM


class WordProblem(tf.Signature):
    """Solve the problem."""

    problem: str = tf.InputField()
    answer: float = tf.OutputField(ge=0)


PROBLEMS = {
    "17 boxes hold 24 pens each. 5 pens are lost, and the rest is shared by 13 pupils. How many does each get?": 31,
    "A sum of 1,200 euros grows by 3.5 % a year. How much is it after 12 years, to the cent?": 1813.28,
    "How many of the numbers from 1 to 1,000 can be divided by 7 or by 11, and not by both?": 208,
}

# What the model writes, call after call. The second program fails at first, and is written anew with its error in view.
MODEL = DummyLM(
    [
        {"code": "pens = 17 * 24 - 5\nsubmit(answer=pens // 13)"},
        {"code": "total = 1200 * (1 + rate) ** 12\nsubmit(answer=round(total, 2))"},
        {"code": "rate = 0.035\ntotal = 1200 * (1 + rate) ** 12\nsubmit(answer=round(total, 2))"},
        {"code": "submit(answer=sum((n % 7 == 0) != (n % 11 == 0) for n in range(1, 1001)))"},
    ]
)

tf.configure(lm=MODEL)

solve = tf.ProgramOfThought(WordProblem, interpreter=tf.MontyInterpreter(timeout_s=2))
for problem, right in PROBLEMS.items():
    found = solve(problem=problem)
    print(problem)
    print(found.trajectory)
    verdict = "right" if found.answer == right else f"wrong: {right}"
    print(f"= {found.answer:g} ({verdict}, {found.trace.usage.calls} calls)\n")
