"""Law 2: stop anywhere, even by SIGKILL, and run again: same program, no call paid twice."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "bench" / "kill.py"


@pytest.fixture(scope="module")
def kill():
    spec = importlib.util.spec_from_file_location("bench_kill", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_killed_twenty_times_a_compile_ends_in_the_same_program_and_pays_for_nothing_twice(kill, tmp_path):
    found = kill.kill_and_restart(tmp_path, model="scripted", rows=40, kills=20)

    assert found.kills >= 15  # some may come when it has just finished
    assert found.same_program
    assert found.paid_twice == 0
    assert found.sent_again <= 4 * found.kills  # no more than was in flight


def test_without_a_cache_the_calls_of_unfinished_rollouts_are_kept_with_the_journal(kill, tmp_path, monkeypatch):
    monkeypatch.setenv("KILL_CACHE", "off")
    found = kill.kill_and_restart(tmp_path, model="scripted", rows=40, kills=5, seed=1)

    assert found.same_program
    assert found.paid_twice == 0


@pytest.mark.model
def test_killed_on_the_embedded_model_a_compile_ends_in_the_same_program(kill, tmp_path):
    found = kill.kill_and_restart(tmp_path, model="local/smollm2", rows=3, kills=2)

    assert found.same_program
    assert found.paid_twice == 0
