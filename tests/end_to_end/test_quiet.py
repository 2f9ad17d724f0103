"""Ordinary operation prints nothing; whoever wants to hear of it asks Python's logging."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "tuneful"

PROGRAM = """
import logging
import tuneful as tf
from tuneful.testing import ScriptedLM

{setup}

answers = iter([tf.LMServerError("busy", retry_after_s=0.0), *["[[ ## answer ## ]] yes"] * 500])
tf.configure(cache=False, lm=ScriptedLM(lambda request: next(answers), num_retries=1))
rows = [tf.Example(question=str(i), answer="yes").with_inputs("question") for i in range(16)]
program = tf.Predict("question -> answer")
tf.Evaluate(devset=rows, metric=tf.metrics.answer_exact_match)(program)
tf.BootstrapFewShot(metric=tf.metrics.answer_exact_match).compile(program, trainset=rows[:8], valset=rows[8:])
"""


def run(folder, setup=""):
    code = textwrap.dedent(PROGRAM).format(setup=setup)
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_a_run_with_a_retry_and_a_compile_prints_nothing(tmp_path):
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pythons_logging_shows_what_goes_on(tmp_path):
    done = run(tmp_path, 'logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO)')
    assert done.returncode == 0
    assert "INFO tuneful.backends.retried attempt 1 of scripted#scripted failed (LMServerError)" in done.stderr
    assert "INFO tuneful.optimize.loop search: " in done.stderr
    assert "WARNING" not in done.stderr


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_loggers_are_named_after_their_modules_and_have_no_handlers(path):
    if path.parent.name in ("demo", "cli"):
        return  # they talk to a person
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("logging.basicConfig", "print")
            assert not called.endswith(".addHandler")
            if called == "logging.getLogger":
                assert [ast.unparse(a) for a in node.args] == ["__name__"]
