"""What a type checker sees of the public API."""

import subprocess
import sys
import textwrap

SNIPPET = """
from typing import assert_type

import tuneful as tf


class QA(tf.Signature):
    question: str = tf.InputField()
    answer: int = tf.OutputField(ge=0)


class Program(tf.Module):
    def __init__(self) -> None:
        self.step = tf.Predict(QA)

    def forward(self, question: str) -> int:
        return self.step(question=question).answer


assert_type(tf.Predict(QA)(question="x").answer, int)
assert_type(tf.Predict("question -> answer")(question="x"), tf.Prediction)
rows = [tf.Example(question="x", answer=1).with_inputs("question")]
compiled = tf.BootstrapFewShot(metric=lambda e, p: True).compile(Program(), trainset=rows)
assert_type(compiled, Program)
assert_type(Program().load("x.json"), Program)
assert_type(tf.Evaluate(devset=rows, metric=lambda e, p: 1.0)(compiled).score, float)
"""


def test_results_are_typed_where_the_signature_is_a_class(tmp_path):
    (tmp_path / "snippet.py").write_text(textwrap.dedent(SNIPPET))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "snippet.py"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
